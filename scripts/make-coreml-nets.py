#!/usr/bin/env python3
"""Small networks with random weights that reach the corners of what slq writes as Core ML packages; see check-coreml.py.

    python scripts/make-coreml-nets.py FOLDER
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(7)


def save(folder, name, nodes, inputs, outputs, weights, opset=17):
    info = lambda n, s, t=TensorProto.FLOAT: helper.make_tensor_value_info(n, t, s)
    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    graph = helper.make_graph(nodes, name, [info(*i) for i in inputs], [info(*o) for o in outputs], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / f"{name}.onnx")


def floats(*shape):
    return random.standard_normal(shape).astype(np.float32) / 2


def windows(folder):
    """Convolutions and pools whose padding differs on every side, rounding up, grouped and dilated kernels."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["a"], pads=[0, 1, 2, 3], strides=[2, 1], dilations=[1, 2], group=2),
        node("Relu", ["a"], ["b"]),
        node("MaxPool", ["b"], ["c"], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1),
        node("AveragePool", ["b"], ["d"], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1),
        node("AveragePool", ["b"], ["e"], kernel_shape=[3, 2], strides=[2, 3], pads=[1, 0, 0, 1], ceil_mode=1, count_include_pad=1),
        node("Concat", ["c", "d", "e"], ["f"], axis=1),
        node("Conv", ["f", "w2"], ["g"], auto_pad="SAME_LOWER", strides=[2, 2], group=24),
        node("LRN", ["g"], ["h"], size=5, alpha=0.3, beta=0.75, bias=2.0),
        node("BatchNormalization", ["h", "s", "t", "m", "v"], ["i"]),
        node("ConvTranspose", ["i", "w3"], ["j"], strides=[2, 2], pads=[1, 0, 0, 1], group=2),
        node("PRelu", ["j", "slope"], ["k"]),
        node("GlobalMaxPool", ["k"], ["l"]),
        node("Flatten", ["l"], ["y"]),
    ]
    weights = {
        "w1": floats(8, 2, 3, 3), "b1": floats(8), "w2": floats(24, 1, 3, 3), "s": floats(24), "t": floats(24), "m": floats(24),
        "v": np.abs(floats(24)) + 0.5, "w3": floats(24, 5, 3, 3), "slope": floats(10, 1, 1),
    }
    save(folder, "windows", nodes, [("x", ["N", 4, 19, 17])], [("y", ["N", 10])], weights)


def shapes(folder):
    """Slices with steps, crops, padding, splits, transposes, broadcasting, functions of elements."""
    node, i64 = helper.make_node, lambda *v: np.array(v, np.int64)
    nodes = [
        node("Slice", ["x", "start", "end", "axes", "steps"], ["a"]),
        node("Pad", ["a", "pads"], ["b"], mode="constant"),
        node("Pad", ["b", "mirror"], ["c"], mode="reflect"),
        node("Split", ["c"], ["d", "e"], axis=1),
        node("Sigmoid", ["d"], ["f"]),
        node("Elu", ["e"], ["g"], alpha=0.7),
        node("Sub", ["f", "g"], ["h"]),
        node("HardSwish", ["h"], ["i"]),
        node("Transpose", ["i"], ["j"], perm=[0, 2, 3, 1]),
        node("Reshape", ["j", "flat"], ["k"]),
        node("MatMul", ["k", "w"], ["l"]),
        node("Softplus", ["l"], ["m"]),
        node("LogSoftmax", ["m"], ["n"], axis=1),
        node("Clip", ["n", "low"], ["o"]),
        node("Expand", ["o", "wide"], ["p"]),
        node("ReduceMean", ["p"], ["q"], axes=[0], keepdims=0),
        node("Gemm", ["q", "v", "c2"], ["r"], alpha=0.5, beta=2.0, transA=1),
        node("LeakyRelu", ["r"], ["y"], alpha=0.2),
    ]
    weights = {
        "start": i64(-1, 1), "end": i64(-100, 100), "axes": i64(2, 3), "steps": i64(-2, 2), "pads": i64(0, 1, -1, 0, 0, 1, 0, 2),
        "mirror": i64(0, 0, 1, 2, 0, 0, 0, 1), "flat": i64(5, -1), "low": np.float32(-3.0), "wide": i64(2, 5, 6),
    }
    # Sizes: x [1, 6, 9, 11] -> a [1, 6, 5, 5] -> b [1, 8, 4, 7] -> c [1, 8, 5, 10] -> halves [1, 4, 5, 10] -> k [5, 40].
    weights |= {"w": floats(40, 6), "v": floats(5, 7), "c2": floats(7)}
    save(folder, "shapes", nodes, [("x", [1, 6, 9, 11])], [("y", [6, 7])], weights)


def transformer(folder):
    """One encoder layer: embedding, attention by batched products, layer norm, Gelu by Erf, class token."""
    node, i64 = helper.make_node, lambda *v: np.array(v, np.int64)
    d, heads, length = 32, 4, 12
    nodes = [node("Gather", ["table", "ids"], ["e"]), node("Add", ["e", "places"], ["x"])]
    for name in "qkv":
        nodes += [
            node("MatMul", ["x", f"w{name}"], [f"{name}0"]),
            node("Add", [f"{name}0", f"b{name}"], [f"{name}1"]),
            node("Reshape", [f"{name}1", "split"], [f"{name}2"]),
            node("Transpose", [f"{name}2"], [name], perm=[0, 2, 3, 1] if name == "k" else [0, 2, 1, 3]),
        ]
    nodes += [
        node("MatMul", ["q", "k"], ["scores"]),
        node("Div", ["scores", "root"], ["scaled"]),
        node("Softmax", ["scaled"], ["attention"], axis=-1),
        node("MatMul", ["attention", "v"], ["mixed"]),
        node("Transpose", ["mixed"], ["joined0"], perm=[0, 2, 1, 3]),
        node("Reshape", ["joined0", "join"], ["joined"]),
        node("MatMul", ["joined", "wo"], ["o"]),
        node("Add", ["o", "x"], ["r"]),
        node("LayerNormalization", ["r", "scale", "shift"], ["n"], axis=-1, epsilon=1e-6),
        node("MatMul", ["n", "w1"], ["h"]),
        node("Div", ["h", "sqrt2"], ["g0"]),
        node("Erf", ["g0"], ["g1"]),
        node("Add", ["g1", "one"], ["g2"]),
        node("Mul", ["h", "g2"], ["g3"]),
        node("Mul", ["g3", "half"], ["g"]),
        node("MatMul", ["g", "w2"], ["f"]),
        node("Add", ["f", "n"], ["out"]),
        node("Gather", ["out", "first"], ["cls"], axis=1),
        node("Tanh", ["cls"], ["y"]),
    ]
    weights = {
        "table": floats(50, d), "places": floats(length, d), "split": i64(0, length, heads, d // heads), "join": i64(0, length, d),
        "root": np.float32(np.sqrt(d / heads)), "scale": floats(d), "shift": floats(d), "w1": floats(d, 4 * d), "w2": floats(4 * d, d),
        "wo": floats(d, d), "sqrt2": np.float32(np.sqrt(2)), "one": np.float32(1), "half": np.float32(0.5), "first": np.int64(0),
    }
    weights |= {f"w{n}": floats(d, d) for n in "qkv"} | {f"b{n}": floats(d) for n in "qkv"}
    save(folder, "transformer", nodes, [("ids", ["N", length], TensorProto.INT64)], [("y", ["N", d])], weights)


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for make in (windows, shapes, transformer):
        make(target)
