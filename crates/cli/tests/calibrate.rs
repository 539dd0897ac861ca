//! `slq compress --calibrate` and `slq compare`, end to end.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{fails, json, path, run, sample_model, slq};

#[test]
fn unlabelled_digits_keep_the_sample_at_two_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    let args = ["compress", &sample_model(), "--calibrate", "mnist-10k", "--calibration-images", "256"];
    let report = json(&[&args[..], &["--bits", "2", "--run-dir", &run_dir, "-o", &out]].concat());
    assert_eq!((report["method"].as_str(), report["codebook_size"].as_u64()), (Some("calibrate"), Some(4)));
    assert!(report["baseline"].is_null(), "no labels, no accuracy");
    assert!(report["agreement"].as_f64().unwrap() > 0.97, "{}", report["agreement"]);
    assert_eq!(report["calibration"]["images"], 256);
    assert_eq!(report["damage"]["seen"], false);
    assert!(report["outputs"][0]["ratio"].as_f64().unwrap() > 14.0, "{}", report["outputs"]);
    // Labels are for the check alone: clustering without data loses a multiple.
    let top1 = |model: &str| json(&["eval", model, "--data", "mnist-10k"])["top1"].as_f64().unwrap();
    let clustered = path(&dir, "clustered.onnx");
    run(&["compress", &sample_model(), "--method", "kmeans", "--bits", "2", "-o", &clustered, "--quiet"]);
    let (float, calibrated, clustered) = (top1(&sample_model()), top1(&out), top1(&clustered));
    assert!(float - calibrated < 0.01, "{float} {calibrated}");
    assert!(calibrated > clustered, "{calibrated} {clustered}");
    let beside = json(&["compare", &sample_model(), &out, "--data", "mnist-10k"]);
    for key in ["max_abs", "relative", "snr_db", "agreement", "kl"] {
        assert!(beside[key].is_f64(), "{key}: {beside}");
    }
    assert_eq!(
        (beside["bytes"].as_array().unwrap().len(), beside["layers"].as_array().unwrap().len()),
        (2, 4)
    );
    assert!(beside["agreement"].as_f64().unwrap() > 0.97);
}

#[test]
fn a_budget_for_a_container_chooses_the_price_of_a_bit_by_the_size_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.slq"), path(&dir, "run"));
    let args =
        ["compress", &sample_model(), "--calibrate", "mnist-10k", "--calibration-images", "64", "-o", &out];
    let report = json(&[&args[..], &["--target-size", "40KB", "--run-dir", &run_dir]].concat());
    let file = std::fs::metadata(&out).unwrap().len();
    assert!((36_000..=40_000).contains(&file), "{file}");
    let search = &report["search"];
    let trials = search["trials"].as_array().unwrap();
    let chosen = &trials[search["chosen"].as_u64().unwrap() as usize];
    assert_eq!((chosen["stored_bytes"].as_u64(), chosen["fits"].as_bool()), (Some(file), Some(true)));
    assert!(chosen["rate"].as_f64().unwrap() > 0.0);
    for trial in trials {
        assert_eq!(trial["fits"], trial["stored_bytes"].as_u64().unwrap() <= 40_000, "{trial}");
        // Of one width the largest file that fits.
        let width = |trial: &serde_json::Value| {
            trial["label"].as_str().unwrap().split(',').next().unwrap().to_owned()
        };
        let larger = trial["stored_bytes"].as_u64() > chosen["stored_bytes"].as_u64();
        assert!(!(larger && trial["fits"] == true && width(trial) == width(chosen)), "{trial} {chosen}");
    }
    // Widths for layers, which count codes of fixed width, leave more of the same budget unused.
    let kept = |out: &str| {
        let budget = ["--target-size", "100KB", "-o", out, "--overwrite"];
        json(&[&args[..6], &budget].concat())
    };
    let (prices, widths) = (kept(&out), kept(&path(&dir, "small.onnx")));
    let kl = |report: &serde_json::Value| report["damage"]["kl"].as_f64().unwrap();
    assert!(kl(&prices) < kl(&widths), "{} {}", kl(&prices), kl(&widths));
    assert!(widths["search"]["trials"][0]["rate"].is_null());

    let report = json(&[&args[..], &["--max-drop", "3", "--overwrite"]].concat());
    let file = std::fs::metadata(&out).unwrap().len();
    assert!(report["agreement"].as_f64().unwrap() >= 0.97 && file < 40_000, "{file} {}", report["agreement"]);
    let search = &report["search"];
    let chosen = &search["trials"][search["chosen"].as_u64().unwrap() as usize];
    assert_eq!(chosen["stored_bytes"].as_u64(), Some(file));
    // What no price reaches ends with a sentence and leaves the old file.
    let said = fails(&[&args[..], &["--target-size", "1000", "--overwrite"]].concat(), 1);
    assert!(said.contains("1000 bytes cannot be reached") && said.contains("decompose"), "{said}");
    assert_eq!(std::fs::metadata(&out).unwrap().len(), file);
}

