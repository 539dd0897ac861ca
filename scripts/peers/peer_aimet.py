"""AIMET for ONNX: AdaRound and sequential MSE, weights alone, written as ONNX with DequantizeLinear."""

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "AIMET", "aimet", ["aimet-onnx", "onnxruntime"], True


def setting(name, bits, method, images=128, **arguments):
    return {"name": name, "bits": bits, "method": method, "images": images, "arguments": arguments}


SETTINGS = [
    setting("int4, sequential MSE", 4, "seq_mse", images=32),
    setting("int8, nearest", 8, "nearest"),
    setting("int4, nearest", 4, "nearest"),
    setting("int4, AdaRound, 500 iterations", 4, "adaround", num_iterations=500),
]


def run(setting, job):
    import aimet_onnx
    import numpy as np
    import onnx
    from aimet_onnx.batch_norm_fold import fold_all_batch_norms_to_weight
    from aimet_onnx.cross_layer_equalization import equalize_model

    model = onnx.load(job.network)
    name = model.graph.input[0].name
    images = np.array(job.calibration(setting["images"]))
    batches = [{name: images[i : i + 16]} for i in range(0, len(images), 16)]
    with job.clock:
        fold_all_batch_norms_to_weight(model)
        equalize_model(model)
        kind = {4: aimet_onnx.int4, 8: aimet_onnx.int8}[setting["bits"]]
        sim = aimet_onnx.QuantizationSimModel(model, param_type=kind, activation_type=aimet_onnx.int16, dummy_input=batches[0])
        for activation in sim.activation_names:  # weights alone
            sim.qc_quantize_op_dict[activation].enabled = False
        if setting["method"] == "seq_mse":
            aimet_onnx.apply_seq_mse(sim, batches)
        sim.compute_encodings(batches[:1])
        if setting["method"] == "adaround":
            aimet_onnx.apply_adaround(sim, batches, **setting["arguments"])
    small = job.folder / "small.onnx"
    onnx.save(sim.to_onnx_qdq(prequantize_constants=True), small)
    return {"artefact": [small], "network": small}
