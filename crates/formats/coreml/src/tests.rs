//! Whole packages, read back through the protocol buffers.

use std::collections::BTreeMap;
use std::path::Path;

use prost::Message;
use slq_codebook::Palette;
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo, Weight};

use crate::mil::{Bound, DataType, Operation};
use crate::spec::Model;
use crate::{CoremlError, Widths, WriteOptions, check, check_place, verify, write};

fn value(name: &str, dims: &[usize]) -> ValueInfo {
    let shape = dims.iter().map(|&d| if d == 0 { Dim::Symbol("N".into()) } else { Dim::Known(d) }).collect();
    ValueInfo { name: name.into(), dtype: DType::F32, shape: Some(shape) }
}

fn palettized(shape: &[usize], groups: usize, size: usize) -> Weight {
    let count: usize = shape.iter().product();
    let book: Vec<f32> = (0..groups * size).map(|i| i as f32 / 8.0 - 1.0).collect();
    let codes = (0..count).map(|i| (i * 5 % size) as u8).collect();
    let palette = Palette::fully_fixed(book, groups, codes).unwrap();
    let tensor = Tensor::f32(shape.to_vec(), palette.decode()).unwrap();
    Weight { palette: Some(palette), ..tensor.into() }
}

/// A convolution of `size` centroids in `groups` codebooks, a pooling and a linear layer.
fn network(groups: usize, size: usize) -> Graph {
    let mut graph = Graph {
        inputs: vec![value("in.put", &[0, 3, 9, 9])],
        outputs: vec![value("y", &[0, 10])],
        ..Graph::default()
    };
    graph.weights.insert("conv.w".into(), palettized(&[8, 3, 3, 3], groups, size));
    graph.weights.insert("fc.w".into(), palettized(&[10, 8 * 5 * 5], 1, 16));
    graph.weights.insert("fc.b".into(), Tensor::f32(vec![10], vec![0.5; 10]).unwrap().into());
    let pads = Attribute::Ints(vec![1, 1, 1, 1]);
    let two = || Attribute::Ints(vec![2, 2]);
    graph.nodes = vec![
        Node::new("conv", "Conv", &["in.put", "conv.w"], &["a"]).with("pads", pads),
        Node::new("relu", "Relu", &["a"], &["b"]),
        Node::new("pool", "MaxPool", &["b"], &["c"])
            .with("kernel_shape", two())
            .with("strides", two())
            .with("ceil_mode", Attribute::Int(1)),
        Node::new("flat", "Flatten", &["c"], &["d"]),
        Node::new("fc", "Gemm", &["d", "fc.w", "fc.b"], &["y"]).with("transB", Attribute::Int(1)),
    ];
    slq_graph::validate(&graph).unwrap();
    graph
}

fn read(path: &Path) -> (Model, Vec<u8>) {
    let items = path.join("Data/com.apple.CoreML");
    let model = Model::decode(std::fs::read(items.join("model.mlmodel")).unwrap().as_slice()).unwrap();
    (model, std::fs::read(items.join("weights/weight.bin")).unwrap())
}

fn operations(model: &Model) -> Vec<Operation> {
    let function = &model.ml_program.as_ref().unwrap().functions["main"];
    assert_eq!(function.opset, "CoreML8");
    function.block_specializations["CoreML8"].operations.clone()
}

