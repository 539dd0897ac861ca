//! Networks that onnxruntime's static quantizer has quantized in part: what is quantized stays, the rest is compressed (fixtures of
//! crates/formats/onnx, made by make_qdq_fixtures.py).

mod common;

use common::{fails, json, path, python};
use slq::graph::{DType, Graph};

fn fixture(name: &str) -> String {
    format!("{}/../formats/onnx/tests/fixtures/qdq/{name}.onnx", env!("CARGO_MANIFEST_DIR"))
}

fn graph(file: &str) -> Graph {
    slq::Model::open(file).unwrap().graph
}

/// The constants that are no floats: names, shapes and bytes.
fn integers(graph: &Graph) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let all = graph.weights.iter().filter(|(_, w)| !w.tensor.dtype().is_float());
    let mut all: Vec<_> = all
        .map(|(n, w)| (n.clone(), w.tensor.shape().to_vec(), w.tensor.data().to_le_bytes().into_owned()))
        .collect();
    all.sort();
    all
}

#[test]
fn eight_bit_weights_stay_and_float_weights_are_compressed() {
    let dir = tempfile::tempdir().unwrap();
    for (name, dtype) in [("int8", DType::I8), ("uint8", DType::U8)] {
        let (net, small) = (fixture(name), path(&dir, &format!("{name}.onnx")));
        let report = json(&["compress", &net, "--method", "kmeans", "--bits", "5", "-o", &small]);
        let (before, after) = (graph(&net), graph(&small));
        assert_eq!(before.weights["c2_quantized"].tensor.dtype(), dtype);
        assert_eq!(integers(&before), integers(&after), "{name}: bit for bit");
        let palettes: Vec<&str> =
            after.weights.iter().filter(|(_, w)| w.palette.is_some()).map(|(n, _)| n.as_str()).collect();
        assert_eq!(palettes, ["f1", "f2"], "{name}");
        for (name, weight) in before.weights.iter().filter(|(n, _)| !palettes.contains(&n.as_str())) {
            assert_eq!(weight, &after.weights[name], "scales, zero points and biases, too");
        }
        assert_eq!(before.nodes, after.nodes, "{name}");
        let left = report["not_quantized"].as_array().unwrap();
        let left: Vec<_> = left
            .iter()
            .map(|l| {
                (l["name"].as_str().unwrap(), l["count"].as_u64().unwrap(), l["reason"].as_str().unwrap())
            })
            .collect();
        let why = "8-bit integers already";
        assert_eq!(left, [("c1_quantized", 36, why), ("c2_quantized", 288, why)], "{name}");
        // The same values, so that the outputs differ by what 32 values for each dense layer cost.
        python("check_runs.py", &[&net, &small, "0.2"]);
    }
}

#[test]
fn what_cannot_be_run_is_said_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["x.npy", "y.npy"].map(|n| path(&dir, n));
    let mut file = slq::data::npy::header("<f4", &[1, 1, 8, 8]);
    file.extend((0..64).flat_map(|i| (i as f32 / 64.0).to_le_bytes()));
    std::fs::write(&input, file).unwrap();
    for (command, rest) in
        [("run", &["--input", &input, "-o", &output][..]), ("eval", &["--data", "mnist-10k"])]
    {
        let said = fails(&[&[command, &fixture("int8")], rest].concat(), 1);
        assert!(said.contains("DequantizeLinear") && said.contains("QuantizeLinear"), "{said}");
    }
    let can = &json(&["inspect", &fixture("int8")])["capability"];
    assert_eq!(
        (&can["clustered"]["possible"], &can["calibrated"]["possible"]),
        (&true.into(), &false.into())
    );
}
