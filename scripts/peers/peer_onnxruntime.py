"""onnxruntime: static 8-bit quantization to QDQ, and its block quantizer of dense layers."""

TITLE, ENVIRONMENT, PACKAGES, USES_INPUTS = "onnxruntime", "common", ["onnxruntime"], True


def setting(name, kind, images=128, **arguments):
    return {"name": name, "kind": kind, "images": images, "arguments": arguments}


SETTINGS = [
    setting("static int8, channel", "static", per_channel=True),
    setting("static int8, tensor", "static", per_channel=False),
    setting("static int8, channel, entropy", "static", per_channel=True, calibrate="Entropy"),
    setting("blocks of 32, 4 bits", "blocks"),
]


def run(setting, job):
    small = job.folder / "small.onnx"
    (static if setting["kind"] == "static" else blocks)(setting, job, small)
    return {"artefact": [small], "network": small}


def static(setting, job, small):
    import onnxruntime
    from onnxruntime import quantization as q
    from onnxruntime.quantization.shape_inference import quant_pre_process

    images = job.calibration(setting["images"])
    name = onnxruntime.InferenceSession(str(job.network)).get_inputs()[0].name

    class Reader(q.CalibrationDataReader):
        def __init__(self):
            self.batches = iter({name: images[i : i + 16].copy()} for i in range(0, len(images), 16))

        def get_next(self):
            return next(self.batches, None)

    arguments = dict(setting["arguments"])
    method = getattr(q.CalibrationMethod, arguments.pop("calibrate", "MinMax"))
    prepared = job.folder / "prepared.onnx"
    with job.clock:
        quant_pre_process(str(job.network), str(prepared))
        q.quantize_static(
            str(prepared),
            str(small),
            Reader(),
            quant_format=q.QuantFormat.QDQ,
            activation_type=q.QuantType.QUInt8,
            weight_type=q.QuantType.QInt8,
            calibrate_method=method,
            **arguments,
        )


def blocks(setting, job, small):
    """MatMulNBits holds MatMul alone, so Gemm with one transposed constant becomes MatMul and Add first."""
    import onnx
    from onnx import helper, numpy_helper
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(job.network)
    values = {i.name: i for i in model.graph.initializer}
    for at, node in reversed(list(enumerate(model.graph.node))):
        if node.op_type == "Gemm":
            flags = {a.name: a.i for a in node.attribute}
            if flags.get("transB"):
                weight = values[node.input[1]]
                weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).T.copy(), weight.name))
            product = helper.make_node("MatMul", node.input[:2], [node.output[0] + ".product"], name=f"matmul{at}")
            bias = helper.make_node("Add", [product.output[0], node.input[2]], list(node.output), name=f"add{at}")
            model.graph.node.remove(node)
            model.graph.node.insert(at, bias)
            model.graph.node.insert(at, product)
    with job.clock:
        quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32, is_symmetric=True)
        quantizer.process()
    quantizer.model.save_model_to_file(str(small))
