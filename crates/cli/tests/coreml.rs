//! Core ML packages from the command line.

mod common;

use std::path::Path;
use std::process::Command;

use common::{fails, json, path, run, sample_model};

/// Runs `scripts/check-coreml.py` on models; says that it was skipped where coremltools is missing.
fn check(models: &[&str]) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    let Some(python) = std::env::var_os("SLQ_PYTHON") else {
        println!("SKIPPED part of {test}: SLQ_PYTHON is not set");
        return;
    };
    if !Command::new(&python).args(["-c", "import coremltools"]).output().is_ok_and(|o| o.status.success()) {
        println!("SKIPPED part of {test}: {} has no coremltools", python.display());
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/check-coreml.py");
    let done = Command::new(python).arg(script).arg(env!("CARGO_BIN_EXE_slq")).args(models).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{text}");
    print!("{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn a_package_is_written_beside_an_onnx_file_and_computes_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let [onnx, package] = ["a.onnx", "a.mlpackage"].map(|n| path(&dir, n));
    let model = sample_model();
    let args = ["compress", &model, "--method", "kmeans", "--bits", "3", "--granularity", "channel"];
    let report = json(&[&args[..], &["-o", &package, "-o", &onnx]].concat());
    let bytes = report["outputs"][0]["file_bytes"].as_u64().unwrap();
    let stored = report["size"]["stored_bytes"].as_u64().unwrap();
    assert!((stored..stored + 20_000).contains(&bytes), "{report}");
    for file in
        ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"]
    {
        assert!(Path::new(&package).join(file).is_file(), "{file}");
    }
    check(&[&onnx]);
}

#[test]
fn widths_are_refused_before_the_work_or_grow() {
    let dir = tempfile::tempdir().unwrap();
    let [onnx, package] = ["a.onnx", "a.mlpackage"].map(|n| path(&dir, n));
    let model = sample_model();
    let args = ["compress", &model, "--data", "mnist-10k", "--bits", "4", "--layers", "*=5", "-o", &package];
    let said = fails(&args, 1);
    assert!(said.contains("5 bits") && said.contains("--round-up-widths"), "{said}");
    let run_dir = path(&dir, "run");
    let budget = ["compress", &model, "--data", "mnist-10k", "--target-size", "20x", "--run-dir", &run_dir];
    let said = fails(&[&budget[..], &["-o", &package]].concat(), 1);
    assert!(said.contains("budget") && said.contains("--round-up-widths"), "{said}");
    assert!(!Path::new(&package).exists() && !Path::new(&run_dir).exists());
    run(&["compress", &model, "--method", "kmeans", "--bits", "5", "-o", &onnx]);
    assert!(fails(&["convert", &onnx, &package], 1).contains("5 bits"));
    run(&["convert", &onnx, &package, "--round-up-widths"]);
    run(&["convert", &onnx, &package, "--dense"]);
    assert!(Path::new(&package).is_dir());
}

#[test]
fn a_folder_of_the_users_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let package = path(&dir, "a.mlpackage");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(Path::new(&package).join("notes.txt"), "mine").unwrap();
    let said = fails(&["convert", &sample_model(), &package, "--overwrite"], 1);
    assert!(said.contains("never replaced"), "{said}");
    assert!(Path::new(&package).join("notes.txt").exists());
}
