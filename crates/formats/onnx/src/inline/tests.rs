//! Functions that ONNX's own tools would not make, and calls that do not fit.

use prost::Message;
use prost::bytes::Bytes;
use slq_graph::{Graph, Node};

use crate::proto::{
    AttributeProto, FunctionProto, GraphProto, KeyValue, Model, NodeProto, OperatorSet, TensorProto,
    TensorType, TypeProto, ValueInfoProto, kind,
};
use crate::{WriteOptions, notes, read_bytes, write_bytes};

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|s| s.to_string()).collect()
}

fn value(name: &str) -> ValueInfoProto {
    let tensor_type = Some(TensorType { elem_type: Some(1), shape: None });
    ValueInfoProto { name: Some(name.into()), ty: Some(TypeProto { tensor_type, ..TypeProto::default() }) }
}

fn node(op: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    let (input, output) = (owned(inputs), owned(outputs));
    NodeProto { op_type: Some(op.into()), input, output, ..NodeProto::default() }
}

/// A call of a function.
fn call(function: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: Some("d".into()), ..node(function, inputs, outputs) }
}

fn with(mut node: NodeProto, attribute: AttributeProto) -> NodeProto {
    node.attribute.push(encode(&attribute));
    node
}

fn float(name: &str, value: f32) -> AttributeProto {
    let (name, f) = (Some(name.into()), Some(value));
    AttributeProto { name, f, kind: Some(kind::FLOAT), ..AttributeProto::default() }
}

fn reference(name: &str, to: &str, kind: i32) -> AttributeProto {
    let (name, ref_attr_name) = (Some(name.into()), Some(to.into()));
    AttributeProto { name, ref_attr_name, kind: Some(kind), ..AttributeProto::default() }
}

fn constant(name: &str, tensor: TensorProto) -> NodeProto {
    let value = AttributeProto {
        name: Some("value".into()),
        t: Some(tensor),
        kind: Some(kind::TENSOR),
        ..AttributeProto::default()
    };
    with(node("Constant", &[], &[name]), value)
}

fn matrix() -> TensorProto {
    let (dims, float_data) = (vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
    TensorProto { dims, data_type: Some(1), float_data, ..TensorProto::default() }
}

fn sets(sets: &[(&str, i64)]) -> Vec<OperatorSet> {
    sets.iter().map(|(d, v)| OperatorSet { domain: Some((*d).into()), version: Some(*v) }).collect()
}

fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: &[NodeProto]) -> FunctionProto {
    FunctionProto {
        name: Some(name.into()),
        domain: Some("d".into()),
        input: owned(inputs),
        output: owned(outputs),
        node: nodes.iter().map(encode).collect(),
        opset_import: sets(&[("", 13), ("d", 1)]),
        ..FunctionProto::default()
    }
}

fn model(functions: &[FunctionProto], nodes: &[NodeProto]) -> Model {
    Model {
        ir_version: Some(8),
        opset_import: sets(&[("", 13), ("d", 1)]),
        functions: functions.iter().map(encode).collect(),
        graph: Some(GraphProto {
            name: Some("g".into()),
            node: nodes.iter().map(encode).collect(),
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        }),
        ..Model::default()
    }
}

fn read(model: &Model) -> Graph {
    read_bytes(&model.encode_to_vec()).unwrap()
}

fn operators(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.op.as_str()).collect()
}

/// The functions that a file written from `graph` has.
fn functions_written(graph: &Graph) -> usize {
    let bytes = write_bytes(graph, &WriteOptions::default()).unwrap();
    assert!(!String::from_utf8_lossy(&bytes).contains("slq.onnx."), "notes are not written");
    Model::decode(bytes.as_slice()).unwrap().functions.len()
}

fn relu(name: &str) -> FunctionProto {
    function(name, &["a"], &["b"], &[node("Relu", &["a"], &["b"])])
}

