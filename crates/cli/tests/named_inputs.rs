//! Networks with several named inputs: data without labels, calibration, errors.

mod common;

use std::io::Write as _;

use common::{fails, json, path, run};
use slq::graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};

const TOKENS: usize = 6;
const WIDTH: usize = 16;

/// Pseudo-random numbers from -0.5 to 0.5.
fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| draw()).collect()
}

/// An encoder of token ids with a mask: token vectors and their mean over the tokens that the mask keeps.
fn encoder() -> Graph {
    let open = |name: &str| Dim::Symbol(name.into());
    let info = |name: &str, dtype, shape| ValueInfo { name: name.into(), dtype, shape: Some(shape) };
    let mut graph = Graph {
        inputs: vec![
            info("ids", DType::I64, vec![open("n"), open("tokens")]),
            info("mask", DType::I64, vec![open("n"), open("tokens")]),
        ],
        outputs: vec![
            info("tokens", DType::F32, vec![open("n"), open("tokens"), Dim::Known(WIDTH)]),
            info("mean", DType::F32, vec![open("n"), Dim::Known(WIDTH)]),
        ],
        ..Graph::default()
    };
    graph.metadata.opset = 17;
    let mut weight = |name: &str, shape: &[usize], seed| {
        let values = noise(shape.iter().product(), seed);
        graph.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
    };
    weight("table", &[50, WIDTH], 1);
    weight("up", &[WIDTH, 4 * WIDTH], 2);
    weight("down", &[4 * WIDTH, WIDTH], 3);
    graph.weights.insert("last".into(), Tensor::i64_vector(vec![-1]).into());
    let axes = |node: Node| node.with("axes", Attribute::Ints(vec![1])).with("keepdims", Attribute::Int(0));
    graph.nodes = vec![
        Node::new("embed", "Gather", &["table", "ids"], &["e"]),
        Node::new("float", "Cast", &["mask"], &["m"]).with("to", Attribute::Int(1)),
        Node::new("wide", "Unsqueeze", &["m", "last"], &["w"]),
        Node::new("fc1", "MatMul", &["e", "up"], &["a"]),
        Node::new("relu", "Relu", &["a"], &["r"]),
        Node::new("fc2", "MatMul", &["r", "down"], &["d"]),
        Node::new("add", "Add", &["d", "e"], &["s"]),
        Node::new("hide", "Mul", &["s", "w"], &["tokens"]),
        axes(Node::new("mean", "ReduceMean", &["tokens"], &["mean"])),
    ];
    graph
}

fn model(dir: &tempfile::TempDir) -> String {
    let file = path(dir, "encoder.onnx");
    let model = slq::Model::from(encoder());
    model.save(&file).unwrap();
    file
}

