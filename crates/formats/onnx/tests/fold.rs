//! Constant folding at reading, compared with what onnxruntime computes (tests/make_fold_fixtures.py).

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use slq_graph::fold::fold_batch_norms;
use slq_graph::{Graph, Tensor, TensorData};
use slq_onnx::WriteOptions;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn fixture(name: &str) -> PathBuf {
    folder("fold").join(name)
}

fn cases(name: &str) -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(folder(name).join("expected.json")).unwrap();
    let Value::Object(cases) = serde_json::from_str(&text).unwrap() else { panic!("not a list of cases") };
    cases
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

/// Distance of two floats in units of the last place.
fn ulps(a: f32, b: f32) -> u32 {
    let place = |v: f32| {
        let bits = v.to_bits() as i32;
        if bits < 0 { i32::MIN - bits } else { bits }
    };
    place(a).abs_diff(place(b))
}

/// What is wrong with a folded constant.
fn difference(tensor: &Tensor, expected: &Value, limit: u32) -> Option<String> {
    let list = |key: &str| -> Vec<i64> {
        expected[key].as_array().unwrap().iter().map(|v| v.as_i64().unwrap()).collect()
    };
    let shape: Vec<i64> = tensor.shape().iter().map(|&d| d as i64).collect();
    if shape != list("shape") {
        return Some(format!("shape {shape:?}"));
    }
    let data = list("data");
    match (tensor.data(), expected["type"].as_str().unwrap()) {
        (TensorData::F32(v), "float32") => {
            let worst = v.iter().zip(&data).map(|(&v, &bits)| ulps(v, f32::from_bits(bits as u32))).max();
            let worst = worst.unwrap_or(0);
            (worst > limit).then(|| format!("{worst} units in the last place"))
        }
        (TensorData::I64(v), "int64") => (*v != data).then(|| format!("{v:?}")),
        (other, wanted) => Some(format!("{other:?} in place of {wanted}")),
    }
}

/// What is wrong with a graph.
fn problems(graph: &Graph, expected: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |what: &str, got: Vec<&str>, wanted: &Value| {
        if got != strings(wanted) {
            found.push(format!("{what}: {got:?} in place of {wanted}"));
        }
    };
    let mut weights: Vec<&str> = graph.weights.keys().map(String::as_str).collect();
    weights.sort_unstable();
    check("weights", weights, &expected["weights"]);
    check("nodes", graph.nodes.iter().map(|n| n.name.as_str()).collect(), &expected["nodes"]);
    let quantizable = graph.quantizable();
    check("quantizable", quantizable.iter().map(|q| q.weight.as_str()).collect(), &expected["quantizable"]);
    let limit = u32::from(expected["arithmetic"] == true);
    for (name, value) in expected["folded"].as_object().unwrap() {
        let weight = graph.weights.get(name);
        let wrong = weight.map_or(Some("missing".into()), |w| difference(&w.tensor, value, limit));
        found.extend(wrong.map(|wrong| format!("`{name}`: {wrong}")));
    }
    found
}

#[test]
fn folded_constants_are_those_of_onnxruntime() {
    let mut wrong = Vec::new();
    let cases = cases("fold");
    assert!(cases.len() > 35);
    for (name, expected) in cases {
        let graph = slq_onnx::read(fixture(&format!("{name}.onnx"))).unwrap_or_else(|e| panic!("{e}"));
        wrong.extend(problems(&graph, &expected).into_iter().map(|p| format!("{name}: {p}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn written_again_a_folded_model_stays_as_it_is() {
    let written = tempfile::tempdir().unwrap();
    let path = written.path().join("model.onnx");
    let mut pairs = Vec::new();
    for (name, _) in cases("fold") {
        let source = fixture(&format!("{name}.onnx"));
        let graph = slq_onnx::read(&source).unwrap();
        slq_onnx::write(&graph, &path, &WriteOptions::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let back = slq_onnx::read(&path).unwrap();
        assert_eq!(back, graph, "{name}");
        let bytes = slq_onnx::write_bytes(&back, &WriteOptions::default()).unwrap();
        assert_eq!(bytes, std::fs::read(&path).unwrap(), "{name}");
        let copy = written.path().join(format!("{name}.onnx"));
        std::fs::rename(&path, &copy).unwrap();
        pairs.extend([source, copy]);
    }
    same_outputs(&pairs);
}

#[test]
fn folded_batch_norms_compute_the_same() {
    let written = tempfile::tempdir().unwrap();
    let (mut wrong, mut pairs) = (Vec::new(), Vec::new());
    let cases = cases("batch_norm");
    assert_eq!(cases.len(), 8);
    for (name, expected) in cases {
        let source = folder("batch_norm").join(format!("{name}.onnx"));
        let mut graph = slq_onnx::read(&source).unwrap();
        assert_eq!(fold_batch_norms(&mut graph), 1, "{name}");
        assert_eq!((graph.nodes.len(), graph.weights.len()), (1, 2), "{name}");
        for (input, what) in [(1, "weight"), (2, "bias")] {
            let tensor = &graph.weights[graph.nodes[0].input(input).unwrap()].tensor;
            wrong.extend(difference(tensor, &expected[what], 1).map(|w| format!("{name}, {what}: {w}")));
        }
        let copy = written.path().join(format!("{name}.onnx"));
        slq_onnx::write(&graph, &copy, &WriteOptions::default()).unwrap();
        pairs.extend([source, copy]);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    same_outputs(&pairs);
}

/// Compares the outputs of pairs of models in onnxruntime, where `SLQ_PYTHON` names an interpreter that has it.
fn same_outputs(pairs: &[PathBuf]) {
    let Ok(python) = std::env::var("SLQ_PYTHON") else {
        let why = "SLQ_PYTHON names no interpreter with onnx and onnxruntime";
        // Written to standard error itself, which the test harness does not hide.
        writeln!(std::io::stderr(), "skipped the part with onnxruntime: {why}")
            .expect("standard error is there");
        return;
    };
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/same_outputs.py");
    let output = Command::new(python).arg(script).args(pairs).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
