//! Models with functions of their own: read, run and compressed as networks without (fixtures of crates/formats/onnx).

mod common;

use common::{fails, json, path, python};
use slq::graph::Tensor;

fn fixture(name: &str) -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/onnx/tests/fixtures/functions/").to_owned() + name
}

#[test]
fn the_engine_computes_what_onnxruntime_does() {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
    let run = |name: &str| {
        let model = slq::Model::open(fixture(&format!("{name}.onnx")).as_str()).unwrap();
        let input = model.graph.inputs[0].name.clone();
        let values = (0..12).map(|i| (i as f32 - 5.0) / 4.0).collect();
        let inputs = vec![(input, Tensor::f32(vec![2, 6], values).unwrap())];
        slq::inference::run_model(&model.graph, &inputs, slq::Isa::detect())
    };
    let outputs = run("scripted").unwrap();
    let got = outputs[0].1.as_f32().unwrap();
    let wanted: Vec<f32> =
        expected["scripted"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect();
    let worst = got.iter().zip(&wanted).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(got.len() == wanted.len() && worst < 1e-5, "{got:?} in place of {wanted:?}");
    // Its functions are written out, and what the engine lacks is in them.
    let error = run("layers").unwrap_err().to_string();
    assert!(error.contains("If") && error.contains("first/choice"), "{error}");
}

#[test]
fn weights_of_functions_are_quantized_and_the_file_runs() {
    let dir = tempfile::tempdir().unwrap();
    let small = path(&dir, "small.onnx");
    let report =
        json(&["compress", &fixture("layers.onnx"), "--method", "kmeans", "--bits", "4", "-o", &small]);
    // All but a matrix of 18 weights, for which 16 values do not pay.
    assert_eq!((report["quantized"].as_u64(), &report["not_quantized"][0]["name"]), (Some(6), &"v3".into()));
    let layers = json(&["inspect", &small])["layers"].clone();
    let coded = |name: &str| layers.as_array().unwrap().iter().any(|l| l["name"] == name && l["bits"] == 4);
    assert!(["Block/w", "first/inner", "third/inner"].into_iter().all(coded), "{layers}");
    python("check_runs.py", &[&fixture("layers.onnx"), &small, "0.5"]);
}

#[test]
fn a_function_that_stays_is_said_and_its_network_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let [small, images, outputs] = ["small.onnx", "x.npy", "y.npy"].map(|n| path(&dir, n));
    let odd = fixture("old.onnx");
    let reason =
        "layers.Dense: it is written for version 17 of the operators of ONNX, the network for version 18";
    assert!(json(&["inspect", &odd])["notes"][0].as_str().unwrap().contains(reason));
    let report = json(&["compress", &odd, "--method", "kmeans", "--bits", "2", "-o", &small]);
    assert!(report["outputs"][0]["notes"][0].as_str().unwrap().contains(reason), "{report}");
    // The weight that a node of the network reads is quantized, the one that goes to the function is not.
    let left = report["not_quantized"].as_array().unwrap();
    assert!(left.len() == 1 && left[0]["name"] == "w" && left[0]["reason"] == "read by Dense", "{report}");
    python("check_runs.py", &[&odd, &small, "0.5"]);
    let mut file = slq::data::npy::header("<f4", &[2, 6]);
    file.extend([0; 48]);
    std::fs::write(&images, file).unwrap();
    let said = fails(&["run", &odd, "--input", &images, "-o", &outputs], 1);
    assert!(said.contains("layers.Dense"), "{said}");
}