/// Writes an `.npz` of 64-bit integers.
fn npz(file: &str, arrays: &[(&str, &[usize], Vec<i64>)]) {
    let mut archive = zip::ZipWriter::new(std::fs::File::create(file).unwrap());
    for (name, shape, values) in arrays {
        archive.start_file(format!("{name}.npy"), zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(&slq::data::npy::header("<i8", shape)).unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        archive.write_all(&bytes).unwrap();
    }
    archive.finish().unwrap();
}

fn ids(count: usize) -> Vec<i64> {
    noise(count * TOKENS, 9).iter().map(|v| ((v + 0.5) * 50.0) as i64 % 50).collect()
}

fn mask(count: usize) -> Vec<i64> {
    (0..count * TOKENS).map(|i| i64::from(i % TOKENS < 3 + i / TOKENS % 4)).collect()
}

fn sentences(dir: &tempfile::TempDir, count: usize) -> String {
    let file = path(dir, "inputs.npz");
    let shape = [count, TOKENS];
    npz(&file, &[("ids", &shape, ids(count)), ("mask", &shape, mask(count))]);
    file
}

#[test]
fn an_encoder_is_retrained_towards_its_own_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (model(&dir), sentences(&dir, 200));
    let compress = |more: &[&str], out: &str| {
        let base = ["compress", &model, "--data", &data, "--bits", "2", "-o", out];
        json(&[&base[..], more].concat())
    };
    let (out, rough) = (path(&dir, "small.onnx"), path(&dir, "rough.onnx"));
    let none = compress(&["--method", "kmeans"], &rough);
    let run_dir = path(&dir, "run");
    let rounds = ["--epochs-per-round", "6", "--lr", "0.05", "--batch", "16", "--run-dir", &run_dir];
    let trained = compress(&rounds, &out);
    let loss = |report: &serde_json::Value, key: &str| report[key]["loss"].as_f64().unwrap();
    assert!(loss(&none, "baseline").abs() < 1e-6 && loss(&none, "final") > 0.0, "{none}");
    assert!(loss(&trained, "final") < 0.7 * loss(&none, "final"), "{trained} {none}");
    assert_eq!(
        (trained["final"]["unlabelled"].as_bool(), trained["baseline"]["images"].as_u64()),
        (Some(true), Some(40))
    );
    let outputs = trained["damage"]["outputs"].as_array().unwrap();
    let names: Vec<&str> = outputs.iter().map(|o| o["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["tokens", "mean"]);
    for (output, worse) in outputs.iter().zip(none["damage"]["outputs"].as_array().unwrap()) {
        let figure = |o: &serde_json::Value, key: &str| o[key].as_f64().unwrap();
        assert!(figure(output, "cosine") > figure(worse, "cosine"), "{output} {worse}");
        assert!(figure(output, "relative") < figure(worse, "relative"), "{output} {worse}");
        assert!(output["agreement"].is_null(), "features are no classes");
    }
    // The file keeps its open sizes: other lengths run.
    let beside = json(&["compare", &model, &out, "--calibrate", &data]);
    assert_eq!(beside["outputs"].as_array().unwrap().len(), 2);
    let shape = [3, 9];
    let longer = path(&dir, "longer.npz");
    npz(&longer, &[("ids", &shape, vec![1; 27]), ("mask", &shape, vec![1; 27])]);
    assert_eq!(json(&["compare", &model, &out, "--calibrate", &longer])["images"], 3);
}

#[test]
fn the_same_job_gives_the_same_bits_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (model(&dir), sentences(&dir, 60));
    let file = |threads: &str| {
        let (out, run_dir) = (path(&dir, &format!("{threads}.onnx")), path(&dir, threads));
        let base = ["compress", &model, "--data", &data, "--epochs-per-round", "1", "--threads", threads];
        run(&[&base[..], &["--run-dir", &run_dir, "-o", &out, "--quiet"]].concat());
        std::fs::read(out).unwrap()
    };
    assert!(file("1") == file("3"), "files differ");
}

#[test]
fn a_weight_of_an_output_moves_the_result_towards_it() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (model(&dir), sentences(&dir, 200));
    let relative = |weight: &str, at: usize| {
        let (out, run_dir) = (path(&dir, "o.onnx"), path(&dir, weight));
        let rounds =
            ["--epochs-per-round", "6", "--lr", "0.05", "--run-dir", &run_dir, "--output-weight", weight];
        let base = ["compress", &model, "--data", &data, "--bits", "2", "-o", &out];
        json(&[&base[..], &rounds].concat())["damage"]["outputs"][at]["relative"].as_f64().unwrap()
    };
    assert!(relative("tokens=0", 1) < relative("mean=0", 1), "mean alone or left out");
    for (weight, word) in [("other=1", "no float output 'other'"), ("mean=-1", "NAME=W"), ("mean", "NAME=W")]
    {
        let status = if word == "NAME=W" { 2 } else { 1 };
        let args = ["compress", &model, "--data", &data, "-o", "o.onnx", "--output-weight", weight];
        let said = fails(&args, status);
        assert!(said.contains(word), "{weight}: {said}");
    }
}

#[test]
fn calibration_and_labels_take_the_same_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (model(&dir), sentences(&dir, 100));
    for source in ["--calibrate", "--data"] {
        let (out, run_dir) = (path(&dir, "c.onnx"), path(&dir, source.trim_start_matches('-')));
        let base = ["compress", &model, source, &data, "--method", "calibrate", "--bits", "3"];
        let report = json(&[&base[..], &["--run-dir", &run_dir, "-o", &out]].concat());
        let layers = report["calibration"]["layers"].as_array().unwrap();
        let calibrated = layers.iter().filter(|l| l["outcome"]["Calibrated"].is_object()).count();
        assert_eq!(calibrated, 2, "{source}: {report}");
    }
}

#[test]
fn arrays_that_do_not_fit_are_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(&dir);
    let file = path(&dir, "bad.npz");
    let shape = [4, TOKENS];
    let out = path(&dir, "o.onnx");
    let said = |arrays: &[(&str, &[usize], Vec<i64>)]| {
        npz(&file, arrays);
        fails(&["compress", &model, "--data", &file, "-o", &out], 1)
    };
    assert!(said(&[("ids", &shape, ids(4))]).contains("no array for the network's input 'mask'"));
    let three = [3, TOKENS];
    assert!(said(&[("ids", &shape, ids(4)), ("mask", &three, mask(3))]).contains("3 examples"));
    let flat = [4 * TOKENS];
    assert!(said(&[("ids", &flat, ids(4)), ("mask", &shape, mask(4))]).contains("'ids'"));
    let large = vec![1 << 25; 4 * TOKENS];
    assert!(said(&[("ids", &shape, large), ("mask", &shape, mask(4))]).contains("2^24"));
    let both = |labels: &'static [usize], values: Vec<i64>| {
        let arrays = [("ids", &shape[..], ids(4)), ("mask", &shape[..], mask(4)), ("labels", labels, values)];
        npz(&file, &arrays);
        fails(&["compress", &model, "--data", &file, "-o", &out], 1)
    };
    assert!(both(&[2], vec![0, 1]).contains("'labels' has 2 values"));
    // Labels of an encoder whose first output is no row of class scores.
    assert!(both(&[4], vec![0, 1, 0, 1]).contains("tokens"));
    let data = sentences(&dir, 20);
    let said = fails(&["compress", &model, "--data", &data, "--mean", "0.5", "-o", &out], 1);
    assert!(said.contains("--mean"), "{said}");
    let said = fails(&["eval", &model, "--data", &data], 1);
    assert!(said.contains("no labels"), "{said}");
}
