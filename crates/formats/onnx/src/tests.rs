//! Models that ONNX's own tools would not make.

use prost::Message;
use prost::bytes::Bytes;
use slq_graph::{Graph, Palette, Weight};

use crate::proto::{
    AttributeProto, GraphProto, KeyValue, Model, NodeProto, OperatorSet, OtherType, TensorProto, TensorType,
    TypeProto, ValueInfoProto,
};
use crate::{OnnxError, WriteOptions, read_bytes, restore, write_bytes};

fn encode(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

fn value(name: &str) -> ValueInfoProto {
    let tensor_type = Some(TensorType { elem_type: Some(1), shape: None });
    ValueInfoProto { name: Some(name.into()), ty: Some(TypeProto { tensor_type, ..TypeProto::default() }) }
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(1),
        float_data: values.to_vec(),
        ..TensorProto::default()
    }
}

fn node(op: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        op_type: Some(op.into()),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn model(tensors: &[TensorProto], nodes: &[NodeProto]) -> Model {
    Model {
        ir_version: Some(7),
        opset_import: vec![OperatorSet { domain: None, version: Some(13) }],
        graph: Some(GraphProto {
            name: Some("g".into()),
            initializer: tensors.iter().map(encode).collect(),
            node: nodes.iter().map(encode).collect(),
            input: vec![value("x")],
            output: vec![value("y")],
            ..GraphProto::default()
        }),
        ..Model::default()
    }
}

fn relu() -> [NodeProto; 1] {
    [node("Relu", &["x"], "y")]
}

fn with_tensor(change: impl FnOnce(&mut TensorProto)) -> Model {
    let mut tensor = floats("w", &[2], &[1.0, 2.0]);
    change(&mut tensor);
    model(&[tensor], &relu())
}

fn with_model(change: impl FnOnce(&mut Model)) -> Model {
    let mut model = model(&[floats("w", &[2], &[1.0, 2.0])], &relu());
    change(&mut model);
    model
}

fn error(model: &Model) -> String {
    read_bytes(&model.encode_to_vec()).map(|_| "no error".to_string()).unwrap_or_else(|e| e.to_string())
}

#[test]
fn each_damage_has_its_own_sentence() {
    assert_eq!(error(&with_model(|_| ())), "no error", "the undamaged model");
    let set = |v: i64| vec![OperatorSet { domain: Some("ai.onnx".into()), version: Some(v) }];
    let attribute = |kind| {
        let proto = AttributeProto { name: Some("a".into()), kind: Some(kind), ..AttributeProto::default() };
        NodeProto { attribute: vec![encode(&proto)], ..node("Relu", &["x"], "y") }
    };
    let overload = NodeProto { overload: Some("other".into()), ..node("F", &["x"], "y") };
    let cycle = [node("Add", &["x", "b"], "a"), node("Relu", &["a"], "b"), node("Relu", &["b"], "y")];
    let cases = [
        ("no graph", with_model(|m| m.graph = None), "no graph"),
        ("IR 2", with_model(|m| m.ir_version = Some(2)), "IR version 2"),
        ("IR 99", with_model(|m| m.ir_version = Some(99)), "IR version 99"),
        ("no opset", with_model(|m| m.opset_import.clear()), "no version of the ONNX operator set"),
        ("opset 6", with_model(|m| m.opset_import = set(6)), "operator set 6"),
        ("opset 99", with_model(|m| m.opset_import = set(99)), "operator set 99"),
        ("two opsets", with_model(|m| m.opset_import.extend(set(12))), "declared with two versions"),
        (
            "sparse",
            with_model(|m| m.graph.as_mut().unwrap().sparse_initializer = vec![Bytes::new()]),
            "1 sparse initializers",
        ),
        ("nameless weight", with_tensor(|t| t.name = None), "initializer 0 has no name"),
        (
            "two weights",
            model(&[floats("w", &[], &[1.0]), floats("w", &[], &[1.0])], &relu()),
            "weight `w` is defined twice",
        ),
        ("negative", with_tensor(|t| t.dims = vec![-1]), "negative dimension -1"),
        ("overflow", with_tensor(|t| t.dims = vec![1 << 40, 1 << 40]), "2 stored elements"),
        ("overflow to 0", with_tensor(|t| t.dims = vec![1 << 40, 1 << 40, 0]), "2 stored elements"),
        ("huge", with_tensor(|t| t.dims = vec![1 << 40]), "2 stored elements"),
        (
            "huge raw",
            with_tensor(|t| (t.dims, t.raw_data) = (vec![1 << 40], Some(Bytes::from_static(b"1234")))),
            "4 stored bytes",
        ),
        ("segment", with_tensor(|t| t.segment = Some(Bytes::new())), "stored in segments"),
        (
            "range",
            with_tensor(|t| (t.data_type, t.int32_data) = (Some(2), vec![1, 256])),
            "256, outside the range",
        ),
        (
            "external in memory",
            with_tensor(|t| t.data_location = Some(1)),
            "the place of the model is not known",
        ),
        ("operator", model(&[], &[node("", &["x"], "y")]), "node 0 names no operator"),
        ("overload", model(&[], &[overload]), "overloaded"),
        ("attribute", model(&[], &[attribute(15)]), "unknown kind 15"),
        ("untyped attribute", model(&[], &[attribute(0)]), "unknown kind 0"),
        ("undefined input", model(&[], &[node("Relu", &["z"], "y")]), "`z`"),
        ("undefined output", model(&[], &[node("Relu", &["x"], "z")]), "output `y`"),
        ("cycle", model(&[], &cycle), "cycle"),
        ("written twice", model(&[], &[relu()[0].clone(), relu()[0].clone()]), "`y`"),
        (
            "input type",
            with_model(|m| m.graph.as_mut().unwrap().input[0].ty = None),
            "`x` is of no declared type, not a tensor",
        ),
    ];
    let failed: Vec<_> = cases
        .iter()
        .map(|(name, model, expected)| (name, error(model), expected))
        .filter(|(_, found, expected)| !found.contains(*expected))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

/// An attribute with sub-graphs nested `depth` deep, the innermost with an initializer.
fn nested(depth: usize, innermost: TensorProto) -> AttributeProto {
    let mut graph = GraphProto { initializer: vec![encode(&innermost)], ..GraphProto::default() };
    let attribute = |graph: &GraphProto| AttributeProto {
        name: Some("body".into()),
        kind: Some(5),
        g: Some(encode(graph)),
        ..AttributeProto::default()
    };
    for _ in 1..depth {
        let inner = NodeProto { attribute: vec![encode(&attribute(&graph))], ..node("If", &[], "i") };
        graph = GraphProto { node: vec![encode(&inner)], ..GraphProto::default() };
    }
    attribute(&graph)
}

#[test]
fn subgraphs_are_looked_through_to_a_bounded_depth() {
    let outer =
        |a: AttributeProto| model(&[], &[NodeProto { attribute: vec![encode(&a)], ..relu()[0].clone() }]);
    let plain = || floats("w", &[], &[1.0]);
    assert_eq!(error(&outer(nested(10, plain()))), "no error");
    assert!(error(&outer(nested(2000, plain()))).contains("nested more than 16 deep"));
    let external = TensorProto { data_location: Some(1), ..plain() };
    assert!(error(&outer(nested(3, external))).contains("external data"));
}

#[test]
fn nodes_out_of_order_are_sorted() {
    let late = [node("Relu", &["a"], "y"), node("Relu", &["x"], "a")];
    let graph = read_bytes(&model(&[], &late).encode_to_vec()).unwrap();
    let outputs: Vec<_> = graph.nodes.iter().map(|n| n.outputs[0].as_str()).collect();
    assert_eq!(outputs, ["a", "y"]);
}

/// A palettized model and the graph it was made from.
fn palettized(groups: usize) -> (Graph, Model) {
    let tensor = floats("w", &[4, 5], &[0.0; 20]);
    let proto = model(&[tensor], &[node("MatMul", &["x", "w"], "y")]);
    let mut graph = read_bytes(&proto.encode_to_vec()).unwrap();
    let codes = (0..20).map(|i| i % 3).collect();
    let book = (0..3 * groups).map(|i| i as f32 - 1.0).collect();
    let palette = Palette::fully_fixed(book, groups, codes).unwrap();
    let tensor = slq_graph::Tensor::f32(vec![4, 5], palette.decode()).unwrap();
    graph.weights.insert("w".into(), Weight { palette: Some(palette), ..Weight::from(tensor) });
    let bytes = write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert_eq!(read_bytes(&bytes).unwrap(), graph);
    (graph, Model::decode(bytes.as_slice()).unwrap())
}

fn property(model: &mut Model) -> &mut String {
    let entry = model.metadata_props.iter_mut().find(|e| e.key.as_deref() == Some(restore::PROPERTY));
    entry.and_then(|e| e.value.as_mut()).expect("the property is there")
}

/// Replaces the initializer `name`, decoded and encoded.
fn change_tensor(model: &mut Model, name: &str, change: impl Fn(&mut TensorProto)) {
    let tensors = &mut model.graph.as_mut().unwrap().initializer;
    let mut changed = 0;
    for bytes in tensors.iter_mut() {
        let mut tensor = TensorProto::decode(bytes.clone()).unwrap();
        if tensor.name.as_deref() == Some(name) {
            change(&mut tensor);
            *bytes = encode(&tensor);
            changed += 1;
        }
    }
    assert_eq!(changed, 1, "{name}");
}

#[test]
fn without_the_property_the_file_is_an_ordinary_model() {
    let (graph, mut model) = palettized(1);
    model.metadata_props.clear();
    let plain = read_bytes(&model.encode_to_vec()).unwrap();
    assert!(plain.nodes.len() > graph.nodes.len(), "the unpacking nodes stay");
    assert!(plain.weights.values().all(|w| w.palette.is_none()));
    assert!(plain.producer_of("w").is_some());
}

#[test]
fn a_property_that_disagrees_with_the_file_is_refused() {
    type Damage = fn(&mut Model);
    fn text(model: &mut Model, from: &str, to: &str) {
        let property = property(model);
        assert!(property.contains(from), "{property}");
        *property = property.replace(from, to);
    }
    let cases: [(&str, Damage, &str); 18] = [
        ("not JSON", |m| property(m).truncate(9), "cannot be understood"),
        ("version", |m| text(m, "\"version\":1", "\"version\":2"), "has version 2"),
        ("bits", |m| text(m, "\"bits\":2", "\"bits\":3"), "do not fit together"),
        ("k", |m| text(m, "\"k\":3", "\"k\":4"), "centroids do not fit"),
        ("k 0", |m| text(m, "\"k\":3", "\"k\":0"), "do not fit together"),
        ("groups 0", |m| text(m, "\"groups\":2", "\"groups\":0"), "do not fit together"),
        ("groups 4", |m| text(m, "\"groups\":2", "\"groups\":4"), "centroids do not fit"),
        ("shape", |m| text(m, "[4,5]", "[4,50]"), "centroids do not fit"),
        ("same count", |m| text(m, "[4,5]", "[5,4]"), "constant `slq.0t` has another value"),
        ("overflow", |m| text(m, "[4,5]", "[4294967296,4294967296,2]"), "do not fit together"),
        ("name", |m| text(m, "\"w\"", "\"v\""), "no node writes `v`"),
        ("input", |m| text(m, "\"w\"", "\"x\""), "it is an input of the graph"),
        ("prefix", |m| text(m, "\"slq\"", "\"other\""), "`other.0` is missing"),
        (
            "matrix",
            |m| change_tensor(m, "slq.m2", |t| t.raw_data = Some(vec![0; 64].into())),
            "constant `slq.m2`",
        ),
        (
            "code",
            |m| change_tensor(m, "slq.0", |t| t.raw_data = Some(vec![255, 255, 255, 255, 255, 0].into())),
            "code 3",
        ),
        (
            "padding",
            |m| change_tensor(m, "slq.0", |t| t.raw_data = Some(vec![0, 0, 0, 0, 0, 1].into())),
            "not zero",
        ),
        ("missing codes", |m| change_tensor(m, "slq.0", |t| t.name = Some("u".into())), "`slq.0`"),
        ("missing node", |m| drop(m.graph.as_mut().unwrap().node.remove(1)), "no node writes `slq.0b`"),
    ];
    for (name, damage, expected) in cases {
        let (_, mut model) = palettized(2);
        damage(&mut model);
        let found = error(&model);
        assert!(found.contains(expected), "{name}: {found}");
    }
}

#[test]
fn an_altered_node_is_refused() {
    let (_, clean) = palettized(2);
    for position in 0..clean.graph.as_ref().unwrap().node.len() - 1 {
        let mut model = clean.clone();
        let bytes = &mut model.graph.as_mut().unwrap().node[position];
        let mut node = NodeProto::decode(bytes.clone()).unwrap();
        node.op_type = Some("Identity".into());
        *bytes = encode(&node);
        assert!(error(&model).contains("is another one"), "node {position}");
    }
}

#[test]
fn a_graph_may_spell_out_onnxs_own_domain_and_hold_nan() {
    let mut graph = read_bytes(&with_model(|_| ()).encode_to_vec()).unwrap();
    graph.nodes[0].domain = "ai.onnx".into();
    graph.nodes[0].attributes.insert("a".into(), slq_graph::Attribute::Float(f32::NAN));
    graph.weights["w"].tensor.as_f32_mut().unwrap()[1] = f32::NAN;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    crate::write(&graph, &path, &WriteOptions::default()).unwrap();
    assert!(crate::read(&path).unwrap().nodes[0].domain.is_empty());
}

#[test]
fn names_in_use_are_avoided() {
    let tensors = [floats("slq.0", &[1, 2], &[1.0, 1.0]), floats("slq1.m1", &[], &[1.0])];
    let nodes = [node("MatMul", &["x", "slq.0"], "slq2.a"), node("Relu", &["slq2.a"], "y")];
    let mut graph = read_bytes(&model(&tensors, &nodes).encode_to_vec()).unwrap();
    let palette = Palette::fully_fixed(vec![1.0], 1, vec![0, 0]).unwrap();
    graph.weights["slq.0"].palette = Some(palette);
    let bytes = write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert_eq!(read_bytes(&bytes).unwrap(), graph);
    let mut model = Model::decode(bytes.as_slice()).unwrap();
    assert!(property(&mut model).contains("\"prefix\":\"slq3\""));
}

#[test]
fn fields_without_a_place_in_the_graph_survive() {
    let mut proto = with_model(|m| {
        m.ir_version = Some(11);
        m.domain = Some("org.example".into());
        m.model_version = Some(12);
        m.training_info = vec![Bytes::from_static(b"\x0a\x00")];
        let graph = m.graph.as_mut().unwrap();
        graph.doc_string = Some("doc".into());
        graph.quantization_annotation = vec![Bytes::from_static(b"\x0a\x01w")];
    });
    let graph = read_bytes(&proto.encode_to_vec()).unwrap();
    let mut back = Model::decode(write_bytes(&graph, &WriteOptions::default()).unwrap().as_slice()).unwrap();
    for model in [&mut proto, &mut back] {
        let graph = model.graph.as_mut().unwrap();
        (graph.node, graph.initializer) = (Vec::new(), Vec::new());
        model.opset_import.clear();
    }
    assert_eq!(back, proto);
}

#[test]
fn broken_extras_are_an_error_not_a_panic() {
    let mut graph = read_bytes(&with_model(|_| ()).encode_to_vec()).unwrap();
    for (key, value) in [("slq.onnx.rest", "***"), ("slq.onnx.ir_version", "many")] {
        graph.metadata.properties = [(key.to_string(), value.to_string())].into_iter().collect();
        let error = write_bytes(&graph, &WriteOptions::default()).unwrap_err();
        assert!(matches!(error, OnnxError::Extra { .. }), "{error}");
    }
}

#[test]
fn reserved_properties_of_a_file_are_not_taken_over() {
    let pair = |k: &str| KeyValue { key: Some(k.into()), value: Some("x".into()) };
    let model = with_model(|m| m.metadata_props = vec![pair("slq.onnx.rest"), pair("slq.other")]);
    let graph = read_bytes(&model.encode_to_vec()).unwrap();
    assert_eq!(graph.metadata.properties.keys().collect::<Vec<_>>(), ["slq.other"]);
}

#[test]
fn external_entries_are_checked_and_not_read_over_and_over() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), [0; 8]).unwrap();
    let entry = |k: &str, v: &str| KeyValue { key: Some(k.into()), value: Some(v.into()) };
    let external = |name: &str, offset: &str| TensorProto {
        data_location: Some(1),
        external_data: vec![entry("location", "data"), entry("offset", offset), entry("checksum", "unread")],
        ..floats(name, &[2], &[])
    };
    let read = |tensors: &[TensorProto]| {
        let path = folder.path().join("model.onnx");
        std::fs::write(&path, model(tensors, &relu()).encode_to_vec()).unwrap();
        crate::read(path).map(|_| "no error".to_string()).unwrap_or_else(|e| e.to_string())
    };
    assert_eq!(read(&[external("w", "0")]), "no error");
    assert!(read(&[external("w", "zero")]).contains("invalid external offset `zero`"));
    assert!(read(&[external("w", "1")]).contains("does not provide them"));
    assert!(read(&[external("w", "18446744073709551615")]).contains("does not provide them"));
    let many: Vec<_> = (0..12).map(|i| external(&format!("w{i}"), "0")).collect();
    assert_eq!(read(&many), "no error", "shared data");
}

#[test]
fn outputs_that_are_no_tensors_are_named_with_the_way_out() {
    let kinds = [
        (TypeProto { sequence_type: Some(OtherType {}), ..TypeProto::default() }, "a sequence"),
        (TypeProto { map_type: Some(OtherType {}), ..TypeProto::default() }, "a map"),
        (
            TypeProto {
                tensor_type: Some(TensorType { elem_type: Some(8), shape: None }),
                ..TypeProto::default()
            },
            "of text",
        ),
    ];
    for (ty, kind) in kinds {
        let change = |m: &mut Model| {
            let output = ValueInfoProto { name: Some("names".into()), ty: Some(ty.clone()) };
            m.graph.as_mut().unwrap().output.push(output);
        };
        let error = read_bytes(&with_model(change).encode_to_vec()).unwrap_err().to_string();
        let parts = ["output `names`", kind, "zipmap: False"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}
