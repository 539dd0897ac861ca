//! TensorFlow Lite files: what is written, what is refused before the work, and what other programs compute from them.

mod common;

use std::path::Path;
use std::process::Command;

use common::{fails, json, path, run, sample_model, shared};

const NETWORKS: [&str; 4] = ["ds-cnn", "mobilenet-v1-025", "resnet8", "autoencoder"];

/// Compares pairs of .onnx and .tflite files by scripts/check-tflite.py. Says so where the Python packages are missing.
fn same_outputs(pairs: &[String]) {
    let name = std::thread::current().name().unwrap_or("test").to_string();
    let Some(python) = std::env::var_os("SLQ_TFLITE_PYTHON") else {
        println!("SKIPPED part of {name}: SLQ_TFLITE_PYTHON is not set (scripts/checkers-tflite)");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/check-tflite.py");
    let output = Command::new(python).arg(script).args(pairs).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        println!("SKIPPED part of {name}: {text}");
        return;
    }
    assert!(output.status.success(), "{text}");
    println!("{text}");
}

#[test]
fn float_files_compute_what_onnx_files_compute() {
    let dir = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    let mut sources: Vec<String> = NETWORKS.iter().map(|n| format!("zoo:{n}")).collect();
    sources.push(sample_model());
    sources.extend(
        ["models/resnet20_cifar10.onnx", "models/mobilenet_v2.onnx"].iter().filter_map(|m| shared(m)),
    );
    for (i, source) in sources.iter().enumerate() {
        for ending in ["onnx", "tflite"] {
            let out = path(&dir, &format!("{i}.{ending}"));
            run(&["convert", source, &out, "--dense"]);
            pairs.push(out);
        }
    }
    same_outputs(&pairs);
}

#[test]
fn packed_files_compute_what_palettized_onnx_files_compute() {
    let dir = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for (i, (source, bits)) in
        [("zoo:ds-cnn", "4"), ("zoo:resnet8", "3"), (&*sample_model(), "7")].iter().enumerate()
    {
        let [onnx, tflite, later] =
            ["onnx", "tflite", "later.tflite"].map(|e| path(&dir, &format!("{i}.{e}")));
        let report =
            json(&["compress", source, "--method", "kmeans", "--bits", bits, "-o", &onnx, "-o", &tflite]);
        let norms = report["folded_batch_norms"].as_array().map_or(0, Vec::len);
        assert_eq!(norms, [9, 7, 0][i], "{report}");
        assert_eq!(report["outputs"].as_array().unwrap().len(), 2);
        run(&["convert", &onnx, &later]);
        pairs.extend([onnx.clone(), tflite, onnx, later]);
    }
    same_outputs(&pairs);
}

#[test]
fn a_codebook_before_folding_becomes_one_for_each_channel() {
    let dir = tempfile::tempdir().unwrap();
    let [onnx, tflite] = ["a.onnx", "a.tflite"].map(|n| path(&dir, n));
    run(&["compress", "zoo:resnet8", "--method", "kmeans", "--bits", "4", "-o", &onnx]);
    let saved = json(&["convert", &onnx, &tflite]);
    let notes = saved["outputs"][0]["notes"].to_string();
    assert!(notes.contains("batch-norms folded"), "{notes}");
    same_outputs(&[onnx, tflite]);
}

#[test]
fn what_does_not_fit_is_named_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let [tflite, onnx] = ["a.tflite", "a.onnx"].map(|n| path(&dir, n));
    let compress = |model: &str, more: &[&str]| {
        fails(&[&["compress", model, "--method", "kmeans", "-o", &tflite][..], more].concat(), 1)
    };
    let said = compress(&sample_model(), &["--bits", "8"]);
    assert!(said.contains("7 bits") && said.contains("--dense"), "{said}");
    let said = compress(&sample_model(), &["--bits", "4", "--layers", "ip*=8"]);
    assert!(said.contains("ip1") && !said.contains("conv1"), "{said}");
    let said = compress(&sample_model(), &["--target-size", "10x"]);
    assert!(said.contains("budget"), "{said}");
    let said = compress("zoo:alexnet", &["--bits", "4"]);
    assert!(said.contains("norm1") && said.contains("norm2"), "{said}");
    run(&["compress", &sample_model(), "--method", "kmeans", "--bits", "8", "-o", &onnx]);
    let said = fails(&["convert", &onnx, &tflite], 1);
    assert!(said.contains("7 bits"), "{said}");
    assert!(!Path::new(&tflite).exists());
    let dense = path(&dir, "dense.tflite");
    run(&["convert", &onnx, &dense, "--dense"]);
    same_outputs(&[onnx, dense]);
}

