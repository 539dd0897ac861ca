"""Makes fixtures/onnxruntime.json: operators of transformers, normalisation and integer inputs, computed by onnxruntime.

    python make_onnxruntime_fixtures.py        (needs onnx, onnxruntime, numpy)

A case holds nodes (as in operators.json), constants, data and the outputs. Data are inputs of the network; the test also
makes parameters of those that are floats, and compares their gradients with differences of the loss.
"""

import json
import pathlib

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "fixtures"
KINDS = {"float32": T.FLOAT, "int64": T.INT64, "int32": T.INT32, "bool": T.BOOL}
CASES = []


def random(seed, *shape):
    """Values on a grid of 1/64 within about two."""
    draw = np.random.default_rng(seed).normal(size=shape)
    return (np.round(np.clip(draw, -3, 3) * 64) / 64).astype(np.float32)


def node(op, inputs, outputs="y", **attributes):
    return {"op": op, "inputs": inputs.split(), "outputs": outputs.split(), "attributes": attributes}


def packed(array):
    flat = [float(v) if array.dtype == np.float32 else int(v) for v in np.ravel(array)]
    # JSON has no infinity.
    flat = ["-inf" if v == -np.inf else v for v in flat]
    return {"type": str(array.dtype), "shape": list(array.shape), "values": flat}


def case(name, nodes, data, constants=None, opset=17, gradient=True):
    constants = constants or {}
    made = [
        helper.make_node(n["op"], ["" if i == "-" else i for i in n["inputs"]], n["outputs"], **n["attributes"])
        for n in nodes
    ]
    inputs = [helper.make_tensor_value_info(k, KINDS[str(v.dtype)], v.shape) for k, v in data.items()]
    weights = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    graph = helper.make_graph(made, name, inputs, [helper.make_tensor_value_info("y", T.FLOAT, None)], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, data)
    CASES.append({
        "name": name, "opset": opset, "nodes": nodes, "gradient": gradient,
        "data": {k: packed(v) for k, v in data.items()},
        "constants": {k: packed(np.asarray(v)) for k, v in constants.items()},
        "y": packed(y),
    })


def ints(*values):
    return np.array(values, np.int64)


def normalisation():
    x = random(1, 2, 3, 8)
    case("layer_norm", [node("LayerNormalization", "x s b")], {"x": x, "s": random(2, 8), "b": random(3, 8)})
    case("layer_norm_axes", [node("LayerNormalization", "x s", axis=1, epsilon=0.01)], {"x": x, "s": random(2, 3, 8)})
    case("layer_norm_parts", [
        node("ReduceMean", "x", "m", axes=[-1]), node("Sub", "x m", "c"), node("Pow", "c two", "q"),
        node("ReduceMean", "q", "v", axes=[-1]), node("Add", "v e", "w"), node("Sqrt", "w", "d"), node("Div", "c d", "n"), node("Mul", "n s"),
    ], {"x": x, "s": random(2, 8)}, {"two": ints(2)[0], "e": np.float32(1e-5)})
    case("rms_norm", [node("RMSNormalization", "x s", epsilon=1e-4)], {"x": x, "s": random(2, 8)}, opset=23)
    image = random(4, 2, 4, 3, 2)
    case("instance_norm", [node("InstanceNormalization", "x s b", epsilon=1e-3)], {"x": image, "s": random(5, 4), "b": random(6, 4)})
    case("group_norm_21", [node("GroupNormalization", "x s b", num_groups=2)], {"x": image, "s": random(5, 4), "b": random(6, 4)}, opset=21)


def functions():
    x = random(7, 3, 11)
    x = np.where(np.abs(x) < 0.1, np.float32(0.25), x)  # no differences across a kink
    for op in ["Erf", "Softplus", "Mish", "Selu", "Softsign", "Sign", "Floor", "Ceil", "Round"]:
        case(op.lower(), [node(op, "x")], {"x": x}, opset=18, gradient=op not in ("Sign", "Floor", "Ceil", "Round"))
    case("gelu", [node("Gelu", "x")], {"x": x}, opset=20)
    case("gelu_tanh", [node("Gelu", "x", approximate="tanh")], {"x": x}, opset=20)
    case("cube", [node("Pow", "x three")], {"x": x}, {"three": ints(3)[0]})


