//! Outputs that cannot be written: a folder that takes no files, and a disk that is full. Old files stay as they were, and
//! nothing half written is left.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::{fails, path, run, sample_model, slq};

/// A command and the names of what it writes, which stand in its arguments.
struct Case {
    args: &'static [&'static str],
    outputs: &'static [&'static str],
    /// Blocks that a file may have on the full disk: none, or enough for a job file.
    blocks: u32,
}

const fn case(args: &'static [&'static str], outputs: &'static [&'static str], blocks: u32) -> Case {
    Case { args, outputs, blocks }
}

/// Few images.
const DATA: &[&str] = &["--data", "mnist-10k", "--train-subset", "::20", "--test-subset", "::20"];

/// Every command of `slq --help` that writes a file, in each format; DATA stands for the images, MODEL for a network.
const CASES: &[Case] = &[
    case(&["train", "MODEL", "DATA", "--iterations", "1", "-o", "o.onnx"], &["o.onnx"], 16),
    case(
        &[
            "compress",
            "MODEL",
            "DATA",
            "--bits",
            "2",
            "--iterations-per-round",
            "1",
            "-o",
            "o.onnx",
            "--report",
            "o.html",
        ],
        &["o.onnx", "o.html"],
        16,
    ),
    case(
        &["compress", "MODEL", "--method", "kmeans", "-o", "o.onnx", "-o", "o.slq"],
        &["o.onnx", "o.slq"],
        0,
    ),
    case(&["decompose", "MODEL", "--scheme", "svd", "--rank", "3", "-o", "o.onnx"], &["o.onnx"], 0),
    case(&["sensitivity", "MODEL", "DATA", "--layers-only", "-o", "o.json"], &["o.json"], 0),
    case(&["eval", "MODEL", "DATA", "--predictions", "o.npy"], &["o.npy"], 0),
    case(&["run", "MODEL", "--input", "x.npy", "-o", "o.npy"], &["o.npy"], 0),
    case(&["cluster", "x.npy", "--k", "3", "-o", "o.npz"], &["o.npz"], 0),
    case(&["convert", "MODEL", "o.onnx"], &["o.onnx"], 0),
    case(&["convert", "MODEL", "o.slq"], &["o.slq"], 0),
    case(&["convert", "MODEL", "o.safetensors"], &["o.safetensors"], 0),
    case(&["convert", "MODEL", "o.caffemodel"], &["o.caffemodel"], 0),
    case(&["convert", "MODEL", "o.tflite"], &["o.tflite"], 0),
    case(&["convert", "MODEL", "o.mlpackage"], &["o.mlpackage"], 0),
    case(&["convert", "mnist-10k", "o.npz"], &["o.npz"], 0),
    case(&["convert", "mnist-10k", "o.lmdb"], &["o.lmdb"], 0),
];

/// The arguments, with every output below `folder` where one is given.
fn arguments(case: &Case, folder: Option<&Path>) -> Vec<String> {
    let mut args = Vec::new();
    for &arg in case.args {
        match (arg, folder) {
            ("DATA", _) => args.extend(DATA.iter().map(|a| (*a).to_owned())),
            ("MODEL", _) => args.push(sample_model()),
            (arg, Some(folder)) if case.outputs.contains(&arg) => {
                args.push(folder.join(arg).display().to_string())
            }
            (arg, _) => args.push(arg.into()),
        }
    }
    args
}

/// A folder with the input of `run` and `cluster`.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let values = (0..784).map(|i| i as f32 / 784.0).collect();
    let tensor = slq::graph::Tensor::f32(vec![1, 1, 28, 28], values).unwrap();
    slq::arrays::write(&dir.path().join("x.npy"), &tensor).unwrap();
    dir
}

/// All files and folders below `dir` with their bytes; locks come and go.
fn files(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let (mut found, mut next) = (BTreeMap::new(), vec![dir.to_path_buf()]);
    while let Some(folder) = next.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                next.push(path.clone());
                found.insert(path, None);
            } else if path.file_name().is_some_and(|n| n != "lock") {
                let bytes = std::fs::read(&path).unwrap();
                found.insert(path, Some(bytes));
            }
        }
    }
    found
}

/// Checks that the command failed with one sentence.
fn one_sentence(args: &[String], output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "slq {args:?}: {said}");
    assert_eq!(said.lines().filter(|l| l.starts_with("error: ")).count(), 1, "slq {args:?}: {said}");
    assert!(!said.contains("panicked"), "slq {args:?}: {said}");
    said
}

