"""Makes fixtures/weights/*.onnx: networks whose weights lie in bodies of nodes, in recurrent layers, in tables, and in other
element types than float32. Each runs in onnxruntime."""

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = Path(__file__).parent / "fixtures" / "weights"
RNG = np.random.default_rng(11)


def values(name, *shape, dtype=np.float32):
    return numpy_helper.from_array((RNG.standard_normal(shape) / 2).astype(dtype), name)


def info(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def model(name, nodes, inputs, outputs, weights, opset=17):
    graph = helper.make_graph(nodes, name, inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def bodies():
    """An If whose branches use one name for two matrices, a matrix in a `Constant`, and a Loop that reads a matrix of its own
    and one of the network; an If inside the Loop reads the Loop's matrix."""

    def branch(name, extra):
        constant = helper.make_node("Constant", [], [f"{name}_v"], value=values("", 5, 4))
        nodes = [
            constant,
            helper.make_node("MatMul", ["x", "W"], [f"{name}_h"], name=f"{name}_mm"),
            helper.make_node("Add", [f"{name}_h", "b"], [f"{name}_a"]),
            helper.make_node("MatMul", [f"{name}_a", f"{name}_v"], [f"{name}_y"], name=f"{name}_mv"),
        ]
        return helper.make_graph(nodes, name, [], [info(f"{name}_y", T.FLOAT, [2, 4])], [values("W", 4, 5 + extra), values("b", 5)])

    inner = helper.make_graph(
        [helper.make_node("MatMul", ["state", "L"], ["deep"])], "inner", [], [info("deep", T.FLOAT, [2, 4])]
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["state", "shared"], ["flat"])], "outer", [], [info("flat", T.FLOAT, [2, 4])]
    )
    loop = helper.make_graph(
        [
            helper.make_node("If", ["cond"], ["mixed"], then_branch=inner, else_branch=other),
            helper.make_node("MatMul", ["mixed", "L"], ["again"], name="in_loop"),
            helper.make_node("Tanh", ["again"], ["next"]),
            helper.make_node("Identity", ["cond"], ["go"]),
        ],
        "loop",
        [info("i", T.INT64, []), info("cond", T.BOOL, []), info("state", T.FLOAT, [2, 4])],
        [info("go", T.BOOL, []), info("next", T.FLOAT, [2, 4])],
        [values("L", 4, 4)],
    )
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["z"], name="choice", then_branch=branch("then", 0), else_branch=branch("else", 0)),
        helper.make_node("Loop", ["three", "true", "z"], ["l"], name="loop", body=loop),
        helper.make_node("MatMul", ["l", "shared"], ["y"], name="last"),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array(3, np.int64), "three"),
        numpy_helper.from_array(np.array(True), "true"),
        values("shared", 4, 4),
    ]
    return model("bodies", nodes, [info("x", T.FLOAT, [2, 4])], [info("y", T.FLOAT, [2, 4])], constants)


def recurrent():
    nodes = [
        helper.make_node("LSTM", ["x", "lW", "lR", "lB"], ["a"], name="lstm", hidden_size=3, direction="bidirectional"),
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node("GRU", ["f", "gW", "gR"], ["g"], name="gru", hidden_size=4),
        helper.make_node("Squeeze", ["g", "one"], ["s"]),
        helper.make_node("RNN", ["s", "rW", "rR"], ["r"], name="rnn", hidden_size=2),
        helper.make_node("Squeeze", ["r", "one"], ["q"]),
        helper.make_node("Einsum", ["q", "E"], ["e"], name="einsum", equation="tbi,ijk->tbjk"),
        helper.make_node("MatMul", ["left", "e"], ["y"], name="left"),
    ]
    weights = [
        values("lW", 2, 12, 5), values("lR", 2, 12, 3), values("lB", 2, 24),
        values("gW", 1, 12, 6), values("gR", 1, 12, 4), values("rW", 1, 2, 4), values("rR", 1, 2, 2),
        values("E", 2, 3, 4), values("left", 6, 3),
        numpy_helper.from_array(np.array([4, 2, 6], np.int64), "shape"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    return model("recurrent", nodes, [info("x", T.FLOAT, [4, 2, 5])], [info("y", T.FLOAT, [4, 2, 6, 4])], weights)


def typed(kind, dtype, opset):
    """A table, two matrices (one on the left) and a mask of minus infinity, all of one type."""
    mask = np.zeros((1, 5), dtype)
    mask[0, 0] = -np.inf
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["g"], name="embed"),
        helper.make_node("Cast", ["g"], ["c"], to=T.FLOAT) if kind == T.BFLOAT16 else helper.make_node("Identity", ["g"], ["c"]),
    ]
    weights = [values("table", 6, 4, dtype=dtype)]
    if kind == T.BFLOAT16:  # onnxruntime's CPU has no product of bfloat16
        return model("typed", nodes, [info("ids", T.INT64, [3])], [info("c", T.FLOAT, [3, 4])], weights, opset)
    nodes += [
        helper.make_node("MatMul", ["c", "w"], ["h"], name="right"),
        helper.make_node("Add", ["h", "mask"], ["m"]),
        helper.make_node("Softmax", ["m"], ["p"]),
        helper.make_node("MatMul", ["left", "p"], ["y"], name="left"),
    ]
    weights += [values("w", 4, 5, dtype=dtype), values("left", 2, 3, dtype=dtype), numpy_helper.from_array(mask, "mask")]
    return model("typed", nodes, [info("ids", T.INT64, [3])], [info("y", kind, [2, 5])], weights, opset)


def main():
    HERE.mkdir(exist_ok=True)
    made = {
        "bodies": bodies(),
        "recurrent": recurrent(),
        "half": typed(T.FLOAT16, np.float16, 17),
        "half_10": typed(T.FLOAT16, np.float16, 10),
        "bfloat": typed(T.BFLOAT16, ml_dtypes.bfloat16, 17),
        "double": typed(T.DOUBLE, np.float64, 17),
    }
    for name, proto in made.items():
        onnx.checker.check_model(proto, full_check=True)
        onnx.save(proto, HERE / f"{name}.onnx")
        ort.InferenceSession(str(HERE / f"{name}.onnx"), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