#[test]
fn operators_and_paddings_agree_with_onnxruntime() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().display().to_string();
    if !common::python("make_tflite_cases.py", &[&folder]) {
        return;
    }
    let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let networks: Vec<_> = files.filter(|f| f.extension().is_some_and(|e| e == "onnx")).collect();
    assert!(networks.len() > 15, "{networks:?}");
    for integers in [false, true] {
        let mut pairs = Vec::new();
        for network in &networks {
            let [tflite, inputs] = ["tflite", "npz"].map(|e| network.with_extension(e).display().to_string());
            let onnx = network.display().to_string();
            let mut args = vec!["convert", &onnx, &tflite, "--dense"];
            if integers {
                args.extend(["--int8", "--calibrate", &inputs]);
            }
            run(&args);
            pairs.extend([onnx, tflite]);
        }
        same_outputs(&pairs);
    }
}

/// 64 inputs of numbers drawn from a normal distribution.
fn inputs(file: &str, shape: &[usize]) {
    let mut state = 1u64;
    let mut draw = || {
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u32 << 24) as f32
        };
        (0..12).map(|_| uniform()).sum::<f32>() - 6.0
    };
    let shape = [&[64], shape].concat();
    let values = (0..shape.iter().product()).map(|_| draw()).collect();
    slq::arrays::write(Path::new(file), &slq::graph::Tensor::f32(shape, values).unwrap()).unwrap();
}

#[test]
fn integers_compute_what_floats_compute_but_for_noise() {
    let dir = tempfile::tempdir().unwrap();
    let sample = sample_model();
    let mut pairs = vec!["--noise".into(), "20".into()];
    for (i, (source, shape)) in
        [("zoo:ds-cnn", &[1, 49, 10][..]), ("zoo:resnet8", &[3, 32, 32]), (&*sample, &[1, 28, 28])]
            .iter()
            .enumerate()
    {
        let [onnx, tflite, dense, npy] =
            ["onnx", "tflite", "dense.tflite", "npy"].map(|e| path(&dir, &format!("{i}.{e}")));
        inputs(&npy, shape);
        let more = ["--method", "kmeans", "--bits", "4", "--calibrate", &npy, "--int8"];
        let report = json(&[&["compress", source, "-o", &tflite, "-o", &onnx][..], &more].concat());
        let notes = report["outputs"][0]["notes"].to_string();
        assert!(notes.contains("integers of 8 bits") && notes.contains("signal-to-noise"), "{notes}");
        run(&["convert", &onnx, &dense, "--dense", "--int8", "--calibrate", &npy]);
        pairs.extend([onnx.clone(), tflite, onnx, dense]);
    }
    same_outputs(&pairs);
}

#[test]
fn integers_need_inputs_and_an_output_that_holds_them() {
    let dir = tempfile::tempdir().unwrap();
    let [tflite, onnx, npz] = ["a.tflite", "a.onnx", "a.npz"].map(|n| path(&dir, n));
    let sample = sample_model();
    let said = fails(&["compress", &sample, "--method", "kmeans", "--int8", "-o", &tflite], 1);
    assert!(said.contains("--calibrate"), "{said}");
    let random =
        ["compress", &sample, "--method", "kmeans", "--calibrate", "random:8", "--int8", "-o", &tflite];
    assert!(fails(&random, 1).contains("real inputs"));
    let said = fails(&["compress", &sample, "--method", "kmeans", "--int8", "-o", &onnx], 1);
    assert!(said.contains(".tflite"), "{said}");
    for (more, word) in [
        (&["--int8"][..], "real inputs"),
        (&["--calibrate", "mnist-10k"], "--int8"),
        (&["--mean", "0.5"], "--int8"),
        (&["--int8", "--calibrate", "random:8"], "real inputs"),
    ] {
        let said = fails(&[&["convert", &sample, &tflite][..], more].concat(), 1);
        assert!(said.contains(word), "{said}");
    }
    for more in [&["--int8"][..], &["--scale", "2"]] {
        assert!(fails(&[&["convert", "mnist-10k", &npz][..], more].concat(), 1).contains("dataset"));
    }
    assert!(!Path::new(&tflite).exists() && !Path::new(&npz).exists());
}