#[test]
fn without_data_damage_is_estimated_on_random_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "o.onnx");
    let estimate = |bits: &str| json(&["compress", &sample_model(), "--bits", bits, "-o", &out]);
    let (fine, coarse) = (estimate("6"), estimate("1"));
    assert_eq!((fine["method"].as_str(), &fine["agreement"]), (Some("kmeans"), &serde_json::Value::Null));
    assert_eq!(fine["damage"]["inputs"], "random");
    assert_eq!(fine["warnings"], serde_json::json!([]));
    assert_eq!(coarse["warnings"][0]["kind"], "damage", "{}", coarse["warnings"]);
    let run_dir = path(&dir, "run");
    let args =
        ["compress", &sample_model(), "--calibrate", "random:40", "--bits", "3", "--run-dir", &run_dir];
    let random = json(&[&args[..], &["-o", &out]].concat());
    assert_eq!(random["warnings"][0]["kind"], "random-inputs", "{}", random["warnings"]);
}

#[test]
fn a_killed_calibration_resumes_to_the_same_bits_on_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let job = |run_dir: &str, out: &str| -> Vec<String> {
        let args =
            ["compress", "zoo:mobilenet-v2", "--calibrate", "random:32", "--positions", "16", "--bits", "3"];
        let more = ["--granularity", "channel", "--run-dir", run_dir, "-o", out, "--quiet"];
        args.iter().chain(&more).map(|a| (*a).to_owned()).collect()
    };
    let [whole_dir, whole] = ["whole", "whole.onnx"].map(|n| path(&dir, n));
    let done = slq().args(job(&whole_dir, &whole)).args(["--threads", "1"]).status().unwrap();
    assert!(done.success());
    let [run_dir, out] = ["killed", "killed.onnx"].map(|n| path(&dir, n));
    let mut child = slq().args(job(&run_dir, &out)).args(["--threads", "2"]).spawn().unwrap();
    let (began, state) = (Instant::now(), Path::new(&run_dir).join("1-quantize/state.json"));
    while !state.exists() {
        assert!(began.elapsed() < Duration::from_secs(300), "no layer");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!Path::new(&out).exists(), "killed too late to test anything");
    run(&["compress", "--resume", &run_dir]);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&whole).unwrap());
}

#[test]
fn clustering_without_training_takes_its_weights_from_unlabelled_inputs() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    let kl = |more: &[&str]| {
        let out = path(&dir, "k.onnx");
        let args = ["compress", &model, "--method", "kmeans", "--bits", "2", "-o", &out, "--overwrite"];
        run(&[&args[..], &["--calibrate", "mnist-10k"], more].concat());
        json(&["compare", &model, &out, "--data", "mnist-10k"])["kl"].as_f64().unwrap()
    };
    let (weighted, plain) = (kl(&["--cluster-weights", "inputs"]), kl(&[]));
    assert!(weighted < 0.8 * plain, "{weighted} {plain}");
    let run_dir = path(&dir, "run");
    let refused = |more: &[&str]| {
        let args = ["compress", &model, "--bits", "2", "-o", &path(&dir, "o.onnx"), "--run-dir", &run_dir];
        fails(&[&args[..], &["--cluster-weights", "inputs"], more].concat(), 1)
    };
    for inputs in [&[][..], &["--calibrate", "random:8"]] {
        let said = refused(&[&["--method", "kmeans"], inputs].concat());
        assert!(said.contains("cluster-weights") && said.contains("not random ones"), "{said}");
    }
    let said = refused(&["--calibrate", "mnist-10k"]);
    assert!(said.contains("cluster-weights") && said.contains("calibrate"), "{said}");
    assert!(!Path::new(&run_dir).exists());
}

#[test]
fn inputs_that_do_not_fit_are_named_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let (out, array) = (path(&dir, "o.onnx"), path(&dir, "x.npy"));
    // 3 x 5 floats: not the network's 1 x 28 x 28.
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.bytes());
    bytes.extend([0u8; 60]);
    std::fs::write(&array, bytes).unwrap();
    let run_dir = path(&dir, "run");
    let args = ["compress", &sample_model(), "--calibrate", &array, "--run-dir", &run_dir, "-o", &out];
    let said = fails(&args, 1);
    assert!(said.contains("calibration inputs") && said.contains("[3, 5]"), "{said}");
    assert!(!Path::new(&out).exists());
}
