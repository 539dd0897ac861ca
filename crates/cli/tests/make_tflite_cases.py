"""Makes small ONNX networks that cover the operators and paddings which .tflite files are written with, each with an .npz of inputs.

usage: make_tflite_cases.py FOLDER
"""

import os
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(7)


def save(name, nodes, weights, shape, rank=4, opset=13):
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * rank)]
    constants = [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, os.path.join(sys.argv[1], f"{name}.onnx"))
    extents = [d if isinstance(d, int) else 1 for d in shape]
    # Inputs to calibrate on; drawn apart, so that weights stay what they are.
    samples = np.random.default_rng(8).standard_normal([32 * extents[0], *extents[1:]])
    np.savez(os.path.join(sys.argv[1], f"{name}.npz"), x=samples.astype(np.float32))


def floats(*shape):
    return random.standard_normal(shape).astype(np.float32)


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs, [output], name=output, **attributes)


def conv(name, shape, weight, **attributes):
    save(name, [node("Conv", ["x", "w", "b"], **attributes)], {"w": floats(*weight), "b": floats(weight[0])}, shape)


conv("conv-stride", ["N", 3, 12, 14], (8, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
conv("conv-odd", ["N", 3, 13, 11], (8, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
conv("conv-asymmetric", ["N", 3, 12, 12], (8, 3, 3, 5), pads=[0, 3, 2, 1])
conv("conv-dilated", ["N", 3, 15, 15], (8, 3, 3, 3), dilations=[2, 2], pads=[2, 2, 2, 2])
conv("conv-groups", ["N", 8, 9, 9], (12, 2, 3, 3), group=4, pads=[1, 1, 1, 1])
conv("conv-multiplier", ["N", 4, 9, 9], (12, 1, 3, 3), group=4, pads=[1, 1, 1, 1])
conv("conv-same-lower", ["N", 3, 12, 12], (8, 3, 3, 3), strides=[2, 2], auto_pad="SAME_LOWER")

for name, op, attributes in [
    ("pool-max", "MaxPool", dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    ("pool-max-ceil", "MaxPool", dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    ("pool-mean", "AveragePool", dict(kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])),
    ("pool-mean-same", "AveragePool", dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1])),
    ("pool-mean-padding", "AveragePool", dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)),
    ("pool-mean-ceil", "AveragePool", dict(kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    ("pool-global-max", "GlobalMaxPool", {}),
]:
    save(name, [node(op, ["x"], **attributes)], {}, ["N", 5, 12, 12])

save("layout", [
    node("Conv", ["x", "w"], "a", pads=[1, 1, 1, 1]),
    node("Transpose", ["a"], "b", perm=[0, 1, 3, 2]),
    node("Slice", ["b", "from", "to", "axes", "steps"], "c"),
    node("Pad", ["c", "pads", "fill"], "d"),
    node("Concat", ["d", "d"], "e", axis=1),
    node("Reshape", ["e", "shape"], "f"),
    node("Transpose", ["f"], "g", perm=[0, 2, 1]),
    node("Reshape", ["g", "image"], "h"),
    node("Softmax", ["h"], axis=1),
], {
    "w": floats(4, 3, 3, 3), "from": [0, 1], "to": [2**31 - 1, 8], "axes": [2, 3], "steps": [2, 3],
    "pads": [0, 1, 0, 1, 0, 1, 2, 0], "fill": np.float32(0.5), "shape": [0, 12, -1], "image": [0, -1, 4, 3],
}, ["N", 3, 8, 8])

save("arithmetic", [
    node("Relu", ["x"], "a"),
    node("Mul", ["a", "scale"], "b"),
    node("Sub", ["one", "b"], "c"),
    node("BatchNormalization", ["c", "g", "be", "m", "v"], "d"),
    node("Sigmoid", ["d"], "e"),
    node("Clip", ["e", "low", "high"], "f"),
    node("GlobalAveragePool", ["f"], "p"),
    node("Mul", ["f", "p"], "h"),
    node("Tanh", ["h"], "i"),
    node("Add", ["i", "map"], "j"),
    node("LeakyRelu", ["j"], "k", alpha=0.1),
    node("ReduceMean", ["k"], "l", axes=[2, 3], keepdims=0),
    node("LogSoftmax", ["l"], axis=1),
], {
    "scale": floats(4, 1, 1), "one": np.float32(1), "g": floats(4), "be": floats(4), "m": floats(4),
    "v": np.abs(floats(4)) + 0.5, "low": np.float32(0.2), "high": np.float32(0.8), "map": floats(1, 1, 6, 7),
}, ["N", 4, 6, 7], rank=2)

save("dense", [
    node("Conv", ["x", "w"], "a"),
    node("Identity", ["a"], "b"),
    node("Flatten", ["b"], "c"),
    node("Relu", ["c"], "d"),
    node("MatMul", ["d", "m"], "e"),
    node("Add", ["e", "bias"], "f"),
    node("Gemm", ["f", "g", "h"], alpha=0.5, beta=2.0),
], {"w": floats(4, 2, 3, 3), "m": floats(4 * 5 * 6, 9), "bias": floats(9), "g": floats(9, 5), "h": floats(1, 5)},
    ["N", 2, 7, 8], rank=2)

save("dense-and-image", [
    node("Conv", ["x", "w"], "a"),
    node("Flatten", ["a"], "c"),
    node("Gemm", ["c", "m"], "e", transB=1),
    node("ReduceMean", ["c"], "f", axes=[1], keepdims=1),
    node("Add", ["e", "f"], "s"),
    node("Reshape", ["s", "shape"]),
], {"w": floats(4, 2, 3, 3), "m": floats(12, 4 * 5 * 6), "shape": [1, 3, 2, 2]}, [1, 2, 7, 8])
