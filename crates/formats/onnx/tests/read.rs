//! Reading the ways in which ONNX stores one network.

use std::path::PathBuf;

use slq_graph::{Attribute, DType, Dim, Graph, TensorData};
use slq_onnx::{OnnxError, WriteOptions};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn read(name: &str) -> Graph {
    slq_onnx::read(fixture(name)).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_opset_gives_the_same_network() {
    let reference = read("opset13.onnx");
    for opset in [7, 9, 11, 13, 17, 21] {
        let graph = read(&format!("opset{opset}.onnx"));
        assert_eq!(graph.metadata.opset, opset);
        assert_eq!(graph.weights, reference.weights, "opset {opset}");
        assert_eq!(graph.nodes, reference.nodes, "opset {opset}");
        assert_eq!(graph.inputs, reference.inputs, "opset {opset}: weights are no inputs");
    }
}

#[test]
fn every_storage_gives_the_same_network() {
    let reference = read("opset13.onnx");
    for name in ["typed", "constants"] {
        let graph = read(&format!("{name}.onnx"));
        assert_eq!(graph.weights, reference.weights, "{name}");
        let ops = |g: &Graph| g.nodes.iter().map(|n| n.op.clone()).collect::<Vec<_>>();
        assert_eq!(ops(&graph), ops(&reference), "{name}");
    }
    assert_eq!(read("external.onnx").weights, reference.weights, "external");
}

#[test]
fn what_the_file_says_about_itself_is_kept() {
    let graph = read("opset17.onnx");
    assert_eq!((graph.name.as_str(), graph.metadata.producer.as_str()), ("small", "fixtures"));
    assert_eq!(graph.metadata.doc, "a small network");
    assert_eq!(graph.metadata.properties["author"], "nobody");
    assert_eq!(graph.metadata.properties["slq.note"], "kept");
    assert_eq!(graph.metadata.properties["slq.onnx.producer_version"], "1.5");
    let x = &graph.inputs[0];
    let shape = [Dim::Symbol("N".into()), Dim::Known(2), Dim::Known(6), Dim::Known(6)];
    assert_eq!((x.name.as_str(), x.dtype, x.shape.as_deref()), ("x", DType::F32, Some(&shape[..])));
    let names: Vec<_> = graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["Conv_0", "relu", "Reshape_2", "Gemm_3"]);
    let quantizable: Vec<_> = graph.quantizable().into_iter().map(|q| q.weight).collect();
    assert_eq!(quantizable, ["conv.w", "fc.w"]);
}

#[test]
fn models_of_both_torch_exporters_read() {
    for (name, opset) in [("script_17", 17), ("script_20", 20), ("dynamo_18", 18), ("dynamo_20", 20)] {
        let graph = read(&format!("torch_{name}.onnx"));
        assert_eq!((graph.metadata.opset, graph.metadata.producer.as_str()), (opset, "pytorch"), "{name}");
        let shapes: Vec<_> =
            graph.quantizable().iter().map(|q| graph.weights[&q.weight].tensor.shape().to_vec()).collect();
        let expected: [&[usize]; 3] = [&[4, 2, 3, 3], &[4, 1, 3, 3], &[5, 16]];
        assert_eq!(shapes, expected, "{name}");
        slq_graph::validate(&graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
}

#[test]
fn constants_of_every_kind_become_weights() {
    let graph = read("constant_kinds.onnx");
    let data = |name: &str| graph.weights[name].tensor.data().clone();
    assert_eq!(data("one"), TensorData::F32(vec![1.5]));
    assert_eq!(data("many"), TensorData::F32(vec![1.0, 2.0]));
    assert_eq!(data("int"), TensorData::I64(vec![3]));
    assert_eq!(data("ints"), TensorData::I64(vec![4, 5]));
    assert!(graph.weights["one"].tensor.shape().is_empty(), "value_float is a scalar");
    let text = graph.producer_of("text").expect("strings stay a node");
    assert_eq!(text.attributes["value_string"], Attribute::String(b"kept".to_vec()));
}

#[test]
fn every_element_type_reads_alike_from_raw_and_typed_fields() {
    let graph = read("types.onnx");
    let kinds = "float32 float64 float16 int64 int32 int16 int8 uint64 uint32 uint16 uint8 bool";
    for kind in kinds.split(' ') {
        let [raw, typed] = ["raw", "typed"].map(|s| graph.weights[&format!("{s}.{kind}")].tensor.clone());
        assert_eq!(raw, typed, "{kind}");
        assert_eq!(raw.shape(), [2, 2], "{kind}");
        if let Some(v) = raw.to_i64() {
            let expected = if kind == "bool" { [0, 1, 1, 1] } else { [0, 1, 2, 3] };
            assert_eq!(v, expected, "{kind}");
        }
    }
    let half = &graph.weights["raw.float16"].tensor;
    assert_eq!(half.data(), &TensorData::Raw(DType::F16, vec![0, 0, 0, 0x3c, 0, 0x40, 0, 0x42]));
    let brain = &graph.weights["typed.bfloat16"].tensor;
    assert_eq!(brain.data(), &TensorData::Raw(DType::Bf16, vec![0x80, 0x3f, 0, 0x40]));
    assert_eq!(graph.producer_of("text").expect("strings stay").op, "Constant");
}

#[test]
fn subgraphs_survive_and_functions_are_written_out() {
    let graph = read("subgraph.onnx");
    assert!(matches!(graph.nodes[0].attributes["then_branch"], Attribute::Opaque(_)));
    assert_eq!(graph.metadata.domains, [], "the function was all that is of the domain `own`");
    assert_eq!(graph.metadata.properties["slq.onnx.graph_doc"], "about the graph");
    assert!(!graph.metadata.properties.contains_key("slq.onnx.rest"), "no function is left");
    assert!(graph.nodes.iter().all(|n| n.domain.is_empty()), "{:?}", graph.nodes);
    let bytes = slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert_eq!(slq_onnx::read_bytes(&bytes).unwrap(), graph);
}

#[test]
fn dense_files_round_trip() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for entry in std::fs::read_dir(fixture("")).unwrap() {
        let source = entry.unwrap().path();
        if source.extension().is_none_or(|e| e != "onnx") {
            continue;
        }
        let graph = slq_onnx::read(&source).unwrap();
        let path = folder.join("copy.onnx");
        let size =
            slq_onnx::write(&graph, &path, &WriteOptions { dense: true, ..Default::default() }).unwrap();
        assert_eq!(size.bytes, std::fs::metadata(&path).unwrap().len());
        assert_eq!(slq_onnx::read(&path).unwrap(), graph, "{}", source.display());
        let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["copy.onnx"], "no temporary file is left");
    }
}

#[test]
fn external_data_needs_the_place_of_the_model() {
    let bytes = std::fs::read(fixture("external.onnx")).unwrap();
    let error = slq_onnx::read_bytes(&bytes).unwrap_err();
    assert!(matches!(error, OnnxError::ExternalWithoutFile { .. }), "{error}");
}

#[test]
fn errors_name_the_file() {
    let missing = slq_onnx::read(fixture("no such file.onnx")).unwrap_err().to_string();
    assert!(missing.contains("no such file.onnx"), "{missing}");
    let folder = slq_onnx::read(fixture("")).unwrap_err().to_string();
    assert!(folder.ends_with("not a regular file"), "{folder}");
}