def choices():
    x, other = random(8, 2, 3, 4), random(9, 3, 4)
    mask = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [1, 1, 1, 0]], bool)
    case("where", [node("Where", "m x o")], {"x": x, "o": other}, {"m": mask})
    case("where_scalar", [node("Where", "m x low")], {"x": x}, {"m": mask, "low": np.float32(-3)})
    case("mask_of_infinities", [node("Add", "x low", "z"), node("Softmax", "z")], {"x": x}, {"low": np.where(mask, 0, -np.inf).astype(np.float32)})
    case("comparisons", [
        node("Greater", "x o", "g"), node("LessOrEqual", "x half", "l"), node("And", "g l", "a"), node("Not", "a", "n"),
        node("Equal", "x x", "e"), node("Xor", "n e", "t"), node("Or", "t g", "u"), node("Cast", "u", "f", to=T.FLOAT), node("Mul", "f x"),
    ], {"x": x, "o": other}, {"half": np.float32(0.5)}, gradient=False)
    case("expand", [node("Expand", "x s")], {"x": random(10, 3, 1)}, {"s": ints(2, 1, 4)})
    case("gather_rows", [node("Gather", "x i")], {"x": random(11, 5, 4)}, {"i": np.array([[0, 3, -1], [3, 3, 1]], np.int64)})
    case("gather_axis", [node("Gather", "x i", axis=1)], {"x": x}, {"i": ints(2, 0)})
    case("gather_one", [node("Gather", "x i", axis=1)], {"x": x}, {"i": ints(-1)[0]})
    case("embedding", [node("Gather", "t i", "g"), node("Softmax", "g", axis=1)], {"t": random(12, 6, 5), "i": np.array([[5, 0, 2]], np.int64)})
    case("counts", [node("Cast", "i", "f", to=T.FLOAT), node("Mul", "f x")], {"x": random(13, 3), "i": ints(7, 0, -2)})
    case("compared_ids", [node("Equal", "i zero", "e"), node("Where", "e x o")], {"x": random(14, 3), "o": random(15, 3), "i": ints(7, 0, -2)}, {"zero": ints(0)})


def attention():
    """Masked attention as PyTorch exports it: the scale is computed from a shape, the mask from integers."""
    heads = [
        node("MatMul", "x wq", "q1"), node("Reshape", "q1 split", "q2"), node("Transpose", "q2", "q", perm=[0, 2, 1, 3]),
        node("MatMul", "x wk", "k1"), node("Reshape", "k1 split", "k2"), node("Transpose", "k2", "k", perm=[0, 2, 3, 1]),
        node("MatMul", "x wv", "v1"), node("Reshape", "v1 split", "v2"), node("Transpose", "v2", "v", perm=[0, 2, 1, 3]),
    ]
    scale = [node("Shape", "q", "qs"), node("Gather", "qs last", "d"), node("Cast", "d", "df", to=T.FLOAT), node("Sqrt", "df", "root")]
    mask = [
        node("Unsqueeze", "seen mask_axes", "m1"), node("Cast", "m1", "m2", to=T.FLOAT), node("Sub", "one m2", "m3"), node("Mul", "m3 low", "m"),
    ]
    out = [
        node("MatMul", "q k", "s1"), node("Div", "s1 root", "s2"), node("Add", "s2 m", "s3"), node("Softmax", "s3", "p", axis=-1),
        node("MatMul", "p v", "o1"), node("Transpose", "o1", "o2", perm=[0, 2, 1, 3]), node("Reshape", "o2 join"),
    ]
    weights = {k: random(i, 6, 6) / 2 for i, k in enumerate(["wq", "wk", "wv"], 20)}
    data = {"x": random(16, 2, 5, 6), "seen": np.array([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]], np.int64), **weights}
    constants = {
        "split": ints(0, 0, 2, 3), "join": ints(0, 0, 6), "last": ints(-1)[0], "mask_axes": ints(1, 2),
        "one": np.float32(1), "low": np.float32(-10000),
    }
    case("attention", heads + scale + mask + out, data, constants)


