//! `--granularity` for matrices that a file keeps as `[inputs, outputs]`.

mod common;

use common::{json, path, python, run, sample_model};
use slq::graph::{Node, Tensor};

/// The sample, its dense layers as `MatMul` and `Add`.
fn with_products(to: &str) {
    let mut model = slq::Model::open(sample_model().as_str()).unwrap();
    let graph = &mut model.graph;
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut graph.nodes) {
        let (true, Some(weight), Some(bias)) = (node.op == "Gemm", node.input(1), node.input(2)) else {
            nodes.push(node);
            continue;
        };
        let tensor = &mut graph.weights[weight].tensor;
        let (&[rows, columns], values) = (tensor.shape(), tensor.as_f32().unwrap()) else { unreachable!() };
        let turned = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
        *tensor = Tensor::f32(vec![columns, rows], turned).unwrap();
        let sum = format!("{}.product", node.outputs[0]);
        nodes.push(Node::new(&node.name, "MatMul", &[&node.inputs[0], weight], &[&sum]));
        nodes.push(Node::new(&format!("{}.bias", node.name), "Add", &[&sum, bias], &[&node.outputs[0]]));
    }
    graph.nodes = nodes;
    model.save(to).unwrap();
}

#[test]
fn products_get_a_codebook_for_each_output_channel_in_every_format() {
    let dir = tempfile::tempdir().unwrap();
    let [net, one, small, packed, dense, again] =
        ["net.onnx", "one.onnx", "small.onnx", "small.slq", "dense.onnx", "again.onnx"]
            .map(|n| path(&dir, n));
    with_products(&net);
    let job = |granularity: &str, out: &[&str]| {
        let args = ["compress", &net, "--bits", "2", "--granularity", granularity];
        json(&[&args[..], out, &["--overwrite"]].concat())
    };
    let tensor = job("tensor", &["-o", &one]);
    let report = job("channel", &["-o", &small, "-o", &packed]);
    assert_eq!(
        report["warnings"].as_array().unwrap().iter().filter(|w| w["kind"] == "granularity").count(),
        0
    );
    assert!(
        report["damage"]["snr_db"].as_f64().unwrap() > tensor["damage"]["snr_db"].as_f64().unwrap() + 1.0
    );
    // Of the layers of codes: the number of codebooks of four values.
    let books = |file: &str, bytes: u64| -> Vec<u64> {
        let layers = json(&["inspect", file])["layers"].clone();
        let coded = layers.as_array().unwrap().iter().filter(|l| l["bits"] == 2);
        let books = |l: &serde_json::Value| {
            assert_ne!(l["op"], "Transpose");
            (l["stored_bytes"].as_u64().unwrap() - l["count"].as_u64().unwrap() / 4) / (4 * bytes)
        };
        coded.map(books).collect()
    };
    assert_eq!(books(&small, 2), books(&packed, 2));
    assert_eq!((books(&one, 4), books(&small, 2)[2..].to_vec()), (vec![1; 4], vec![500, 10]));
    // Read again, all forms compute the same.
    run(&["convert", &packed, &again]);
    run(&["convert", &small, &dense, "--dense"]);
    for file in [&packed, &again, &dense] {
        let beside = json(&["compare", &small, file]);
        assert!(beside["max_abs"].as_f64().unwrap() < 1e-4, "{file}: {beside}");
    }
    python("check_onnx.py", &[&small, &dense]);
    // Groups of them, calibrated and re-trained.
    let calibrated = ["--calibrate", "mnist-10k", "--calibration-images", "64", "-o", &again];
    let report = job("group:5", &calibrated);
    assert!(report["agreement"].as_f64().unwrap() > 0.95, "{report}");
    assert_eq!(books(&again, 2)[2..], [100, 2]);
    let trained = ["--data", "mnist-10k", "--effort", "quick", "--iterations-per-round", "4", "-o", &again];
    let report = job("channel", &trained);
    assert!(report["final"]["top1"].as_f64().unwrap() > 0.9, "{report}");
    assert_eq!(books(&again, 4)[2..], [500, 10]);
}
