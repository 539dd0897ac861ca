//! What the command-line tests share: running the program, finding data, asking Python.
#![allow(dead_code)] // each test file uses its part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The program under test.
pub fn slq() -> Command {
    Command::new(env!("CARGO_BIN_EXE_slq"))
}

/// Runs the program and returns what it printed; it must succeed.
pub fn run(args: &[&str]) -> Output {
    let output = slq().args(args).output().unwrap();
    assert!(output.status.success(), "slq {args:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// Runs the program with `--json` and parses the one object it prints.
pub fn json(args: &[&str]) -> serde_json::Value {
    let mut all = args.to_vec();
    all.extend(["--json", "--quiet"]);
    let output = run(&all);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| {
        panic!("slq {args:?} printed no JSON ({e}): {}", String::from_utf8_lossy(&output.stdout))
    })
}

/// Runs the program, which must fail with `status` and one line on stderr; returns that line.
pub fn fails(args: &[&str], status: i32) -> String {
    let output = slq().args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "slq {args:?}: {text}");
    if status == 1 {
        let errors = text.lines().filter(|l| l.starts_with("error: ")).count();
        assert_eq!(errors, 1, "slq {args:?} should say one sentence, said: {text}");
    }
    assert!(!text.contains("panicked"), "slq {args:?} panicked: {text}");
    text
}

/// The built-in sample's network as a file.
pub fn sample_model() -> String {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../slq/models/lenet_mnist10k.onnx").into()
}

/// A file of the larger data: in `SLQ_DATA`, or in `../shared` beside the repository. Says so where it is missing.
pub fn shared(path: &str) -> Option<String> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let root = std::env::var_os("SLQ_DATA").map_or(beside, PathBuf::from);
    existing(&root.join(path))
}

/// Fashion-MNIST, where Debian's package puts it.
pub fn fashion_mnist() -> Option<String> {
    existing(Path::new("/usr/share/datasets/fashion-mnist"))
}

fn existing(path: &Path) -> Option<String> {
    if path.exists() {
        return Some(path.display().to_string());
    }
    println!("SKIPPED {}: {} is not here", std::thread::current().name().unwrap_or("test"), path.display());
    None
}

/// Runs a Python script of this folder with the interpreter that `SLQ_PYTHON` names; it must succeed. Returns false
/// (and says so) where there is none.
pub fn python(script: &str, args: &[&str]) -> bool {
    let Some(python) = std::env::var_os("SLQ_PYTHON") else {
        println!(
            "SKIPPED part of {}: SLQ_PYTHON is not set",
            std::thread::current().name().unwrap_or("test")
        );
        return false;
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new(python).arg(path).args(args).output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} {args:?}: {text}");
    print!("{text}");
    true
}

/// A path inside a temporary directory, as text.
pub fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

/// A dataset in CIFAR's binary layout with so many images to train and to test on, of pixels that depend on their place alone.
pub fn cifar(dir: &tempfile::TempDir, images: [u32; 2]) -> String {
    let folder = path(dir, "cifar");
    std::fs::create_dir(&folder).unwrap();
    for (name, images) in ["data_batch_1.bin", "test_batch.bin"].into_iter().zip(images) {
        let pixel = |i: u32, p: u32| ((i * 3072 + p).wrapping_mul(2_654_435_761) >> 24) as u8;
        let image = |i: u32| std::iter::once((i % 10) as u8).chain((0..3072).map(move |p| pixel(i, p)));
        let bytes: Vec<u8> = (0..images).flat_map(image).collect();
        std::fs::write(Path::new(&folder).join(name), bytes).unwrap();
    }
    folder
}
