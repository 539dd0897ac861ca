//! The smaller commands.

mod common;

use common::{fails, json, path, run, sample_model, slq};

#[test]
fn every_command_has_help_with_an_example() {
    for command in [
        "demo",
        "train",
        "compress",
        "resume",
        "decompose",
        "sensitivity",
        "eval",
        "run",
        "inspect",
        "convert",
        "cluster",
        "bench",
    ] {
        let output = run(&[command, "--help"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Example") && text.contains(&format!("slq {command}")), "{command}: {text}");
        assert!(
            text.contains("--json") && text.contains("--threads") && text.contains("--seed"),
            "{command}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let mut child = slq()
        .args(["inspect", &sample_model()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn training_learns_and_is_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.onnx", "b.onnx"].map(|n| path(&dir, n));
    for out in [&a, &b] {
        let args =
            ["train", "zoo:lenet", "--data", "mnist-10k", "--epochs", "1", "--lr", "0.03", "--seed", "3"];
        let report = json(&[&args[..], &["-o", out]].concat());
        assert!(report["final"]["top1"].as_f64().unwrap() > 0.9, "{report}");
    }
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let eval = json(&["eval", &a, "--data", "mnist-10k"]);
    for key in ["top1", "top5", "loss", "images", "seconds"] {
        assert!(eval[key].is_number(), "{key}: {eval}");
    }
}

#[test]
fn inspect_counts_what_a_network_has() {
    let inspected = json(&["inspect", "zoo:lenet"]);
    assert_eq!(inspected["parameters"], 431_080);
    assert_eq!(inspected["total"]["dense_bytes"], 4 * 431_080);
    for key in ["name", "op", "shape", "count", "distinct", "bits", "zeros", "stored_bytes", "entropy_bytes"]
    {
        assert!(!inspected["layers"][0][key].is_null(), "{key}");
    }
}

#[test]
fn run_gives_the_outputs_of_an_array() {
    let dir = tempfile::tempdir().unwrap();
    let [input, output] = ["x.npy", "y.npy"].map(|n| path(&dir, n));
    let image = slq::graph::Tensor::f32(vec![2, 1, 28, 28], vec![0.25; 2 * 784]).unwrap();
    slq::arrays::write(input.as_ref(), &image).unwrap();
    let ran = json(&["run", &sample_model(), "--input", &input, "-o", &output]);
    assert_eq!(ran["outputs"][0]["shape"], serde_json::json!([2, 10]));
    let y = slq::arrays::read_f32(output.as_ref()).unwrap();
    assert_eq!(y.len(), 20);
    assert_eq!(y[..10], y[10..], "equal images give equal outputs");
    let model = slq::Model::open(sample_model().as_str()).unwrap();
    let named = format!("{}={input}", model.graph.inputs[0].name);
    let said = fails(&["run", &sample_model(), "--input", &named, "--input", &named, "-o", &output], 1);
    assert!(said.contains("is given twice"), "{said}");
}

#[test]
fn cluster_prints_the_keys_and_the_optimum() {
    let dir = tempfile::tempdir().unwrap();
    let [values, out] = ["w.npy", "codes.npz"].map(|n| path(&dir, n));
    let data = slq::graph::Tensor::f32(vec![6], vec![0.0, 0.1, 1.0, 1.1, -1.0, -1.1]).unwrap();
    slq::arrays::write(values.as_ref(), &data).unwrap();
    let found = json(&["cluster", &values, "--k", "3", "-o", &out]);
    assert_eq!(found["k"], 3);
    // Three pairs that lie 0.1 apart: each costs 2 * 0.05^2.
    assert!((found["sse"].as_f64().unwrap() - 0.015).abs() < 1e-6, "{found}");
    assert!(found["lower_bound"].as_f64().unwrap() <= found["sse"].as_f64().unwrap() + 1e-12);
    assert!(found["codebook"].is_array() && found["seconds"].is_number());
    assert!(std::fs::metadata(&out).unwrap().len() > 0);
    let fixed = json(&["cluster", &values, "--k", "3", "--fixed", "0"]);
    assert!(fixed["codebook"].as_array().unwrap().iter().any(|v| v.as_f64() == Some(0.0)), "{fixed}");
}

#[test]
fn bench_measures_both_directions() {
    let bench = json(&["bench", "zoo:lenet", "--batch", "8", "--seconds", "0.1"]);
    assert!(bench["forward"]["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(bench["train"]["images_per_second"].as_f64().unwrap() > 0.0);
    assert!(bench["peak_bytes"].as_u64().unwrap() > 0 && bench["packed"].is_null());
}

#[test]
fn models_convert_between_formats() {
    let dir = tempfile::tempdir().unwrap();
    let [caffe, prototxt, onnx] = ["a.caffemodel", "a.prototxt", "b.onnx"].map(|n| path(&dir, n));
    run(&["convert", &sample_model(), &caffe]);
    run(&["convert", &prototxt, "--weights", &caffe, &onnx]);
    let before = json(&["eval", &sample_model(), "--data", "mnist-10k"]);
    let after = json(&["eval", &onnx, "--data", "mnist-10k", "--scale", "0.003921569"]);
    assert_eq!(before["top1"], after["top1"]);
}

#[test]
fn runs_are_listed_with_the_command_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (runs, out) = (path(&dir, "runs"), path(&dir, "o.onnx"));
    let run_dir = format!("{runs}/one");
    let args =
        ["compress", &sample_model(), "--calibrate", "random:32", "--bits", "4", "--run-dir", &run_dir];
    run(&[&args[..], &["-o", &out, "--quiet"]].concat());
    let listed = json(&["runs", &runs]);
    assert_eq!(
        (listed["runs"][0]["finished"].as_bool(), listed["runs"][0]["resume"].as_str()),
        (Some(true), Some(""))
    );
    std::fs::remove_file(&out).unwrap();
    let listed = json(&["runs", &runs]);
    assert_eq!(listed["runs"][0]["state"], "quantize: 4 layers done");
    let resume = listed["runs"][0]["resume"].as_str().unwrap();
    assert_eq!(resume, format!("slq resume {run_dir}"));
    run(&["compress", "--resume", &run_dir]);
    assert!(std::path::Path::new(&out).exists());
}

#[test]
fn long_tables_show_the_largest_layers() {
    let text = |more: &[&str]| {
        let output = run(&[&["inspect", "zoo:mobilenet-v2"], more].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    let (short, all) = (text(&[]), text(&["--all"]));
    assert!(short.contains("the 10 largest of") && short.lines().count() < 20, "{short}");
    assert!(all.lines().count() > 100);
}

#[test]
fn open_sizes_of_inputs_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = slq::Model::open("zoo:lenet").unwrap();
    let input = &mut model.graph.inputs[0];
    let open = |name: &str| slq::graph::Dim::Symbol(name.into());
    input.shape = Some(vec![open("N"), slq::graph::Dim::Known(1), open("h"), open("w")]);
    let name = input.name.clone();
    let (net, out) = (path(&dir, "open.onnx"), path(&dir, "small.onnx"));
    model.save(&net).unwrap();
    let job = ["compress", &net, "--calibrate", "random:16", "--bits", "4", "-o", &out];
    let said = fails(&job, 1);
    assert!(said.contains("--input-shape"), "{said}");
    let shape = format!("{name}=1x1x28x28");
    let report = json(&[&job[..], &["--input-shape", &shape]].concat());
    assert_eq!(report["method"], "calibrate");
    let fixed = &slq::Model::open(out.as_str()).unwrap().graph.inputs[0];
    let sizes =
        [open("N"), slq::graph::Dim::Known(1), slq::graph::Dim::Known(28), slq::graph::Dim::Known(28)];
    assert_eq!(fixed.shape.as_deref(), Some(&sizes[..]));
    let said = fails(&["inspect", &net, "--input-shape", "no=1"], 1);
    assert!(said.contains(&format!("'{name}'")), "{said}");
}
