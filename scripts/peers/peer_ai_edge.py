"""AI Edge Quantizer: TensorFlow Lite files, run by LiteRT, since no other runtime has its operators."""

import numpy as np

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "AI Edge Quantizer", "edge", ["ai-edge-quantizer", "ai-edge-litert"], True


def setting(name, bits, algorithm):
    return {"name": name, "bits": bits, "algorithm": algorithm}


SETTINGS = [
    setting("int8, channel", 8, "MIN_MAX_UNIFORM_QUANT"),
    setting("int4, channel", 4, "MIN_MAX_UNIFORM_QUANT"),
    setting("int4, channel, OCTAV", 4, "OCTAV"),
    setting("int4, channel, MSE", 4, "MSE"),
]


def runner(path, threads):
    """A function from inputs [N, C, H, W] to outputs [N, classes]."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    to, found = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def outputs(inputs):
        rows = []
        for image in inputs:
            x = image[None].astype(np.float32)
            interpreter.set_tensor(to["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x)
            interpreter.invoke()
            rows.append(interpreter.get_tensor(found["index"]).ravel().copy())
        return np.stack(rows)

    return outputs


def run(setting, job):
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    source, small = job.shared / "float.tflite", job.folder / "small.tflite"
    with job.clock:
        tool = quantizer.Quantizer(str(source))
        tool.add_weight_only_config(
            regex=".*",
            operation_name=TFLOperationName.ALL_SUPPORTED,
            num_bits=setting["bits"],
            algorithm_key=getattr(AlgorithmName, setting["algorithm"]),
        )
        tool.quantize().export_model(str(small), overwrite=True)
    return {
        "artefact": [small],
        "outputs": runner(small, job.threads),
        "float_outputs": runner(source, job.threads),
        "note": "run by LiteRT",
    }
