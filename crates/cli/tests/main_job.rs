//! The main job, end to end, through the program.

mod common;

use std::time::{Duration, Instant};

use common::{fails, fashion_mnist, json, path, python, run, sample_model, shared, slq};

/// Arguments of a short run on the sample: three rounds of a few steps.
fn short_run<'a>(model: &'a str, run_dir: &'a str, out: &'a str) -> Vec<&'a str> {
    let mut args =
        vec!["compress", model, "--data", "mnist-10k", "--codebook-size", "9", "--schedule", "3,7,9"];
    args.extend(["--iterations-per-round", "30", "--run-dir", run_dir, "-o", out]);
    args
}

#[test]
fn the_sample_loses_nothing_at_four_bits() {
    let dir = tempfile::tempdir().unwrap();
    let [small, caffe, bare, dense, ternary] =
        ["a.onnx", "a.caffemodel", "a.safetensors", "dense.onnx", "ternary.onnx"].map(|n| path(&dir, n));
    let report = json(&["demo", "-o", &small, "-o", &caffe, "-o", &bare, "--ternary", &ternary]);
    let top1 = |key: &str| report[key]["top1"].as_f64().unwrap();
    // 2000 test images: one standard error of a difference of this size is below half a point.
    assert!(top1("final") >= top1("baseline") - 0.005, "{report}");
    assert_eq!(report["rounds"].as_array().unwrap().len(), 5);
    assert_eq!(report["rounds"][4]["fixed_fraction"], 1.0);
    assert_eq!(report["codebook_size"], 16);
    for output in report["outputs"].as_array().unwrap().iter().chain([&report["ternary"]["outputs"][0]]) {
        assert!(output["verified"].as_f64().unwrap() < 1e-3, "{output}");
    }

    let inspected = json(&["inspect", &small]);
    let layers = inspected["layers"].as_array().unwrap();
    let weights: Vec<_> = layers.iter().filter(|l| l["shape"].as_array().unwrap().len() > 1).collect();
    assert_eq!(weights.len(), 4);
    assert!(weights.iter().all(|l| l["bits"] == 4 && l["distinct"].as_u64().unwrap() <= 16), "{inspected}");
    assert_eq!(inspected["total"]["stored_bytes"], report["size"]["stored_bytes"]);
    // 430 500 weights at 4 bits, 580 float biases, 1 KB for each of four layers.
    let bytes = report["outputs"][0]["file_bytes"].as_u64().unwrap();
    assert!(bytes <= 430_500 * 4 / 8 * 102 / 100 + 4 * 580 + 4 * 1024, "{bytes} bytes");

    let mlq = &report["ternary"];
    assert_eq!((mlq["method"].as_str(), mlq["codebook_size"].as_u64()), (Some("mlq"), Some(3)));
    assert!(mlq["final"]["top1"].as_f64().unwrap() > top1("baseline") - 0.02, "{mlq}");
    assert_eq!(json(&["eval", &ternary, "--data", "mnist-10k"])["top1"], mlq["final"]["top1"]);

    let first = json(&["eval", &small, "--data", "mnist-10k"]);
    assert_eq!(first["top1"], report["final"]["top1"]);
    let restored = json(&["eval", &bare, "--graph", &sample_model(), "--data", "mnist-10k"]);
    assert_eq!(restored["top1"], first["top1"]);

    let [packed, back] = ["a.slq", "back.onnx"].map(|n| path(&dir, n));
    let container = json(&["convert", &small, &packed])["outputs"][0]["file_bytes"].as_u64().unwrap();
    assert!(
        container < report["size"]["entropy_bytes"].as_u64().unwrap() * 1005 / 1000 + 1536,
        "{container}"
    );
    assert_eq!(json(&["eval", &packed, "--data", "mnist-10k"])["top1"], report["final"]["top1"]);
    run(&["convert", &packed, &back]);
    assert_eq!(std::fs::read(&back).unwrap(), std::fs::read(&small).unwrap(), "there and back");

    let [images, predictions] = ["sample.npz", "predictions.npy"].map(|n| path(&dir, n));
    run(&["convert", "mnist-10k", &images]);
    run(&["convert", &small, &dense, "--dense"]);
    run(&["eval", &small, "--data", "mnist-10k", "--predictions", &predictions]);
    let scale = (1.0f64 / 255.0).to_string();
    python("check_onnx.py", &[&small, &dense, &images, &scale, &predictions]);
    python("check_caffe.py", &[&path(&dir, "a.prototxt"), &caffe, &images, &scale, &predictions]);
}