#[test]
fn a_folder_that_takes_no_files_is_found_before_the_work() {
    let dir = folder();
    // A file in the place of the folder: nobody can write below it, whatever their rights.
    let taken = dir.path().join("file");
    std::fs::write(&taken, "a file").unwrap();
    let before = files(dir.path());
    let began = Instant::now();
    let all = CASES.iter().flat_map(|case| {
        // One output after the other, the rest where they can be written.
        case.outputs.iter().map(move |bad| (case, *bad))
    });
    for (case, bad) in all {
        let args: Vec<String> = arguments(case, None)
            .into_iter()
            .map(|a| if a == bad { taken.join(bad).display().to_string() } else { a })
            .collect();
        let output = slq().args(&args).current_dir(dir.path()).output().unwrap();
        let said = one_sentence(&args, &output);
        assert!(said.contains(bad), "slq {args:?}: {said}");
        assert_eq!(files(dir.path()), before, "slq {args:?}");
    }
    for other in [&["-o", "file/o.onnx"][..], &["--ternary", "file/o.onnx"]] {
        let args: Vec<String> = ["demo"].iter().chain(other).map(|a| (*a).to_owned()).collect();
        let output = slq().args(&args).current_dir(dir.path()).output().unwrap();
        assert!(one_sentence(&args, &output).contains("o.onnx"));
        assert_eq!(files(dir.path()), before, "slq {args:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

#[test]
fn a_run_directory_that_cannot_be_made_is_named() {
    let dir = folder();
    std::fs::write(dir.path().join("file"), "a file").unwrap();
    std::fs::write(dir.path().join("o.onnx"), "an older output").unwrap();
    let before = files(dir.path());
    let trains = CASES.iter().filter(|c| c.args.contains(&"DATA") && c.outputs.contains(&"o.onnx"));
    for case in trains {
        let mut args = arguments(case, None);
        args.extend(["--run-dir", "file/run"].map(String::from));
        let output = slq().args(&args).current_dir(dir.path()).output().unwrap();
        let said = one_sentence(&args, &output);
        assert!(said.contains("file/run"), "{said}");
        assert_eq!(files(dir.path()), before, "slq {args:?}");
    }
}

/// A job that is complete, in the folder `job` below `dir`, with its output in the folder `out`.
fn complete(dir: &tempfile::TempDir) -> (String, PathBuf) {
    let (job, out) = (path(dir, "job"), dir.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    let output = out.join("o.onnx").display().to_string();
    let model = sample_model();
    let args =
        ["compress", &model, "--bits", "2", "--iterations-per-round", "1", "--run-dir", &job, "-o", &output];
    run(&[&args[..], DATA].concat());
    (job, out)
}

#[test]
fn resume_and_report_write_nothing_into_a_folder_that_takes_no_files() {
    let dir = folder();
    let (job, out) = complete(&dir);
    let moved = dir.path().join("moved");
    std::fs::rename(&out, &moved).unwrap();
    std::fs::write(&out, "a file").unwrap();
    let before = files(dir.path());
    let said = fails(&["resume", &job], 1);
    assert!(said.contains("o.onnx") && said.contains("folder"), "{said}");
    assert_eq!(files(dir.path()), before);
    let page = out.join("o.html").display().to_string();
    assert!(fails(&["report", &job, "-o", &page], 1).contains("o.html"));
    assert_eq!(files(dir.path()), before);
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_keeps_its_files() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder();
    let closed = dir.path().join("closed");
    std::fs::create_dir(&closed).unwrap();
    for output in
        CASES.iter().flat_map(|c| c.outputs).filter(|o| !o.ends_with("mlpackage") && !o.ends_with("lmdb"))
    {
        std::fs::write(closed.join(output), "an older output").unwrap();
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(closed.join("probe"), "").is_ok() {
        println!(
            "SKIPPED a_read_only_folder_keeps_its_files: this user writes into read-only folders (root does)"
        );
        return;
    }
    let before = files(dir.path());
    for case in CASES {
        let args = arguments(case, Some(&closed));
        let output = slq().args(&args).current_dir(dir.path()).output().unwrap();
        one_sentence(&args, &output);
        assert_eq!(files(dir.path()), before, "slq {args:?}");
    }
    std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs the program where no file may have more than so many blocks: writing more fails, as on a full disk.
#[cfg(target_os = "linux")]
fn on_a_full_disk(args: &[String], dir: &Path, blocks: u32) -> Output {
    // Without its handler, the signal of this limit would end the program.
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_slq")]).args(args).current_dir(dir);
    command.output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_old_files_and_no_halves() {
    for case in CASES {
        let dir = folder();
        let args = arguments(case, None);
        let before = files(dir.path());
        one_sentence(&args, &on_a_full_disk(&args, dir.path(), case.blocks));
        if !dir.path().join("slq-runs").exists() {
            assert_eq!(files(dir.path()), before, "slq {args:?} into an empty folder");
        }
        assert!(case.outputs.iter().all(|o| !dir.path().join(o).exists()), "slq {args:?}");
        let output = slq().args(&args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "slq {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        let _ = std::fs::remove_dir_all(dir.path().join("slq-runs"));
        let before = files(dir.path());
        one_sentence(&args, &on_a_full_disk(&args, dir.path(), case.blocks));
        let _ = std::fs::remove_dir_all(dir.path().join("slq-runs"));
        assert_eq!(files(dir.path()), before, "slq {args:?} over old files");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn resume_and_report_on_a_full_disk_leave_old_files() {
    let dir = folder();
    let (job, _) = complete(&dir);
    let page = path(&dir, "o.html");
    run(&["report", &job, "-o", &page]);
    let before = files(dir.path());
    for (args, blocks) in [(vec!["resume", &job], 16), (vec!["report", &job, "-o", &page], 0)] {
        let args: Vec<String> = args.into_iter().map(String::from).collect();
        one_sentence(&args, &on_a_full_disk(&args, dir.path(), blocks));
        assert_eq!(files(dir.path()), before, "slq {args:?}");
    }
}
