//! Functions of models, written out where they are called (tests/make_function_fixtures.py). What the engine makes of these networks
//! is compared with onnxruntime in crates/cli/tests/functions.rs.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use slq_graph::{Graph, validate};
use slq_onnx::{WriteOptions, notes};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/functions").join(format!("{name}.onnx"))
}

fn quantizable(graph: &Graph) -> Vec<(String, String)> {
    let mut all: Vec<_> = graph.quantizable().into_iter().map(|q| (q.weight, q.node)).collect();
    all.sort();
    all
}

#[test]
fn weights_in_functions_are_weights_of_the_network() {
    let graph = slq_onnx::read(fixture("layers")).unwrap();
    validate(&graph).unwrap();
    assert!(notes(&graph).is_empty(), "{:?}", notes(&graph));
    let pair = |w: &str, n: &str| (w.to_string(), n.to_string());
    // The block's own matrix is one weight, however often the block is called; the one in its branch is one for each call.
    let wanted = [
        pair("Block/w", "first/product"),
        pair("first/inner", "first/Dense/Gemm"),
        pair("second/inner", "second/Dense/Gemm"),
        pair("third/inner", "third/Dense/Gemm"),
        pair("v1", "first/second/Gemm"),
        pair("v2", "second/second/Gemm"),
        pair("v3", "last/Gemm"),
    ];
    assert_eq!(quantizable(&graph), wanted);
    let slopes: Vec<f32> =
        graph.nodes.iter().filter(|n| n.op == "LeakyRelu").map(|n| n.float("alpha", 9.0)).collect();
    assert_eq!(slopes, [0.25, -0.5, 0.75], "the default and what calls say");
    assert!(graph.metadata.domains.is_empty(), "no operator of the functions' domain is left");
    let bytes = slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap();
    assert_eq!(slq_onnx::read_bytes(&bytes).unwrap(), graph);
}

#[test]
fn functions_of_onnxscript_are_written_out() {
    let graph = slq_onnx::read(fixture("scripted")).unwrap();
    validate(&graph).unwrap();
    assert!(notes(&graph).is_empty(), "{:?}", notes(&graph));
    let shapes: Vec<_> =
        quantizable(&graph).iter().map(|(w, _)| graph.weights[w].tensor.shape().to_vec()).collect();
    assert_eq!(shapes, [[6, 8], [8, 3]]);
    assert_eq!(graph.nodes.iter().filter(|n| n.op == "Erf").count(), 2);
    assert!(graph.metadata.domains.is_empty());
}

#[test]
fn onnxruntime_finds_the_same_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for name in ["layers", "scripted"] {
        let written = folder.path().join(format!("{name}.onnx"));
        slq_onnx::write(&slq_onnx::read(fixture(name)).unwrap(), &written, &WriteOptions::default()).unwrap();
        let length = std::fs::metadata(&written).unwrap().len();
        assert!(length > 0);
        pairs.extend([fixture(name), written]);
    }
    let Ok(python) = std::env::var("SLQ_PYTHON") else {
        let why = "skipped the part with onnxruntime: SLQ_PYTHON names no interpreter that has it";
        writeln!(std::io::stderr(), "{why}").expect("standard error is there");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/same_outputs.py");
    let output = Command::new(python).arg(script).args(&pairs).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