#[test]
fn a_package_holds_the_program_and_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.mlpackage");
    let mut graph = network(8, 4);
    graph.metadata.properties.insert("slq.preprocessing".into(), "{}".into());
    graph.metadata.properties.insert("slq.onnx.x".into(), "left out".into());
    let written = write(&graph, &path, &WriteOptions::default()).unwrap();
    assert_eq!(written.notes.len(), 2, "{:?}", written.notes);
    let (model, blobs) = read(&path);
    assert_eq!(model.specification_version, 9);
    let about = model.description.clone().unwrap();
    assert_eq!((about.input[0].name.as_str(), about.output[0].name.as_str()), ("in_put", "y"));
    let shape = &about.input[0].r#type.as_ref().unwrap().multi_array.as_ref().unwrap().shape;
    assert_eq!(shape, &[1, 3, 9, 9]);
    let keys: Vec<String> = about.metadata.unwrap().user_defined.into_keys().collect();
    assert_eq!(keys, ["slq.names", "slq.preprocessing", "slq.writer"]);
    let operations = operations(&model);
    let kinds: Vec<&str> = operations.iter().map(|o| o.r#type.as_str()).filter(|k| *k != "const").collect();
    let expected =
        ["constexpr_lut_to_dense", "conv", "relu", "max_pool", "reshape", "constexpr_lut_to_dense", "linear"];
    assert_eq!(kinds, expected);
    let tables: Vec<Vec<f32>> = operations
        .iter()
        .filter(|o| o.r#type.starts_with("constexpr"))
        .map(|o| verify::values(o, &blobs).unwrap())
        .collect();
    assert_eq!(tables[0], graph.weights["conv.w"].tensor.as_f32().unwrap());
    assert_eq!(tables[1], graph.weights["fc.w"].tensor.as_f32().unwrap());
    let lut = operations.iter().find(|o| o.r#type.starts_with("constexpr")).unwrap();
    let Some(Bound::Value(indices)) = &lut.inputs["indices"].arguments[0].binding else { panic!("no value") };
    let kind = indices.r#type.as_ref().unwrap().tensor.as_ref().unwrap().data_type;
    assert_eq!(kind, i32::from(DataType::Uint2));
    // The extent that is rounded up is padding at the end: 9 rows make 5 windows of 2.
    let pool = operations.iter().find(|o| o.r#type == "max_pool").unwrap();
    let Some(Bound::Name(pad)) = &pool.inputs["pad"].arguments[0].binding else { panic!("no name") };
    let pad = operations.iter().find(|o| o.outputs[0].name == *pad).unwrap();
    assert!(format!("{:?}", pad.attributes["val"]).contains("[0, 1, 0, 1]"), "{pad:?}");
}

#[test]
fn every_constant_that_an_operation_names_comes_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.mlpackage");
    write(&network(1, 16), &path, &WriteOptions { dense: true, ..Default::default() }).unwrap();
    let mut known = vec!["in_put".to_owned()];
    for operation in operations(&read(&path).0) {
        for binding in operation.inputs.values().flat_map(|a| &a.arguments) {
            if let Some(Bound::Name(name)) = &binding.binding {
                assert!(known.contains(name), "{} reads {name}", operation.r#type);
            }
        }
        for output in operation.outputs {
            assert!(!known.contains(&output.name), "{} is written twice", output.name);
            known.push(output.name);
        }
    }
    assert!(!known.iter().any(|n| n.contains("constexpr")));
}

#[test]
fn widths_that_core_ml_lacks_are_all_named_unless_they_may_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.mlpackage");
    let mut graph = network(1, 17);
    graph.weights.insert("fc.w".into(), palettized(&[10, 200], 1, 100));
    let error = write(&graph, &path, &WriteOptions::default()).unwrap_err();
    let CoremlError::Widths { weights } = &error else { panic!("{error}") };
    assert_eq!(weights, &[("conv.w".to_owned(), 5), ("fc.w".to_owned(), 7)]);
    assert!(error.to_string().contains("--round-up-widths"), "{error}");
    assert!(!path.exists());
    let grown = WriteOptions { widths: Widths::RoundUp, ..Default::default() };
    write(&graph, &path, &grown).unwrap();
    let (model, blobs) = read(&path);
    let tables: BTreeMap<String, Vec<f32>> = operations(&model)
        .iter()
        .filter(|o| o.r#type.starts_with("constexpr"))
        .map(|o| (o.outputs[0].name.clone(), verify::values(o, &blobs).unwrap()))
        .collect();
    assert_eq!(tables["conv_w"], graph.weights["conv.w"].tensor.as_f32().unwrap());
    assert_eq!(tables["fc_w"], graph.weights["fc.w"].tensor.as_f32().unwrap());
}

#[test]
fn all_nodes_without_a_counterpart_are_named_at_once() {
    let mut graph = network(1, 4);
    graph.nodes[1] = Node::new("more", "Greater", &["a", "a"], &["b"]);
    graph.nodes[2].attributes.insert("dilations".into(), Attribute::Ints(vec![2, 2]));
    graph.weights.insert("fc.w".into(), palettized(&[10, 8 * 4 * 4], 1, 16));
    let error = check(&graph, &WriteOptions::default()).unwrap_err();
    let CoremlError::Operators { nodes } = &error else { panic!("{error}") };
    let names: Vec<&str> = nodes.iter().map(|n| n.node.as_str()).collect();
    assert_eq!(names, ["more", "pool"]);
    assert!(error.to_string().contains("Greater") && error.to_string().contains(".slq"), "{error}");
}

#[test]
fn open_shapes_and_weights_alone_are_refused() {
    let mut graph = network(1, 4);
    graph.inputs[0] = value("in.put", &[0, 3, 0, 9]);
    assert!(matches!(check(&graph, &WriteOptions::default()), Err(CoremlError::OpenShape { .. })));
    graph.nodes.clear();
    assert!(matches!(check(&graph, &WriteOptions::default()), Err(CoremlError::NoNetwork)));
}

#[test]
fn tables_larger_than_their_weight_stay_floats() {
    let mut graph = network(1, 4);
    graph.weights.insert("conv.w".into(), palettized(&[8, 3, 3, 3], 216, 1));
    let notes = check(&graph, &WriteOptions::default()).unwrap();
    assert!(notes.iter().any(|n| n.contains("conv.w") && n.contains("float32")), "{notes:?}");
}

#[test]
fn only_packages_are_replaced_and_only_our_own_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.mlpackage");
    let graph = network(1, 4);
    let put = |overwrite| write(&graph, &path, &WriteOptions { overwrite, ..Default::default() });
    put(false).unwrap();
    let first = std::fs::read(path.join("Data/com.apple.CoreML/model.mlmodel")).unwrap();
    put(false).unwrap();
    assert_eq!(
        std::fs::read(path.join("Data/com.apple.CoreML/model.mlmodel")).unwrap(),
        first,
        "the same bits"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    // A package of others.
    std::fs::write(path.join("Manifest.json"), r#"{"rootModelIdentifier": "other"}"#).unwrap();
    assert!(put(false).unwrap_err().to_string().contains("--overwrite"));
    put(true).unwrap();
    // A folder with something else in it.
    std::fs::write(path.join("mine.txt"), "x").unwrap();
    assert!(put(true).unwrap_err().to_string().contains("never replaced"));
    assert!(path.join("mine.txt").exists());
    let file = dir.path().join("file.mlpackage");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(check_place(&file, true), Err(CoremlError::Place { .. })));
    assert!(check_place(&dir.path().join("no/such/a.mlpackage"), true).is_err());
}

#[test]
fn an_output_that_is_another_value_gets_an_operation() {
    let mut graph = network(1, 4);
    graph.nodes.push(Node::new("same", "Identity", &["y"], &["z"]));
    graph.outputs.push(value("z", &[0, 10]));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("net.mlpackage");
    write(&graph, &path, &WriteOptions::default()).unwrap();
    let (model, _) = read(&path);
    let last = operations(&model).pop().unwrap();
    assert_eq!((last.r#type.as_str(), last.outputs[0].name.as_str()), ("identity", "z"));
}
