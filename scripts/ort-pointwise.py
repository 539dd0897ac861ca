#!/usr/bin/env python3
"""Does it pay to give 1x1 convolutions to onnxruntime as products of matrices, whose weights it keeps packed?

    python scripts/ort-pointwise.py MODEL.onnx... [--bits 4] [--block 32] [--rounds 30] [--batch 1]

Every convolution of 1x1, stride 1 and one group whose input channels the block divides becomes a Transpose to channels last, a
MatMul with its bias, and a Transpose back. Measured are the float32 network, the same with float32 products, and with
onnxruntime's own MatMulNBits, at both of its levels: memory and time as scripts/ort-packed.py takes them, one thread.
Needs: pip install onnx onnxruntime onnx-ir sympy numpy
"""
import argparse
import importlib.util
import pathlib
import tempfile

import numpy as np
import onnx
from onnx import helper, numpy_helper

spec = importlib.util.spec_from_file_location("ort_packed", pathlib.Path(__file__).with_name("ort-packed.py"))
packed = importlib.util.module_from_spec(spec)
spec.loader.exec_module(packed)


def pointwise(node, weights, block):
    """The weight [outputs, inputs, 1, 1] of a convolution that is a product of matrices, else None."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return None
    weight = numpy_helper.to_array(weights[node.input[1]])
    given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    plain = all(v == 1 for name in ("strides", "dilations") for v in given.get(name, [])) and not any(given.get("pads", []))
    fits = weight.ndim == 4 and weight.shape[2:] == (1, 1) and weight.shape[1] % block == 0
    return weight if plain and fits and given.get("group", 1) == 1 else None


def as_products(path, out, block):
    """Writes the network with its 1x1 convolutions as products; returns how many, and their share of all convolution weights."""
    model = onnx.load(path)
    weights = {w.name: w for w in model.graph.initializer}
    nodes, found, moved, total = [], 0, 0, 0
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in weights:
            total += int(np.prod(weights[node.input[1]].dims))
        weight = pointwise(node, weights, block)
        if weight is None:
            nodes.append(node)
            continue
        y, found, moved = node.output[0], found + 1, moved + weight.size
        matrix = numpy_helper.from_array(weight[:, :, 0, 0].T.copy(), f"{y}.matrix")
        model.graph.initializer.append(matrix)
        last = f"{y}.product"
        nodes.append(helper.make_node("Transpose", [node.input[0]], [f"{y}.last"], perm=[0, 2, 3, 1]))
        nodes.append(helper.make_node("MatMul", [f"{y}.last", matrix.name], [last], name=f"{y}.node"))
        if len(node.input) > 2:
            nodes.append(helper.make_node("Add", [last, node.input[2]], [f"{y}.sum"]))
            last = f"{y}.sum"
        nodes.append(helper.make_node("Transpose", [last], [y], perm=[0, 3, 1, 2]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [w for w in model.graph.initializer if w.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, out)
    return found, moved / max(1, total)


def fold_batch_norms(path, out):
    """onnxruntime folds batch-norms into convolutions, not into products: every form begins from the network it folded itself."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fix_batch(path, batch):
    model = onnx.load(path)
    for value in model.graph.input:
        dim = value.type.tensor_type.shape.dim[0]
        dim.ClearField("dim_param")
        dim.dim_value = batch
    for value in [*model.graph.output, *model.graph.value_info]:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, path)


def check(model, args, folder):
    float32, products, nbits = (folder / f"{n}.onnx" for n in ("float32", "products", "nbits"))
    fold_batch_norms(model, float32)
    fix_batch(float32, args.batch)
    found, share = as_products(float32, products, args.block)
    packed.by_onnxruntime(products, nbits, args.bits, args.block)
    forms = [("float32", float32, "default"), ("float32, products", products, "default"),
             ("MatMulNBits, level 1", nbits, "1"), ("MatMulNBits, default level 4", nbits, "default")]
    sessions = [packed.session(path, level) for _, path, level in forms]
    x = packed.inputs_of(sessions[0])
    outputs = [s.run(None, x)[0] for s in sessions]
    assert packed.worst(outputs[1], outputs[0]) < 1e-4, "the products compute another network"
    medians = packed.times(sessions, args.rounds)
    del sessions
    print(f"\n{model.name}, batch {args.batch}: {found} convolutions of 1x1 as products, {100 * share:.0f} % of all convolution weights\n")
    print("| form | memory | of float32 | time | of float32 |\n|---|---|---|---|---|")
    bytes_ = [packed.memory(path, level) for _, path, level in forms]
    for (name, _, _), size, seconds in zip(forms, bytes_, medians):
        print(f"| {name} | {size / 1e6:.1f} MB | {size / bytes_[0]:.2f} | {1e3 * seconds:.1f} ms | {seconds / medians[0]:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    parser.add_argument("--bits", type=int, default=4)
    parser.add_argument("--block", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    for model in args.models:
        with tempfile.TemporaryDirectory() as folder:
            check(model, args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
