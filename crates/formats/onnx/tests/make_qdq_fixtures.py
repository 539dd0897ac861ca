"""Makes fixtures/qdq/*.onnx: a small convolutional network of which onnxruntime's static quantizer has quantized the convolutions,
with int8 weights (one scale for each channel) and with uint8 weights; the dense layers keep their floats."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

HERE = Path(__file__).parent / "fixtures" / "qdq"
RNG = np.random.default_rng(8)


def values(name, *shape):
    fan = np.prod(shape[1:]) if len(shape) > 1 else 1
    return numpy_helper.from_array((RNG.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), name)


def network():
    weights = [values("c1", 4, 1, 3, 3), values("cb1", 4), values("c2", 8, 4, 3, 3), values("cb2", 8)]
    weights += [values("f1", 32, 128), values("fb1", 32), values("f2", 10, 32)]
    nodes = [
        helper.make_node("Conv", ["x", "c1", "cb1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("MaxPool", ["b"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "c2", "cb2"], ["c"], name="conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("Flatten", ["d"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "f1", "fb1"], ["g"], name="fc1", transB=1),
        helper.make_node("Relu", ["g"], ["h"], name="relu3"),
        helper.make_node("Gemm", ["h", "f2"], ["y"], name="fc2", transB=1),
    ]
    x = helper.make_tensor_value_info("x", T.FLOAT, [1, 1, 8, 8])
    y = helper.make_tensor_value_info("y", T.FLOAT, [1, 10])
    graph = helper.make_graph(nodes, "net", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Inputs(CalibrationDataReader):
    def __init__(self):
        self.left = iter(np.random.default_rng(1).standard_normal((16, 1, 1, 8, 8)).astype(np.float32))

    def get_next(self):
        image = next(self.left, None)
        return None if image is None else {"x": image}


def main():
    HERE.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "float.onnx"
        onnx.save(network(), path)
        for name, kind, channels in (("int8", QuantType.QInt8, True), ("uint8", QuantType.QUInt8, False)):
            quantize_static(
                str(path),
                str(HERE / f"{name}.onnx"),
                Inputs(),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MaxPool"],
                per_channel=channels,
                activation_type=QuantType.QUInt8,
                weight_type=kind,
            )
            model = onnx.load(HERE / f"{name}.onnx")
            print(name, [(n.op_type, list(n.input), n.attribute) for n in model.graph.node][:3])
            print([(t.name, t.data_type, list(t.dims)) for t in model.graph.initializer])


main()