#[test]
fn a_call_that_cannot_be_written_out_stays_and_is_named() {
    let one = || [call("F", &["x"], &["y"])];
    let nodes = |nodes: &[NodeProto]| function("F", &["a"], &["b"], nodes);
    let twice = [node("Relu", &["a"], &["b"]), node("Abs", &["a"], &["b"])];
    let ask = |kind| with(node("LeakyRelu", &["a"], &["b"]), reference("alpha", "slope", kind));
    let slope = |value| with(call("F", &["x"], &["y"]), value);
    let integer = AttributeProto { i: Some(3), kind: Some(kind::INT), ..float("slope", 0.0) };
    let old = FunctionProto { opset_import: sets(&[("", 12)]), ..relu("F") };
    let silent = FunctionProto { opset_import: Vec::new(), ..relu("F") };
    let own = FunctionProto { domain: Some("ai.onnx".into()), ..relu("Relu") };
    let cases: Vec<(&str, Model, &str)> = vec![
        ("recursion", model(&[nodes(&[call("F", &["a"], &["b"])])], &one()), "d.F: it calls itself"),
        (
            "recursion of two",
            model(
                &[
                    nodes(&[call("G", &["a"], &["b"])]),
                    function("G", &["a"], &["b"], &[call("F", &["a"], &["b"])]),
                ],
                &one(),
            ),
            "d.F: it calls itself, by itself or through others",
        ),
        (
            "operator set",
            model(&[old], &one()),
            "version 12 of the operators of ONNX, the network for version 13",
        ),
        ("no operator set", model(&[silent], &one()), "does not say for which version"),
        (
            "own domain",
            model(&[own], &[node("Relu", &["x"], &["y"])]),
            "Relu: it has the name of an operator of ONNX",
        ),
        ("two of a name", model(&[relu("F"), relu("F")], &one()), "two functions have this name"),
        ("undefined", model(&[nodes(&[node("Add", &["a", "x"], &["b"])])], &one()), "reads `x`"),
        ("written twice", model(&[nodes(&twice)], &one()), "defines `b` twice"),
        (
            "unwritten",
            model(&[nodes(&[node("Relu", &["a"], &["c"])])], &one()),
            "does not write its output `b`",
        ),
        ("inputs", model(&[relu("F")], &[call("F", &["x", "x"], &["y"])]), "called with 2 inputs, and has 1"),
        (
            "outputs",
            model(&[relu("F")], &[call("F", &["x"], &["y", "z"])]),
            "called with 2 outputs, and has 1",
        ),
        ("type", model(&[nodes(&[ask(kind::FLOAT)])], &[slope(integer.clone())]), "`slope` of another type"),
        ("graph", model(&[nodes(&[ask(kind::GRAPH)])], &one()), "takes attribute `slope`"),
        (
            "handed on",
            model(&[function("F", &["a", "b"], &["b"], &[])], &[call("F", &["x"], &["y"])]),
            "hands on its input `b`",
        ),
    ];
    for (name, model, expected) in cases {
        let graph = read(&model);
        let said = notes(&graph);
        assert!(said.len() == 1 && said[0].contains(expected), "{name}: {said:?}");
        assert_eq!(graph.nodes.len(), 1, "{name}");
        assert_eq!(functions_written(&graph), model.functions.len(), "{name}");
        let again = read_bytes(&write_bytes(&graph, &WriteOptions::default()).unwrap()).unwrap();
        assert_eq!(again, graph, "{name}");
    }
    let graph = read(&model(&[relu("F")], &[call("Missing", &["x"], &["y"])]));
    assert_eq!((operators(&graph), notes(&graph).len()), (vec!["Missing"], 0), "a custom operator as ever");
    assert_eq!(functions_written(&graph), 1, "a function that nothing calls stays");
}

#[test]
fn inputs_outputs_and_attributes_go_where_the_call_says() {
    let body = [
        with(node("LeakyRelu", &["a"], &["b"]), reference("alpha", "slope", kind::FLOAT)),
        node("Clip", &["b", "low"], &["c"]),
        node("Abs", &["c"], &["unused"]),
    ];
    let f = function("F", &["a", "low"], &["c", "unused", "a", "c"], &body);
    let calls = [
        with(call("F", &["x"], &["p", "", "q"]), float("slope", 0.5)),
        call("F", &["p", "q"], &["y", "", "", "z"]),
    ];
    let graph = read(&model(&[f], &calls));
    assert!(notes(&graph).is_empty(), "{:?}", notes(&graph));
    let find = |op: &str| graph.nodes.iter().filter(|n| n.op == op).collect::<Vec<&Node>>();
    let slopes: Vec<f32> = find("LeakyRelu").iter().map(|n| n.float("alpha", 0.01)).collect();
    assert_eq!(slopes, [0.5, 0.01], "without a value the attribute is left out");
    let clips: Vec<_> = find("Clip").iter().map(|n| n.inputs[1].as_str()).collect();
    assert_eq!(clips, ["", "q"]);
    let copies: Vec<_> =
        find("Identity").iter().map(|n| (n.inputs[0].as_str(), n.outputs[0].as_str())).collect();
    assert_eq!(copies, [("x", "q"), ("y", "z")]);
    assert_eq!(functions_written(&graph), 0);
}

