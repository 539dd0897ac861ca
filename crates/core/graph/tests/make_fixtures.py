"""Writes fixtures/shapes.json: small models with the shapes that onnx infers and onnxruntime produces.

Models are drawn with a fixed seed over the options of each operator, in several operator sets. Those that onnx's
checker or onnxruntime refuses are left out. Where the two programs disagree about a shape, onnxruntime's counts and
the case is printed (onnx 1.23 keeps windows that start in the end padding in ceil mode, and removes unsorted axes of
Squeeze wrongly).
"""

import json
import pathlib
import random

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper, shape_inference

ort.set_default_logger_severity(4)
rng = random.Random(20180315)
cases, disagreements = [], []


def attribute(value):
    return {"s": value} if isinstance(value, str) else {"f": value} if isinstance(value, float) else value


def case(opset, inputs, nodes, weights=None, outputs=None):
    """inputs: name -> shape; nodes: (op, inputs, outputs, attributes); weights: name -> list of ints or shape."""
    weights = weights or {}
    outputs = outputs or [nodes[-1][2][0]]
    initializers = []
    for name, value in weights.items():
        if "ints" in value:
            array = np.array(value["ints"], np.int64)
        elif "float" in value:
            array = np.array(value["float"], np.float32)
        else:
            array = np.full(value["shape"], 0.5, np.float32)
        initializers.append(numpy_helper.from_array(array, name))
    made = [helper.make_node(op, i, o, name=f"n{k}", **a) for k, (op, i, o, a) in enumerate(nodes)]
    graph = helper.make_graph(
        made,
        "case",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        initializers,
    )
    ir = 8 if opset < 19 else 10
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
    try:
        inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        del model.graph.output[:]
        model.graph.output.extend(
            helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs
        )
        session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feeds = {n: np.full(s, 0.5, np.float32) for n, s in inputs.items()}
        shapes = {o: list(v.shape) for o, v in zip(outputs, session.run(outputs, feeds))}
    except Exception:
        return False
    if any(0 in s for s in shapes.values()):
        return False
    for value in inferred.graph.output:
        dims = value.type.tensor_type.shape.dim
        known = [d.dim_value for d in dims]
        if value.type.tensor_type.HasField("shape") and 0 not in known and known != shapes[value.name]:
            disagreements.append((nodes, inputs, known, shapes[value.name]))
    cases.append(
        {
            "opset": opset,
            "inputs": inputs,
            "weights": weights,
            "nodes": [
                {"op": op, "in": i, "out": o, "at": {k: attribute(v) for k, v in a.items()}}
                for op, i, o, a in nodes
            ],
            "shapes": shapes,
        }
    )
    return True


def some(count, draw):
    """Draws until `count` cases were taken, within reason."""
    taken = 0
    for _ in range(12 * count):
        taken += bool(draw())
        if taken == count:
            return
    raise SystemExit(f"{draw.__name__}: only {taken} of {count}")


def window(kernel=True):
    kernel_shape = [rng.randint(1, 5), rng.randint(1, 5)]
    attributes = {"kernel_shape": kernel_shape} if kernel else {}
    if rng.random() < 0.7:
        attributes["strides"] = [rng.randint(1, 4), rng.randint(1, 4)]
    pad = rng.random()
    if pad < 0.4:
        attributes["pads"] = [rng.randint(0, max(0, kernel_shape[i % 2] - 1)) for i in range(4)]
    elif pad < 0.7:
        attributes["auto_pad"] = rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    return kernel_shape, attributes


def image(channels):
    return [rng.randint(1, 3), channels, rng.randint(5, 15), rng.randint(5, 15)]


