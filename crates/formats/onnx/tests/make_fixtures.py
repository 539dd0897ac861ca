"""Makes the models in tests/fixtures: one small network, stored in the ways ONNX allows.

Run with onnx and numpy installed: python make_fixtures.py
"""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HERE = pathlib.Path(__file__).parent / "fixtures"
IR = {7: 3, 9: 4, 11: 6, 13: 7, 17: 8, 21: 10}


def weights():
    rng = np.random.default_rng(7)
    return {
        "conv.w": rng.standard_normal((3, 2, 3, 3)).astype(np.float32),
        "conv.b": rng.standard_normal(3).astype(np.float32),
        "fc.w": rng.standard_normal((5, 48)).astype(np.float32),
        "fc.b": rng.standard_normal(5).astype(np.float32),
        "shape": np.array([0, -1], np.int64),
    }


def typed(name, value):
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return helper.make_tensor(name, kind, value.shape, value.flatten().tolist())


def constant(name, value):
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))


def model(opset, store="raw"):
    values = weights()
    nodes = [
        helper.make_node("Conv", ["x", "conv.w", "conv.b"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["r"], name="relu"),
        helper.make_node("Reshape", ["r", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.w", "fc.b"], ["y"], transB=1),
    ]
    make = typed if store == "typed" else lambda n, v: numpy_helper.from_array(v, n)
    initializers = [make(n, v) for n, v in values.items()]
    inputs = [helper.make_tensor_value_info("x", T.FLOAT, ["N", 2, 6, 6])]
    if store == "constants":
        nodes = [constant(n, v) for n, v in values.items()] + nodes
        initializers = []
    if IR[opset] == 3:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    output = helper.make_tensor_value_info("y", T.FLOAT, ["N", 5])
    graph = helper.make_graph(nodes, "small", inputs, [output], initializers)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR[opset])
    made.producer_name = "fixtures"
    made.producer_version = "1.5"
    made.doc_string = "a small network"
    helper.set_model_props(made, {"author": "nobody", "slq.note": "kept"})
    return made


def constants_of_all_kinds():
    nodes = [
        helper.make_node("Constant", [], ["one"], value_float=1.5),
        helper.make_node("Constant", [], ["many"], value_floats=[1.0, 2.0]),
        helper.make_node("Constant", [], ["int"], value_int=3),
        helper.make_node("Constant", [], ["ints"], value_ints=[4, 5]),
        helper.make_node("Constant", [], ["text"], value_string="kept"),
        helper.make_node("Add", ["x", "one"], ["p"]),
        helper.make_node("Mul", ["p", "many"], ["q"]),
        helper.make_node("Reshape", ["q", "shape"], ["y"]),
        helper.make_node("Identity", ["text"], ["unused"]),
        helper.make_node("Cast", ["int"], ["unused2"], to=T.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "constants",
        [helper.make_tensor_value_info("x", T.FLOAT, [2, 2])],
        [helper.make_tensor_value_info("y", T.FLOAT, [4])],
        [numpy_helper.from_array(np.array([4]), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def element_types():
    """Every element type, raw and typed, next to a string tensor that no graph can hold."""
    kinds = "float32 float64 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool".split()
    values = {k: np.array([[0, 1], [2, 3]]).astype(k) for k in kinds}
    initializers = []
    for k, v in values.items():
        initializers += [numpy_helper.from_array(v, f"raw.{k}"), typed(f"typed.{k}", v)]
    initializers.append(helper.make_tensor("typed.bfloat16", T.BFLOAT16, [2], [1.0, 2.0]))
    initializers.append(helper.make_tensor("text", T.STRING, [2], [b"a", b"b"]))
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Identity", ["text"], ["z"])],
        "types",
        [helper.make_tensor_value_info("x", T.FLOAT, [None])],
        [helper.make_tensor_value_info("y", T.FLOAT, [None])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def subgraph_and_function():
    """An If whose branches read weights of the outer graph, a function, and a custom operator."""
    out = [helper.make_tensor_value_info("b", T.FLOAT, [4])]
    then = helper.make_graph([helper.make_node("Add", ["x", "w"], ["b"])], "then", [], out)
    other = helper.make_graph([helper.make_node("Sub", ["x", "w"], ["b"])], "else", [], out)
    nodes = [
        helper.make_node("If", ["c"], ["i"], then_branch=then, else_branch=other),
        helper.make_node("Twice", ["i"], ["t"], domain="own"),
        helper.make_node("Identity", ["t"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "branches",
        [helper.make_tensor_value_info("x", T.FLOAT, [4]), helper.make_tensor_value_info("c", T.BOOL, [])],
        [helper.make_tensor_value_info("y", T.FLOAT, [4])],
        [numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")],
        doc_string="about the graph",
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1])
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=[twice])


def main():
    HERE.mkdir(exist_ok=True)
    save = lambda m, name: (onnx.checker.check_model(m, full_check=True), onnx.save(m, HERE / name))
    for opset in (7, 9, 11, 13, 17, 21):
        save(model(opset), f"opset{opset}.onnx")
    save(model(13, "typed"), "typed.onnx")
    save(model(13, "constants"), "constants.onnx")
    save(constants_of_all_kinds(), "constant_kinds.onnx")
    save(element_types(), "types.onnx")
    save(subgraph_and_function(), "subgraph.onnx")
    external = model(17)
    (HERE / "external.bin").unlink(missing_ok=True)
    onnx.save(
        external, HERE / "external.onnx", save_as_external_data=True, location="external.bin", size_threshold=0
    )


if __name__ == "__main__":
    main()