#[test]
fn names_in_use_are_avoided_also_those_of_bodies() {
    let inner = GraphProto {
        node: vec![encode(&node("Neg", &["x"], &["p/h"]))],
        output: vec![value("p/h")],
        ..GraphProto::default()
    };
    let branch = |name: &str, graph: &GraphProto| AttributeProto {
        name: Some(name.into()),
        g: Some(encode(graph)),
        kind: Some(kind::GRAPH),
        ..AttributeProto::default()
    };
    let condition =
        with(with(node("If", &["x"], &["s"]), branch("then_branch", &inner)), branch("else_branch", &inner));
    let f = function("F", &["a"], &["b"], &[node("Relu", &["a"], &["h"]), node("Abs", &["h"], &["b"])]);
    let calls = [condition, call("F", &["s"], &["p"]), call("F", &["p"], &["y"])];
    let graph = read(&model(&[f], &calls));
    let values: Vec<_> = graph.nodes.iter().map(|n| n.outputs[0].as_str()).collect();
    assert_eq!(values, ["s", "p/h_1", "p", "y/h", "y"]);
}

#[test]
fn a_body_in_a_function_keeps_its_names_apart_and_reads_the_function() {
    let inner = GraphProto {
        node: vec![encode(&node("MatMul", &["h", "w"], &["o"])), encode(&call("G", &["o"], &["r"]))],
        output: vec![value("r")],
        initializer: vec![encode(&TensorProto { name: Some("w".into()), ..matrix() })],
        ..GraphProto::default()
    };
    let branch = |name: &str| AttributeProto {
        name: Some(name.into()),
        g: Some(encode(&inner)),
        kind: Some(kind::GRAPH),
        ..AttributeProto::default()
    };
    let choice = with(with(node("If", &["a"], &["b"]), branch("then_branch")), branch("else_branch"));
    let f = function("F", &["a"], &["b"], &[node("Abs", &["a"], &["h"]), choice]);
    let graph = read(&model(&[f, relu("G")], &[call("F", &["x"], &["p"]), call("F", &["p"], &["y"])]));
    assert!(notes(&graph).is_empty(), "{:?}", notes(&graph));
    let bodies: Vec<_> =
        graph.nodes.iter().filter_map(|n| n.bodies().filter(|b| !b.nodes.is_empty())).collect();
    assert_eq!(bodies.len(), 2);
    let inside: Vec<_> = bodies[1].nodes.iter().map(|n| n.op.as_str()).collect();
    assert_eq!(inside, ["MatMul", "Relu", "MatMul", "Relu"], "a call inside a body, too");
    assert!(bodies[0].reads.contains("p/h") && bodies[1].reads.contains("y/h"), "{bodies:?}");
    assert_eq!(graph.weights.len(), 4, "each body's matrix is a weight");
    assert_eq!(functions_written(&graph), 0);
}

#[test]
fn a_function_with_a_function_that_stays_is_written_out_around_it() {
    let other = FunctionProto { opset_import: sets(&[("", 12)]), domain: Some("e".into()), ..relu("Old") };
    let deep = NodeProto { domain: Some("e".into()), ..node("Old", &["a"], &["h"]) };
    let abs = NodeProto { domain: Some("com.microsoft".into()), ..node("Gelu", &["h"], &["b"]) };
    let mut f = function("F", &["a"], &["b"], &[deep, abs]);
    f.opset_import.extend(sets(&[("e", 3), ("com.microsoft", 1)]));
    let graph = read(&model(&[f, other, relu("Never")], &[call("F", &["x"], &["y"])]));
    assert_eq!(operators(&graph), ["Old", "Gelu"]);
    assert!(notes(&graph)[0].contains("e.Old"), "{:?}", notes(&graph));
    let mut domains = graph.metadata.domains.clone();
    domains.sort();
    assert_eq!(domains, [("com.microsoft".into(), 1), ("d".into(), 1), ("e".into(), 3)]);
    assert_eq!(functions_written(&graph), 2, "the one that stays, and the one that is never called");
}

