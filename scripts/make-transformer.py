#!/usr/bin/env python3
"""Writes a small transformer encoder with random weights as an ONNX file, without PyTorch.

    python scripts/make-transformer.py OUT [--width 512] [--layers 4] [--tokens 32]

Each layer has attention with heads of 64, a feed-forward part of four times the width, and layer normalizations behind residual
connections. Input `x` is [batch, tokens, width]. Needs: pip install onnx numpy
"""
import argparse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def encoder(width, layers, tokens):
    random = np.random.default_rng(0)
    heads, nodes, constants = width // 64, [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(op, inputs, output, **attributes):
        nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def dense(x, name, inputs, outputs):
        weight = random.standard_normal((inputs, outputs)).astype(np.float32) / np.float32(np.sqrt(inputs))
        product = node("MatMul", [x, constant(f"{name}.weight", weight)], f"{name}.product")
        bias = constant(f"{name}.bias", (0.02 * random.standard_normal(outputs)).astype(np.float32))
        return node("Add", [product, bias], name)

    def norm(x, name):
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        parameters = [constant(f"{name}.scale", ones), constant(f"{name}.bias", zeros)]
        return node("LayerNormalization", [x, *parameters], name, axis=-1)

    split = constant("split", np.array([-1, tokens, heads, 64], np.int64))
    joined = constant("joined", np.array([-1, tokens, width], np.int64))
    scale = constant("scale", np.float32(1 / 8))
    x = "x"
    for i in range(layers):
        parts = {}
        for part in ("q", "k", "v"):
            y = node("Reshape", [dense(x, f"l{i}.{part}", width, width), split], f"l{i}.{part}.split")
            order = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
            parts[part] = node("Transpose", [y], f"l{i}.{part}.heads", perm=order)
        scores = node("MatMul", [parts["q"], parts["k"]], f"l{i}.products")
        scores = node("Softmax", [node("Mul", [scores, scale], f"l{i}.scores")], f"l{i}.weights", axis=-1)
        y = node("Transpose", [node("MatMul", [scores, parts["v"]], f"l{i}.mixed")], f"l{i}.turned", perm=[0, 2, 1, 3])
        y = dense(node("Reshape", [y, joined], f"l{i}.joined"), f"l{i}.out", width, width)
        x = norm(node("Add", [x, y], f"l{i}.sum"), f"l{i}.norm")
        y = node("Relu", [dense(x, f"l{i}.up", width, 4 * width)], f"l{i}.relu")
        x = norm(node("Add", [x, dense(y, f"l{i}.down", 4 * width, width)], f"l{i}.sum2"), f"l{i}.norm2")
    nodes[-1].output[0] = "y"
    shape = ["batch", tokens, width]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "encoder", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    model = encoder(args.width, args.layers, args.tokens)
    onnx.checker.check_model(model)
    onnx.save(model, args.out)


if __name__ == "__main__":
    main()