def conv():
    kernel, attributes = window(rng.random() < 0.7)
    groups = rng.choice([1, 1, 2, 4])
    if rng.random() < 0.3 and attributes.get("auto_pad", "NOTSET") in ("NOTSET", "VALID"):
        attributes["dilations"] = [rng.randint(1, 3), rng.randint(1, 3)]
    if groups > 1:
        attributes["group"] = groups
    weights = {"w": {"shape": [4 * rng.randint(1, 2), 4 // groups, *kernel]}}
    names = ["x", "w"]
    if rng.random() < 0.5:
        weights["b"] = {"shape": [weights["w"]["shape"][0]]}
        names.append("b")
    return case(rng.choice([9, 11, 13, 22]), {"x": image(4)}, [("Conv", names, ["y"], attributes)], weights)


def conv_transpose():
    kernel, attributes = window(rng.random() < 0.7)
    groups = rng.choice([1, 2])
    strides = attributes.get("strides", [1, 1])
    if rng.random() < 0.3:
        attributes["output_padding"] = [rng.randint(0, s - 1) for s in strides]
    if groups > 1:
        attributes["group"] = groups
    if rng.random() < 0.2 and "auto_pad" not in attributes:
        attributes["dilations"] = [rng.randint(1, 2), rng.randint(1, 2)]
    weights = {"w": {"shape": [4, rng.randint(1, 3), *kernel]}}
    return case(rng.choice([9, 11, 13]), {"x": image(4)}, [("ConvTranspose", ["x", "w"], ["y"], attributes)], weights)


def pool():
    op, (_, attributes), opset = rng.choice(["MaxPool", "AveragePool"]), window(), rng.choice([9, 10, 13, 22])
    if opset >= 10 and rng.random() < 0.6 and attributes.get("auto_pad", "NOTSET") == "NOTSET":
        attributes["ceil_mode"] = 1
    if op == "AveragePool" and rng.random() < 0.5:
        attributes["count_include_pad"] = 1
    if op == "MaxPool" and opset >= 10 and rng.random() < 0.2 and "auto_pad" not in attributes:
        attributes["dilations"] = [rng.randint(1, 2), rng.randint(1, 2)]
    return case(opset, {"x": image(2)}, [(op, ["x"], ["y"], attributes)])


def shape(rank=None):
    return [rng.randint(1, 6) for _ in range(rank or rng.randint(1, 5))]


def parameters(opset, since, attributes, lists, op, x):
    """The lists as attributes, or as inputs from opset `since` on."""
    if opset < since:
        attributes = attributes | {k: v for k, v in lists.items() if v is not None}
        return case(opset, {"x": x}, [(op, ["x"], ["y"], attributes)])
    names = ["x"] + [k if v is not None else "" for k, v in lists.items()]
    while names[-1] == "":
        names.pop()
    weights = {k: {"ints": v} for k, v in lists.items() if v is not None}
    return case(opset, {"x": x}, [(op, names, ["y"], attributes)], weights)


def axes_of(x, signed=True):
    axes = rng.sample(range(len(x)), rng.randint(1, len(x)))
    return [a - len(x) if signed and rng.random() < 0.4 else a for a in axes]


def slices():
    opset, x = rng.choice([9, 10, 13]), shape()
    axes = axes_of(x, opset >= 10)
    ends = [rng.choice([-9, -2, -1, 0, 1, 2, 5, 1 << 40]) for _ in axes]
    lists = {"starts": [rng.choice([-7, -3, -1, 0, 1, 2, 9]) for _ in axes], "ends": ends, "axes": axes}
    if rng.random() < 0.2:
        lists["axes"] = None
    if opset >= 10 and rng.random() < 0.6 and lists["axes"] is not None:
        lists["steps"] = [rng.choice([-3, -2, -1, 1, 2, 3]) for _ in axes]
    return parameters(opset, 10, {}, lists, "Slice", x)


def pads():
    opset, x = rng.choice([9, 11, 13, 18]), shape()
    mode = rng.choice(["constant", "constant", "edge", "reflect"])
    low = -1 if mode == "constant" else 0
    lists = {"pads": [rng.randint(low, 2) for _ in range(2 * len(x))]}
    return parameters(opset, 11, {"mode": mode}, lists, "Pad", x)


def reduces():
    op, opset, x = rng.choice(["ReduceMean", "ReduceSum"]), rng.choice([9, 11, 13, 18]), shape()
    axes = axes_of(x, opset >= 11) if rng.random() < 0.8 else None
    attributes = {"keepdims": rng.randint(0, 1)} if rng.random() < 0.7 else {}
    since = 13 if op == "ReduceSum" else 18
    if opset >= since and rng.random() < 0.3:
        attributes["noop_with_empty_axes"] = 1
    return parameters(opset, since, attributes, {"axes": axes}, op, x)


def reshapes():
    x = shape(rng.randint(2, 4))
    total, target = int(np.prod(x)), []
    rest = total
    for i in range(rng.randint(1, 4)):
        part = rng.choice([d for d in range(1, rest + 1) if rest % d == 0])
        if i < len(x) and rest % x[i] == 0 and rng.random() < 0.4:
            part = x[i]
            target.append(0)
        else:
            target.append(part)
        rest //= part
    target.append(rest)
    if rng.random() < 0.5:
        target[rng.randrange(len(target))] = -1
    attributes = {"allowzero": 0} if rng.random() < 0.3 else {}
    return case(14 if attributes else 9, {"x": x}, [("Reshape", ["x", "t"], ["y"], attributes)], {"t": {"ints": target}})


def squeezes():
    opset, x = rng.choice([9, 11, 13]), [rng.choice([1, 1, 3]) for _ in range(rng.randint(2, 5))]
    if rng.random() < 0.5:
        ones = [i for i, d in enumerate(x) if d == 1]
        axes = rng.sample(ones, rng.randint(1, len(ones))) if ones and rng.random() < 0.8 else None
        return parameters(opset, 13, {}, {"axes": axes}, "Squeeze", x)
    rank = len(x) + rng.randint(1, 2)
    axes = rng.sample(range(rank), rank - len(x))
    if opset >= 11:
        axes = [a - rank if rng.random() < 0.4 else a for a in axes]
    return parameters(opset, 13, {}, {"axes": axes}, "Unsqueeze", x)


def splits():
    opset, x = rng.choice([9, 13, 18]), shape(3)
    axis = rng.randint(0, 2) - (3 if opset >= 11 and rng.random() < 0.4 else 0)
    extent, parts = x[axis], rng.randint(1, 3)
    names, weights, attributes = ["x"], {}, {"axis": axis}
    if rng.random() < 0.5:
        cuts = sorted(rng.randint(0, extent) for _ in range(parts - 1))
        sizes = [b - a for a, b in zip([0] + cuts, cuts + [extent])]
        if opset >= 13:
            names, weights = ["x", "s"], {"s": {"ints": sizes}}
        else:
            attributes["split"] = sizes
    elif opset >= 18:
        attributes["num_outputs"] = parts
    outputs = [f"y{i}" for i in range(parts)]
    return case(opset, {"x": x}, [("Split", names, outputs, attributes)], weights, outputs)


def binaries():
    x = shape()
    y = [1 if rng.random() < 0.3 else d for d in x][rng.randint(0, len(x)) :]
    a, b = ({"x": x}, {"w": {"shape": y}})
    op = rng.choice(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "PRelu"])
    names = ["x", "w"] if op == "PRelu" or rng.random() < 0.5 else ["w", "x"]
    return case(13, a, [(op, names, ["y"], {})], b)


def products():
    if rng.random() < 0.5:
        m, k, n = shape(3)
        ta, tb = rng.randint(0, 1), rng.randint(0, 1)
        c = rng.choice([[], [1], [n], [1, n], [m, 1], [m, n]])
        weights = {"w": {"shape": [n, k] if tb else [k, n]}, "c": {"shape": c}}
        names = ["x", "w", "c"] if rng.random() < 0.7 else ["x", "w"]
        return case(rng.choice([9, 11, 13]), {"x": [k, m] if ta else [m, k]}, [("Gemm", names, ["y"], {"transA": ta, "transB": tb})], weights)
    m, k, n = shape(3)
    lead = shape(rng.randint(1, 2))
    left = rng.choice([[k], [m, k], lead + [m, k]])
    right = rng.choice([[k], [k, n], lead + [k, n], [1] + [k, n]])
    return case(13, {"x": left}, [("MatMul", ["x", "w"], ["y"], {})], {"w": {"shape": right}})


def others():
    x = shape(rng.randint(2, 5))
    axis = rng.randrange(-len(x), len(x))
    nodes = [
        ("Flatten", ["x"], ["y"], {"axis": rng.randint(-len(x), len(x))}),
        ("Flatten", ["x"], ["y"], {}),
        ("Transpose", ["x"], ["y"], {"perm": rng.sample(range(len(x)), len(x))}),
        ("Transpose", ["x"], ["y"], {}),
        ("Concat", ["x", "x", "x"], ["y"], {"axis": axis}),
        ("Softmax", ["x"], ["y"], {"axis": axis}),
        ("LogSoftmax", ["x"], ["y"], {}),
        ("GlobalAveragePool", ["x"], ["y"], {}),
        ("GlobalMaxPool", ["x"], ["y"], {}),
        ("LRN", ["x"], ["y"], {"size": 3}),
        ("HardSwish", ["x"], ["y"], {}),
        ("Erf", ["x"], ["y"], {}),
        ("Dropout", ["x"], ["y"], {}),
        ("Identity", ["x"], ["y"], {}),
    ]
    return case(14, {"x": x}, [rng.choice(nodes)])


def computed():
    """Shapes computed from shapes, as exporters of PyTorch write them."""
    x = image(3)
    one = {"ints": [1]}
    views = [
        # x.view(x.size(0), -1)
        (
            [
                ("Shape", ["x"], ["s"], {}),
                ("Gather", ["s", "zero"], ["n"], {"axis": 0}),
                ("Unsqueeze", ["n", "axes"], ["n1"], {}),
                ("Concat", ["n1", "minus"], ["t"], {"axis": 0}),
                ("Reshape", ["x", "t"], ["y"], {}),
            ],
            {"zero": {"ints": 0}, "axes": {"ints": [0]}, "minus": {"ints": [-1]}},
        ),
        # channel shuffle, with the channels divided
        (
            [
                ("Shape", ["x"], ["s"], {}),
                ("Slice", ["s", "from", "to"], ["c"], {}),
                ("Div", ["c", "three"], ["k"], {}),
                ("Mul", ["k", "three"], ["c3"], {}),
                ("Slice", ["s", "zero", "from"], ["n"], {}),
                ("Concat", ["n", "three", "k", "minus"], ["t"], {"axis": 0}),
                ("Reshape", ["x", "t"], ["r"], {}),
                ("Transpose", ["r"], ["p"], {"perm": [0, 2, 1, 3]}),
                ("Concat", ["n", "c3", "minus"], ["u"], {"axis": 0}),
                ("Reshape", ["p", "u"], ["y"], {}),
            ],
            {"from": one, "to": {"ints": [2]}, "three": {"ints": [3]}, "zero": {"ints": [0]}, "minus": {"ints": [-1]}},
        ),
        # the product of the last two extents, in a roundabout way
        (
            [
                ("Shape", ["x"], ["s"], {"start": 2}),
                ("ReduceProd", ["s"], ["m"], {"keepdims": 1}),
                ("Cast", ["m"], ["f"], {"to": 1}),
                ("Floor", ["f"], ["g"], {}),
                ("Cast", ["g"], ["i"], {"to": 7}),
                ("ConstantOfShape", ["one"], ["z"], {}),
                ("Cast", ["z"], ["zi"], {"to": 7}),
                ("Sub", ["zi", "one"], ["minus"], {}),
                ("Concat", ["minus", "i"], ["t"], {"axis": 0}),
                ("Reshape", ["x", "t"], ["y"], {}),
            ],
            {"one": one},
        ),
    ]
    # padding in the order of PyTorch's: the last axis first
    views.append(
        (
            [
                ("ConstantOfShape", ["four"], ["z"], {}),
                ("Cast", ["z"], ["zi"], {"to": 7}),
                ("Concat", ["given", "zi"], ["all"], {"axis": 0}),
                ("Reshape", ["all", "pairs"], ["p"], {}),
                ("Slice", ["p", "minus", "low", "zero", "minus"], ["r"], {}),
                ("Transpose", ["r"], ["t"], {"perm": [1, 0]}),
                ("Reshape", ["t", "minus"], ["pads"], {}),
                ("Pad", ["x", "pads"], ["y"], {"mode": "constant"}),
            ],
            {
                "four": {"ints": [4]},
                "given": {"ints": [1, 2, 3, 0]},
                "pairs": {"ints": [-1, 2]},
                "minus": {"ints": [-1]},
                "low": {"ints": [-(1 << 60)]},
                "zero": {"ints": [0]},
            },
        )
    )
    nodes, weights = rng.choice(views)
    return case(15, {"x": x}, nodes, weights)


for count, draw in [
    (60, conv), (40, conv_transpose), (90, pool), (40, slices), (25, pads), (25, reduces), (25, reshapes),
    (25, squeezes), (20, splits), (25, binaries), (25, products), (40, others), (16, computed),
]:  # fmt: skip
    some(count, draw)
folder = pathlib.Path(__file__).parent / "fixtures"
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
(folder / "shapes.json").write_text(f"[\n{lines}\n]\n")
print(len(cases), "cases,", len(disagreements), "disagreements")
for d in disagreements:
    print(d)
