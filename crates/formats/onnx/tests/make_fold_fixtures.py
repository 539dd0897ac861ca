"""Makes tests/fixtures/fold: models whose weights stand behind operators, and what reading them is to give; and
tests/fixtures/batch_norm: layers before a batch-norm, and weight and bias of both together.

Each model computes something from `x`. `expected.json` holds, for each, the values of the constants that replace nodes
(as onnxruntime computes them with all optimizations off; floats as their bits), the nodes that are left, the weights
that are left, and the quantizable ones, which are written down here by hand.

Run with onnx, onnxruntime and numpy installed: python make_fold_fixtures.py
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "fixtures" / "fold"
IR = {9: 4, 11: 6, 13: 7, 17: 8, 21: 10}
rng = np.random.default_rng(11)
expected = {}


def floats(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def positive(*shape):
    return (rng.random(shape) * 3 + 0.1).astype(np.float32)


def ints(*values):
    return np.array(values, np.int64)


def node(op, inputs, output, **attributes):
    """A node named after its output."""
    return helper.make_node(op, inputs.split(), [output], name=f"make {output}", **attributes)


def bits(array):
    flat = np.ascontiguousarray(array)
    if array.dtype == np.float32:
        flat = flat.view(np.uint32)
    return {"type": str(array.dtype), "shape": list(array.shape), "data": flat.astype(np.int64).flatten().tolist()}


def case(name, x, nodes, weights, folded, left, kept=(), quantizable=(), arithmetic=False, opset=17, constants=False):
    """`folded`: constants that are to replace nodes; `left`: outputs of the nodes that remain; `kept`: weights of the
    file that remain."""
    make = lambda n, v: v if isinstance(v, onnx.TensorProto) else numpy_helper.from_array(v, n)
    initializers = [make(n, v) for n, v in weights.items()]
    outputs = [n.output[0] for n in nodes if n.output[0].startswith("y")]
    if constants:
        nodes = [helper.make_node("Constant", [], [t.name], value=t) for t in initializers] + nodes
        initializers = []

    def model(outputs):
        inputs = [helper.make_tensor_value_info("x", T.FLOAT, x)]
        graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR[opset])

    # First with every folded constant as an output.
    wanted = [*outputs, *folded]
    everything = model([helper.make_empty_tensor_value_info(o) for o in wanted])
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(everything.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = dict(zip(wanted, session.run(wanted, {"x": floats(*x)})))
    made = model([helper.make_tensor_value_info(o, T.FLOAT, values[o].shape) for o in outputs])
    onnx.checker.check_model(made, full_check=True)
    onnx.save(made, HERE / f"{name}.onnx")
    expected[name] = {
        "folded": {f: bits(values[f]) for f in folded},
        "nodes": [f"make {o}" for o in left],
        "weights": sorted([*kept, *folded]),
        "quantizable": list(quantizable),
        "arithmetic": arithmetic,
    }


def moved():
    mm = lambda b="v", y="y": node("MatMul", f"x {b}", y)
    case("transpose", [2, 4], [node("Transpose", "w", "v"), mm()], {"w": floats(3, 4)}, ["v"], ["y"], (), ["v"])
    case(
        "transpose_axes",
        [2, 3, 5, 5],
        [node("Transpose", "w", "v", perm=[3, 2, 0, 1]), node("Conv", "x v", "y")],
        {"w": floats(2, 2, 3, 4)},
        ["v"],
        ["y"],
        (),
        ["v"],
    )
    case(
        "reshape",
        [1, 3, 5, 5],
        [node("Reshape", "w shape", "v"), node("Conv", "x v b", "y")],
        {"w": floats(4, 27), "shape": ints(0, 3, 3, -1), "b": floats(4)},
        ["v"],
        ["y"],
        ["b"],
        ["v"],
    )
    case(
        "constants",
        [1, 3, 5, 5],
        [node("Reshape", "w shape", "v"), node("Conv", "x v b", "y")],
        {"w": floats(4, 27), "shape": ints(4, 3, 3, 3), "b": floats(4)},
        ["v"],
        ["y"],
        ["b"],
        ["v"],
        constants=True,
    )
    case("identity", [2, 3], [node("Identity", "w", "v"), mm()], {"w": floats(3, 4)}, ["v"], ["y"], (), ["v"])
    case(
        "unsqueeze",
        [2, 3],
        [node("Unsqueeze", "b axes", "v"), node("Add", "x v", "y")],
        {"b": floats(3), "axes": ints(0)},
        ["v"],
        ["y"],
    )
    case(
        "old_forms",
        [2, 3],
        [
            node("Unsqueeze", "b", "u", axes=[0, 2]),
            node("Squeeze", "u", "s", axes=[2]),
            node("Slice", "s", "v", starts=[1], ends=[4], axes=[1]),
            node("Add", "x v", "y"),
        ],
        {"b": floats(5)},
        ["v"],
        ["y"],
        opset=9,
    )
    case(
        "flatten",
        [2, 2],
        [node("Flatten", "w", "v"), mm()],
        {"w": floats(2, 3, 4)},
        ["v"],
        ["y"],
        (),
        ["v"],
    )
    part = lambda i: node("Slice", f"w from{i} to{i} axis", f"v{i}")
    case(
        "slices",
        [2, 4],
        [*(part(i) for i in range(3)), *(mm(f"v{i}", f"y{i}") for i in range(3))],
        {
            "w": floats(4, 6),
            "axis": ints(1),
            **{f"from{i}": ints(2 * i) for i in range(3)},
            **{f"to{i}": ints(2 * i + 2) for i in range(3)},
        },
        ["v0", "v1", "v2"],
        ["y0", "y1", "y2"],
        (),
        ["v0", "v1", "v2"],
    )
    case(
        "slice_steps",
        [2, 3],
        [node("Slice", "w from to axes steps", "v"), mm()],
        {
            "w": floats(9, 8),
            "from": ints(-2, 1),
            "to": ints(-100, 100),
            "axes": ints(0, 1),
            "steps": ints(-3, 2),
        },
        ["v"],
        ["y"],
        (),
        ["v"],
    )
    case(
        "concat",
        [2, 5],
        [node("Concat", "a b", "v", axis=-2), mm()],
        {"a": floats(2, 3), "b": floats(3, 3)},
        ["v"],
        ["y"],
        (),
        ["v"],
    )
    case(
        "chain",
        [2, 6],
        [
            node("Concat", "a b", "c", axis=1),
            node("Transpose", "c", "t"),
            node("Reshape", "t shape", "v"),
            node("Gemm", "x v bias", "y", transB=1),
        ],
        {"a": floats(3, 4), "b": floats(3, 2), "shape": ints(-1, 6), "bias": floats(3)},
        ["v"],
        ["y"],
        ["bias"],
        ["v"],
    )


def casts():
    mm = node("MatMul", "x v", "y")
    for name, value in {
        "half": floats(3, 4).astype(np.float16),
        "double": rng.standard_normal((3, 4)),
        "integer": np.array([[1, -7, 1 << 40, -(1 << 24) - 1]] * 3, np.int64),
        "byte": rng.integers(0, 256, (3, 4)).astype(np.uint8),
        "boolean": rng.random((3, 4)) < 0.5,
        "brain": helper.make_tensor("w", T.BFLOAT16, [3, 4], floats(12).tolist()),
    }.items():
        case(f"cast_{name}", [2, 3], [node("Cast", "w", "v", to=T.FLOAT), mm], {"w": value}, ["v"], ["y"], (), ["v"])


def arithmetic():
    case(
        "batch_norm",
        [2, 3, 4, 4],
        [
            node("Add", "var epsilon", "a"),
            node("Sqrt", "a", "root"),
            node("Sub", "x mean", "c"),
            node("Div", "c root", "d"),
            node("Neg", "minus", "shift"),
            node("Add", "d shift", "y"),
        ],
        {"var": positive(3, 1, 1), "epsilon": np.float32(1e-5), "mean": floats(3, 1, 1), "minus": floats(3, 1, 1)},
        ["root", "shift"],
        ["c", "d", "y"],
        ["mean"],
        arithmetic=True,
    )
    functions = {
        "Sqrt": positive(7),
        "Neg": floats(7),
        "Abs": floats(7),
        "Reciprocal": floats(7),
        "Exp": floats(7) * 10,
        "Log": positive(7),
    }
    for op, value in functions.items():
        nodes = [node(op, "w", "v"), node("Add", "x v", "y")]
        case(op.lower(), [2, 7], nodes, {"w": value}, ["v"], ["y"], arithmetic=True)
    for op in "Add Sub Mul Div".split():
        nodes = [node(op, "a b", "v"), node("Add", "x v", "y")]
        values = {"a": floats(3, 1), "b": floats(2, 1, 7)}
        case(op.lower(), [2, 3, 7], nodes, values, ["v"], ["y"], arithmetic=True)
    for name, exponent in {"2": 2.0, "3": 3.0, "half": 0.5, "minus": -1.7}.items():
        nodes = [node("Pow", "w e", "v"), node("Add", "x v", "y")]
        values = {"w": positive(7), "e": np.float32(exponent)}
        case(f"pow_{name}", [2, 7], nodes, values, ["v"], ["y"], arithmetic=True)
    # The exponent is an integer.
    nodes = [node("Pow", "w e", "v"), node("Add", "x v", "y")]
    case("pow_integer", [2, 7], nodes, {"w": floats(7), "e": ints(3)}, ["v"], ["y"], arithmetic=True)
    # A product of a matrix and a factor for each row is still a matrix to be quantized.
    nodes = [node("Mul", "w f", "v"), node("MatMul", "x v", "y")]
    values = {"w": floats(3, 4), "f": floats(3, 1)}
    case("scaled", [2, 3], nodes, values, ["v"], ["y"], (), ["v"], arithmetic=True)


def shapes():
    case(
        "shape_arithmetic",
        [2, 12],
        [
            node("Shape", "w", "s"),
            node("Gather", "s two", "g"),
            node("Unsqueeze", "g zero", "u"),
            node("Concat", "minus u", "target", axis=0),
            node("Reshape", "x target", "h"),
            node("MatMul", "h w", "y"),
        ],
        {"w": floats(2, 4, 3), "two": np.array(-2), "zero": ints(0), "minus": ints(2, -1)},
        ["target"],
        ["h", "y"],
        ["w"],
        ["w"],
    )
    case(
        "integer_operators",
        [2, 12],
        [
            node("Mod", "a b", "m"),
            node("Div", "a b", "d"),
            node("Equal", "m d", "e"),
            node("Where", "e a m", "v"),
            node("Cast", "v", "f", to=T.FLOAT),
            node("Add", "x f", "y"),
        ],
        {"a": ints(7, -7, 5, -5, 6, 0, 8, 9, -9, 1, 2, 3), "b": ints(3, 3, -3, -3, 2, 5, 4, 2, 2, 1, 1, 1)},
        ["f"],
        ["y"],
    )


def left_alone():
    """A weight of 72 KiB that another node reads, one that a sub-graph may read, and an output of the network."""
    large = (np.arange(136 * 136) % 251).astype(np.float32).reshape(136, 136) / 64
    turned = node("Transpose", "w", "v")
    case(
        "tied",
        [2, 136],
        [turned, node("MatMul", "x v", "y0"), node("MatMul", "x w", "y1")],
        {"w": large},
        [],
        ["v", "y0", "y1"],
        ["w"],
        ["w"],
    )
    out = [helper.make_tensor_value_info("b", T.FLOAT, None)]
    then = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["b"])], "then", [], out)
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "else", [], out)
    case(
        "branch",
        [2, 136],
        [
            turned,
            node("MatMul", "x v", "y0"),
            node("If", "yes", "y1", then_branch=then, else_branch=other),
        ],
        {"w": large, "yes": np.array(True)},
        [],
        ["v", "y0", "y1"],
        ["w", "yes"],
        quantizable=["w"],
    )
    case(
        "output",
        [2, 3],
        [node("Transpose", "w", "y0"), node("MatMul", "x y0", "y1")],
        {"w": floats(4, 3)},
        [],
        ["y0", "y1"],
        ["w"],
    )
    case(
        "not_finite",
        [2, 3],
        [node("Log", "w", "v"), node("Add", "x v", "y")],
        {"w": np.zeros(3, np.float32)},
        [],
        ["v", "y"],
        ["w"],
    )


def batch_norms():
    """Layers before a batch-norm, with the weight and bias that both together have (in double precision)."""
    folder = HERE.parent / "batch_norm"
    folder.mkdir(exist_ok=True)
    found = {}

    def layer(name, op, x, w, axis, attributes, bias=None, factor=1.0):
        channels = 6
        shape = lambda v: v.reshape([-1 if i == axis else 1 for i in range(w.ndim)])
        g, b, m, v = positive(channels), floats(channels), floats(channels), positive(channels)
        inputs = "x w b" if bias is not None else "x w"
        nodes = [
            node(op, inputs, "h", **attributes),
            node("BatchNormalization", "h g o m v", "y", epsilon=1e-3),
        ]
        weights = {"w": w, "g": g, "o": b, "m": m, "v": v}
        if bias is not None:
            weights["b"] = bias
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info("x", T.FLOAT, x)],
            [helper.make_tensor_value_info("y", T.FLOAT, [None] * len(x))],
            [numpy_helper.from_array(v, n) for n, v in weights.items()],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
        onnx.checker.check_model(made, full_check=True)
        onnx.save(made, folder / f"{name}.onnx")
        wide = lambda a: np.asarray(a, np.float64)
        scale = wide(g) / np.sqrt(wide(v) + wide(np.float32(1e-3)))
        own = np.zeros(channels) if bias is None else factor * wide(bias)
        # The output channel of each element of a grouped transposed convolution follows from both axes.
        if op == "ConvTranspose":
            per_group, groups = w.shape[1], attributes.get("group", 1)
            of = [[i // (w.shape[0] // groups) * per_group + o for o in range(per_group)] for i in range(w.shape[0])]
            scaled = wide(w) * scale[np.array(of)][:, :, None, None]
        else:
            scaled = wide(w) * shape(scale)
        shift = own * scale + (wide(b) - wide(m) * scale)
        found[name] = {"weight": bits(scaled.astype(np.float32)), "bias": bits(shift.astype(np.float32))}

    layer("conv", "Conv", [2, 3, 6, 6], floats(6, 3, 3, 3), 0, {"pads": [1, 1, 1, 1]})
    layer("conv_bias", "Conv", [2, 3, 6, 6], floats(6, 3, 2, 2), 0, {"strides": [2, 2]}, floats(6))
    layer("depthwise", "Conv", [2, 6, 5, 5], floats(6, 1, 3, 3), 0, {"group": 6})
    layer("grouped", "Conv", [2, 4, 5, 5], floats(6, 2, 1, 1), 0, {"group": 2}, floats(6))
    layer("transposed", "ConvTranspose", [2, 4, 3, 3], floats(4, 6, 2, 2), 1, {"strides": [2, 2]}, floats(6))
    layer("transposed_grouped", "ConvTranspose", [2, 4, 3, 3], floats(4, 3, 2, 2), 1, {"group": 2})
    layer("gemm", "Gemm", [3, 5], floats(6, 5), 0, {"transB": 1, "alpha": 0.5, "beta": 2.0}, floats(6), 2.0)
    layer("gemm_plain", "Gemm", [3, 5], floats(5, 6), 1, {}, floats(6))
    with open(folder / "expected.json", "w") as file:
        json.dump(found, file, separators=(",", ":"))
        file.write("\n")


def main():
    HERE.mkdir(parents=True, exist_ok=True)
    for old in HERE.glob("*.onnx"):
        old.unlink()
    for make in (moved, casts, arithmetic, shapes, left_alone, batch_norms):
        make()
    with open(HERE / "expected.json", "w") as file:
        json.dump(expected, file, indent=None, separators=(",", ":"))
        file.write("\n")


if __name__ == "__main__":
    main()