#[test]
fn a_killed_run_resumes_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    let [whole_dir, whole] = ["whole", "whole.onnx"].map(|n| path(&dir, n));
    run(&short_run(&model, &whole_dir, &whole));
    let expected = std::fs::read(&whole).unwrap();
    // Before round one is complete, and after it.
    for (name, wait_for) in [("early", "recipe.toml"), ("late", "1-quantize/round-1.safetensors")] {
        let [run_dir, out] = [name.to_string(), format!("{name}.onnx")].map(|n| path(&dir, &n));
        let mut child = slq().args(short_run(&model, &run_dir, &out)).arg("--quiet").spawn().unwrap();
        let began = Instant::now();
        while !std::path::Path::new(&run_dir).join(wait_for).exists() {
            assert!(began.elapsed() < Duration::from_secs(120), "{wait_for} did not appear");
            std::thread::sleep(Duration::from_millis(2));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!std::path::Path::new(&out).exists(), "killed too late to test anything");
        run(&["compress", "--resume", &run_dir]);
        assert_eq!(std::fs::read(&out).unwrap(), expected, "{name}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    let files = ["1", "2", "3"].map(|threads| {
        let [run_dir, out] =
            [format!("run{threads}"), format!("{threads}.safetensors")].map(|n| path(&dir, &n));
        let mut args = short_run(&model, &run_dir, &out);
        args.extend(["--threads", threads]);
        run(&args);
        std::fs::read(&out).unwrap()
    });
    assert!(files[0] == files[1] && files[1] == files[2], "the outputs differ");
}

#[test]
fn every_partition_ends_with_every_weight_fixed() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    for partition in ["loss", "taylor", "magnitude", "reversed"] {
        let [run_dir, out] = [partition.to_string(), format!("{partition}.onnx")].map(|n| path(&dir, &n));
        let mut args = short_run(&model, &run_dir, &out);
        args.extend(["--partition", partition, "--calibration", "200"]);
        let report = json(&args);
        assert_eq!(report["rounds"][2]["fixed_fraction"], 1.0, "{partition}");
        let fractions: Vec<f64> = report["rounds"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| r["fixed_fraction"].as_f64().unwrap())
            .collect();
        assert!(fractions.is_sorted(), "{partition}: {fractions:?}");
    }
}

#[test]
fn kmeans_needs_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "k.onnx");
    for (bits, granularity) in [("1", "tensor"), ("4", "channel"), ("8", "group:4")] {
        let args =
            ["compress", &sample_model(), "--method", "kmeans", "--bits", bits, "--granularity", granularity];
        let report = json(&[&args[..], &["-o", &out]].concat());
        assert!(report["baseline"].is_null() && report["final"].is_null() && report["run_dir"].is_null());
        let ratio = report["size"]["ratio"].as_f64().unwrap();
        let bits: f64 = bits.parse().unwrap();
        assert!(ratio > 0.7 * 32.0 / bits && ratio <= 32.0 / bits, "{bits} bits: {ratio}");
    }
}

#[test]
fn kmeans_moves_batch_norms_by_what_sharing_shifts_unless_told_not_to() {
    let dir = tempfile::tempdir().unwrap();
    let [net, out] = ["net.onnx", "k.onnx"].map(|n| path(&dir, n));
    run(&["convert", "zoo:resnet20", &net]);
    // All means are 0 and all variances 1 in a network fresh from its initialisation.
    let moved = |file: &str| {
        let report = json(&["inspect", file]);
        let layers = report["layers"].as_array().unwrap();
        let moved =
            layers.iter().filter(|l| l["name"].as_str().unwrap().contains("running_") && l["distinct"] != 1);
        moved.count()
    };
    let args = ["compress", &net, "--method", "kmeans", "--bits", "2", "-o", &out];
    run(&args);
    assert_eq!(moved(&net), 0);
    assert!(moved(&out) > 20, "{}", moved(&out));
    run(&[&args[..], &["--no-correction"]].concat());
    assert_eq!(moved(&out), 0);
}

#[test]
fn distillation_needs_no_labels_of_the_right_network() {
    let dir = tempfile::tempdir().unwrap();
    let [run_dir, out] = ["run", "d.onnx"].map(|n| path(&dir, n));
    let model = sample_model();
    let mut args = short_run(&model, &run_dir, &out);
    args.extend(["--distill", "2"]);
    let report = json(&args);
    assert!(report["final"]["top1"].as_f64().unwrap() > 0.95, "{report}");
}