def recurrent():
    """What PyTorch has not: peepholes, lengths, a reset gate that acts first, bounded sums."""
    steps, batch, inputs, hidden = 4, 3, 2, 4
    x = random(30, steps, batch, inputs)
    flat = [node("Reshape", f"{k} flat", f"{k}.flat") for k in ("all", "last")] + [node("Concat", "all.flat last.flat", axis=0)]
    common = {"flat": ints(-1), "lengths": np.array([4, 2, 3], np.int32)}
    for direction, d in [("forward", 1), ("reverse", 1), ("bidirectional", 2)]:
        data = {"x": x, "h": random(31, d, batch, hidden)}
        weights = lambda gates: {"w": random(32, d, gates * hidden, inputs) / 2, "r": random(33, d, gates * hidden, hidden) / 2, "b": random(34, d, 2 * gates * hidden) / 2}
        settings = dict(hidden_size=hidden, direction=direction)
        case(f"gru_{direction}", [node("GRU", "x w r b lengths h", "all last", **settings)] + flat, {**data, **weights(3)}, common, opset=14)
        case(f"gru_after_{direction}", [node("GRU", "x w r b lengths h", "all last", linear_before_reset=1, **settings)] + flat, {**data, **weights(3)}, common, opset=14)
        case(f"lstm_{direction}", [node("LSTM", "x w r b lengths h c p", "all h_last last", **settings)] + flat,
             {**data, **weights(4), "c": random(35, d, batch, hidden), "p": random(36, d, 3 * hidden) / 2}, common, opset=14)
        case(f"rnn_{direction}", [node("RNN", "x w r b lengths h", "all last", **settings)] + flat, {**data, **weights(1)}, common, opset=14)
    case("lstm_clipped", [node("LSTM", "x w r", "all h c", hidden_size=hidden, clip=0.5), node("Reshape", "all flat")],
         {"x": x, "w": random(32, 1, 16, inputs), "r": random(33, 1, 16, hidden)}, {"flat": ints(-1)}, opset=14, gradient=False)


def positions():
    x = random(40, 3, 4, 5)
    case("argmax", [node("ArgMax", "x", "i", axis=1), node("Cast", "i", to=T.FLOAT)], {"x": x}, gradient=False)
    case("argmin_last", [node("ArgMin", "x", "i", axis=2, keepdims=0, select_last_index=1), node("Cast", "i", to=T.FLOAT)], {"x": np.round(x)}, gradient=False)
    case("top_positions", [node("TopK", "x k", "v i", axis=1), node("Cast", "i", to=T.FLOAT)], {"x": x}, {"k": ints(3)}, gradient=False)
    case("gather_elements", [node("GatherElements", "x i", axis=1)], {"x": x}, {"i": np.array([[[0, 3, -1, 2, 2]], [[1, 1, 1, 0, 0]], [[3, -4, 2, 2, 2]]], np.int64)})
    case("gather_nd", [node("GatherND", "x i")], {"x": x}, {"i": np.array([[[0, 1], [2, -1]], [[0, 1], [1, 0]]], np.int64)})
    case("gather_nd_batch", [node("GatherND", "x i", batch_dims=1)], {"x": x}, {"i": np.array([[2], [0], [-1]], np.int64)})
    case("integers_add", [node("Add", "i j", "s"), node("Mul", "s j", "p"), node("Gather", "t p")], {"t": random(41, 9, 2), "i": ints(0, 1, 2), "j": ints(1, 2, 2)})


def sampling():
    x, grid = random(50, 2, 2, 4, 5), random(51, 2, 3, 3, 2) / 2
    for mode in ["linear", "nearest", "cubic"]:
        for padding in ["zeros", "border", "reflection"]:
            for corners in (0, 1):
                case(f"grid_{mode}_{padding}_{corners}", [node("GridSample", "x g", mode=mode, padding_mode=padding, align_corners=corners)],
                     {"x": x, "g": grid}, opset=20, gradient=False)
    for mode in ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]:
        for rounding in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]:
            case(f"nearest_{mode}_{rounding}", [node("Resize", "x - s", mode="nearest", coordinate_transformation_mode=mode, nearest_mode=rounding)],
                 {"x": x}, {"s": np.array([1, 1, 1.7, 0.6], np.float32)}, opset=13, gradient=rounding == "floor")
    case("crop", [node("Resize", "x r - n", mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=2.0)],
         {"x": x}, {"r": np.array([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.1], np.float32), "n": ints(2, 2, 3, 6)}, opset=13)


def main():
    recurrent()
    positions()
    sampling()
    normalisation()
    functions()
    choices()
    attention()
    (HERE / "onnxruntime.json").write_text(json.dumps(CASES, separators=(",", ":")).replace('{"name"', '\n{"name"') + "\n")


if __name__ == "__main__":
    main()
