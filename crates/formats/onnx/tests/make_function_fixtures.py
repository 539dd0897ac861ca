"""Makes fixtures/functions/*.onnx: networks with functions of their own, which onnxruntime runs; expected.json holds their outputs
for the input of `inputs`. The second file is made by onnxscript."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import onnxscript
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnxscript import FLOAT
from onnxscript import opset18 as op

HERE = Path(__file__).parent / "fixtures" / "functions"
RNG = np.random.default_rng(5)
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("layers", 1)]


def values(*shape):
    return (RNG.standard_normal(shape) / 2).astype(np.float32)


def tensor(name, array):
    return numpy_helper.from_array(np.asarray(array), name)


def constant(name, *shape):
    return helper.make_node("Constant", [], [name], value=tensor("", values(*shape)))


def reference(node, name, to, kind):
    attribute = onnx.AttributeProto(name=name, ref_attr_name=to, type=kind)
    node.attribute.append(attribute)
    return node


def info(name, shape):
    return helper.make_tensor_value_info(name, T.FLOAT, shape)


def function(name, inputs, outputs, nodes, attributes=(), defaults=()):
    return helper.make_function("layers", name, inputs, outputs, nodes, OPSETS, list(attributes), list(defaults))


def dense():
    """A matrix that the caller gives, and an optional bias."""
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)]
    return function("Dense", ["x", "w", "b"], ["y"], nodes)


def block():
    """A matrix of its own, a slope from the call, a call of another function, a branch that reads values of the function and
    calls a function, an output that is a constant."""
    other = helper.make_graph(
        [
            helper.make_node("Mul", ["h", "scale"], ["t"]),
            helper.make_node("Dense", ["t", "inner"], ["o"], domain="layers"),
        ],
        "other",
        [],
        [info("o", None)],
        [tensor("inner", values(6, 6))],
    )
    same = helper.make_graph([helper.make_node("Identity", ["h"], ["s"])], "same", [], [info("s", None)])
    nodes = [
        constant("w", 6, 6),
        helper.make_node("Constant", [], ["scale"], value_float=0.5),
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("MatMul", ["x", "w"], ["m"], name="product"),
        helper.make_node("Dense", ["m", "v", "b"], ["d"], domain="layers", name="second"),
        reference(helper.make_node("LeakyRelu", ["d"], ["h"]), "alpha", "slope", onnx.AttributeProto.FLOAT),
        helper.make_node("ReduceSum", ["h"], ["total"], keepdims=0),
        helper.make_node("Greater", ["total", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], name="choice", then_branch=other, else_branch=same),
    ]
    slope = helper.make_attribute("slope", 0.25)
    return function("Block", ["x", "v", "b"], ["y", "scale", "d"], nodes, defaults=[slope])


def layers():
    call = lambda inputs, outputs, name, **kw: helper.make_node("Block", inputs, outputs, name=name, domain="layers", **kw)
    nodes = [
        call(["x", "v1", "b1"], ["a", "", ""], "first"),
        call(["a", "v2"], ["c", "half", ""], "second", slope=-0.5),
        call(["c", "v1", "b1"], ["e", "", "deep"], "third", slope=0.75),
        helper.make_node("Mul", ["a", "half"], ["f"]),
        helper.make_node("Sum", ["e", "f", "deep"], ["first/m"]),
        helper.make_node("Dense", ["first/m", "v3"], ["y"], name="last", domain="layers"),
    ]
    weights = [tensor(n, values(6, 6)) for n in ("v1", "v2")] + [tensor("b1", values(6)), tensor("v3", values(3, 6))]
    graph = helper.make_graph(nodes, "layers", [info("x", [2, 6])], [info("y", [2, 3])], weights)
    return helper.make_model(graph, functions=[block(), dense()], opset_imports=OPSETS, ir_version=9)


def old():
    """A function of an older operator set than the network's."""
    body = helper.make_node("Dense", ["x", "w"], ["h"], name="layer", domain="layers")
    nodes = [body, helper.make_node("MatMul", ["h", "v"], ["y"], name="last")]
    weights = [tensor("w", values(6, 6)), tensor("v", values(6, 3))]
    graph = helper.make_graph(nodes, "old", [info("x", [2, 6])], [info("y", [2, 3])], weights)
    function = dense()
    function.opset_import[0].version = 17
    return helper.make_model(graph, functions=[function], opset_imports=OPSETS, ir_version=9)


LAYERS = onnxscript.values.Opset("scripted", 1)
FIRST, SECOND = (tensor("w", values(*shape)) for shape in ((6, 8), (8, 3)))


@onnxscript.script(LAYERS)
def Gelu(x: FLOAT, factor: float):
    half = op.Constant(value_float=0.5)
    return half * x * (1.0 + op.Erf(x * op.Constant(value_float=factor)))


@onnxscript.script(LAYERS)
def Perceptron(x: FLOAT):
    hidden = Gelu(op.MatMul(x, op.Constant(value=FIRST)), factor=0.70710678)
    return op.MatMul(hidden, op.Constant(value=SECOND))


@onnxscript.script(LAYERS, default_opset=op)
def Network(x: FLOAT[2, 6]) -> FLOAT[2, 3]:
    return Perceptron(x) + Perceptron(x * 2.0)


def scripted():
    return Network.to_model_proto(ir_version=9)


def inputs():
    return (np.arange(12, dtype=np.float32).reshape(2, 6) - 5) / 4


def main():
    HERE.mkdir(exist_ok=True)
    expected = {}
    for name, model in (("layers", layers()), ("scripted", scripted()), ("old", old())):
        onnx.checker.check_model(model)
        assert len(model.functions) == (1 if name == "old" else 2), name
        path = HERE / f"{name}.onnx"
        onnx.save(model, path)
        session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (y,) = session.run(None, {session.get_inputs()[0].name: inputs()})
        assert y.std() > 0.1, y
        expected[name] = y.ravel().tolist()
    (HERE / "expected.json").write_text(json.dumps(expected) + "\n")


main()