#[test]
fn another_network_teaches() {
    let dir = tempfile::tempdir().unwrap();
    let [run_dir, out, taught] = ["run", "t.onnx", "taught.onnx"].map(|n| path(&dir, n));
    let teacher = sample_model();
    let train =
        ["train", "zoo:lenet", "--data", "mnist-10k", "--iterations", "150", "--lr", "0.01", "-o", &taught];
    let report = json(&[&train[..], &["--distill", "1", "--teacher", &teacher]].concat());
    assert!(report["baseline"]["top1"].as_f64().unwrap() < 0.3, "{report}");
    let learned = report["final"]["top1"].as_f64().unwrap();
    assert!(learned > 0.8, "{report}");

    // A student that goes on learning from its teacher while its weights are shared.
    let mut args = short_run(&taught, &run_dir, &out);
    args.extend(["--distill", "1", "--teacher", &teacher, "--lr", "0.01"]);
    let report = json(&args);
    assert!(report["final"]["top1"].as_f64().unwrap() > learned, "{learned} {report}");

    assert!(fails(&[&train[..], &["--teacher", &teacher]].concat(), 1).contains("--distill"));
    let other = ["--distill", "--teacher", "zoo:resnet20"];
    let said = fails(&[&train[..], &other].concat(), 1);
    assert!(said.contains("teacher") && said.contains("3x32x32") && said.contains("1x28x28"), "{said}");
}

#[test]
fn single_layers_follow_their_rules() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "rules.onnx");
    let model = sample_model();
    let names: Vec<String> = json(&["inspect", &model])["layers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|l| l["shape"].as_array().unwrap().len() > 1)
        .map(|l| l["name"].as_str().unwrap().to_string())
        .collect();
    let [skip, narrow] = [format!("{}=skip", names[0]), format!("{}=2", names[2])];
    json(&[
        "compress", &model, "--method", "kmeans", "--bits", "6", "--layers", &skip, "--layers", &narrow,
        "-o", &out,
    ]);
    let layers = json(&["inspect", &out]);
    let distinct = |name: &str| {
        let layers = layers["layers"].as_array().unwrap();
        layers.iter().find(|l| l["name"] == name).unwrap()["distinct"].as_u64().unwrap()
    };
    assert!(distinct(&names[0]) > 400);
    assert_eq!([distinct(&names[1]), distinct(&names[2])], [64, 4]);
}

#[test]
fn caffes_lenet_scores_what_caffe_says() {
    let (Some(prototxt), Some(mnist)) = (shared("models/lenet_mnist_deploy.prototxt"), shared("data/mnist"))
    else {
        return;
    };
    let Some(weights) = shared("models/lenet_mnist.caffemodel") else { return };
    let eval = json(&["eval", &prototxt, "--weights", &weights, "--data", &mnist, "--scale", "0.00390625"]);
    assert_eq!((eval["images"].as_u64(), eval["top1"].as_f64()), (Some(10_000), Some(0.9905)));
    let (Some(weights), Some(fashion)) = (shared("models/lenet_fashion_mnist.caffemodel"), fashion_mnist())
    else {
        return;
    };
    let eval = json(&["eval", &prototxt, "--weights", &weights, "--data", &fashion, "--scale", "0.00390625"]);
    assert_eq!((eval["images"].as_u64(), eval["top1"].as_f64()), (Some(10_000), Some(0.9131)));
}

#[test]
fn preprocessing_that_no_file_says_is_detected() {
    let (Some(net), Some(data)) = (shared("models/resnet20_cifar10.onnx"), shared("data/cifar10-jpeg.zip"))
    else {
        return;
    };
    let found = json(&["eval", &net, "--data", &data, "--train-subset", "::100", "--test-subset", "::20"]);
    assert!(found["top1"].as_f64().unwrap() > 0.76, "{found}");
    let dir = tempfile::tempdir().unwrap();
    let [out, again] = ["k.onnx", "again.onnx"].map(|n| path(&dir, n));
    let subsets = ["--train-subset", "::100", "--test-subset", "::50"];
    let args = ["compress", &net, "--method", "kmeans", "--bits", "6", "--data", &data, "-o", &out];
    let report = json(&[&args[..], &subsets].concat());
    assert_eq!(report["preprocessing"]["source"], "detected");
    let mean = report["preprocessing"]["mean"][0].as_f64().unwrap();
    assert!((mean - 0.485).abs() < 1e-6, "{report}");
    // The file that was written says it from now on.
    let again = json(
        &[
            &["compress", &out, "--method", "kmeans", "--bits", "5", "--data", &data, "-o", &again],
            &subsets[..],
        ]
        .concat(),
    );
    assert_eq!(again["preprocessing"]["source"], "stored");
    let said = fails(&["eval", &net, "--data", "mnist-10k"], 1);
    assert!(said.starts_with("error: the network's preprocessing is not known"), "{said}");
}