#[test]
fn functions_that_would_fill_the_memory_stay() {
    let doubled = |i: usize, inner: &[NodeProto]| function(&format!("F{i}"), &["a"], &["b"], inner);
    let twice = |i: usize| {
        let name = format!("F{}", i - 1);
        doubled(i, &[call(&name, &["a"], &["m"]), call(&name, &["m"], &["b"])])
    };
    for bottom in [vec![node("Relu", &["a"], &["b"])], Vec::new()] {
        let mut functions = vec![doubled(0, &bottom)];
        if bottom.is_empty() {
            functions[0].output = owned(&["a"]);
        }
        functions.extend((1..50).map(twice));
        let graph = read(&model(&functions, &[call("F49", &["x"], &["y"])]));
        assert_eq!(operators(&graph), ["F49"]);
        assert!(notes(&graph)[0].contains("more than 262144 steps"), "{:?}", notes(&graph));
        assert_eq!(functions_written(&graph), 50);
    }
    let chain = |i: usize| doubled(i, &[call(&format!("F{}", i - 1), &["a"], &["b"])]);
    let functions: Vec<_> = std::iter::once(relu("F0")).chain((1..200).map(chain)).collect();
    let graph = read(&model(&functions, &[call("F199", &["x"], &["y"])]));
    assert!(notes(&graph)[0].contains("more than 64 deep"), "{:?}", notes(&graph));
    // One large name for each of many values.
    let long = "n".repeat(1 << 20);
    let body: Vec<_> = (0..100).map(|i| node("Relu", &["a"], &[&format!("{long}{i}")])).collect();
    let mut f = function("F", &["a"], &[&format!("{long}0")], &body);
    f.name = Some("F".into());
    let calls: Vec<_> = (0..50)
        .map(|i| call("F", &["x"], &[&format!("y{i}")]))
        .chain([node("Abs", &["y0"], &["y"])])
        .collect();
    let graph = read(&model(&[f], &calls));
    assert!(notes(&graph)[0].contains("bytes"), "{:?}", notes(&graph));
}

#[test]
fn a_constant_of_a_function_is_one_weight() {
    let body = [constant("w", matrix()), node("MatMul", &["a", "w"], &["b"])];
    let f = || function("F", &["a"], &["b"], &body);
    let calls = [call("F", &["x"], &["p"]), call("F", &["p"], &["y"])];
    let graph = read(&model(&[f()], &calls));
    assert_eq!(graph.quantizable().len(), 1);
    assert_eq!(graph.weights.keys().collect::<Vec<_>>(), ["F/w"]);
    // Training information may call the function, so that it stays.
    let trained = Model { training_info: vec![Bytes::from_static(b"\x0a\x00")], ..model(&[f()], &calls) };
    let graph = read(&trained);
    assert_eq!((operators(&graph), functions_written(&graph)), (vec!["MatMul", "MatMul"], 1));
}

#[test]
fn an_overloaded_function_is_written_out_and_one_that_stays_is_refused() {
    let overloaded = |name: &str| NodeProto { overload: Some(name.into()), ..call("F", &["x"], &["y"]) };
    let f = FunctionProto { overload: Some("two".into()), ..relu("F") };
    let graph = read(&model(std::slice::from_ref(&f), &[overloaded("two")]));
    assert_eq!(operators(&graph), ["Relu"]);
    let error = read_bytes(&model(&[f], &[overloaded("three")]).encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("overloaded"), "{error}");
}

#[test]
fn a_function_that_stays_may_not_hold_data_of_other_files() {
    let entry = KeyValue { key: Some("location".into()), value: Some("data".into()) };
    let outside = TensorProto {
        float_data: Vec::new(),
        data_location: Some(1),
        external_data: vec![entry],
        ..matrix()
    };
    let body = [constant("w", outside), node("MatMul", &["a", "w"], &["b"])];
    let mut f = function("F", &["a"], &["b"], &body);
    f.opset_import = sets(&[("", 12)]);
    let error = read_bytes(&model(&[f.clone()], &[call("F", &["x"], &["y"])]).encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("function `F` of the model holds external data"), "{error}");
    // Written out, it is a weight as any other.
    f.opset_import = sets(&[("", 13)]);
    let error = read_bytes(&model(&[f], &[call("F", &["x"], &["y"])]).encode_to_vec()).unwrap_err();
    assert!(error.to_string().contains("place of the model is not known"), "{error}");
}
