//! Outputs: known, distinct and writable before the work begins; a user's file is never replaced without a word.

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use common::{fails, json, path, run, sample_model, slq};

#[test]
fn a_users_prototxt_beside_a_caffemodel_stays() {
    let dir = tempfile::tempdir().unwrap();
    let [model, mine, ours] = ["net.caffemodel", "net.prototxt", "net.slq.prototxt"].map(|n| path(&dir, n));
    std::fs::write(&mine, "# my training net\nname: 'mine'\n").unwrap();
    let kept = std::fs::read(&mine).unwrap();
    let commands: &[&[&str]] = &[
        &["convert", &sample_model(), &model],
        &["compress", &sample_model(), "--method", "kmeans", "--bits", "3", "-o", &model],
        &["decompose", &sample_model(), "--scheme", "svd", "--rank", "3", "-o", &model],
        &["train", &sample_model(), "--data", "mnist-10k", "--iterations", "1", "-o", &model],
    ];
    for args in commands {
        let said = run(args);
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains("net.slq.prototxt"), "{args:?}: {said}");
        assert_eq!(std::fs::read(&mine).unwrap(), kept, "{args:?}");
        run(&["inspect", &ours, "--weights", &model]);
        for file in [&ours, &model] {
            std::fs::remove_file(file).unwrap();
        }
    }
    run(&["convert", &sample_model(), &model, "--overwrite"]);
    assert!(std::fs::read_to_string(&mine).unwrap().starts_with("# Written by slq"));
    // What slq wrote it replaces.
    let report = json(&["convert", &sample_model(), &model]);
    assert_eq!(report["outputs"][0]["prototxt"], mine.as_str());
    assert!(!Path::new(&ours).exists());
}

#[test]
fn the_net_that_a_solver_names_is_never_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let [net, solver, weights, model, data] =
        ["net.prototxt", "solver.prototxt", "start.caffemodel", "net.caffemodel", "d.npz"]
            .map(|n| path(&dir, n));
    run(&["convert", &sample_model(), &weights]);
    std::fs::rename(path(&dir, "start.prototxt"), &net).unwrap();
    let text = std::fs::read_to_string(&net).unwrap();
    run(&["convert", "mnist-10k", &data]);
    std::fs::write(&solver, format!("net: '{net}'\nbase_lr: 0.01\nlr_policy: 'fixed'\nmax_iter: 1\n"))
        .unwrap();
    // slq wrote the net's description itself, but here it is an input.
    for overwrite in [&[][..], &["--overwrite"]] {
        let args = ["eval", &net, "--weights", &weights, "--data", &data];
        run(&args);
        let args =
            ["compress", &net, "--weights", &weights, "--method", "kmeans", "--bits", "4", "-o", &model];
        run(&[&args[..], overwrite].concat());
        assert_eq!(std::fs::read_to_string(&net).unwrap(), text);
        run(&["inspect", &path(&dir, "net.slq.prototxt"), "--weights", &model]);
    }
}

#[test]
fn outputs_are_refused_before_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let [folder, net, link, values] = ["d.onnx", "net.onnx", "link.onnx", "v.npy"].map(|n| path(&dir, n));
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(sample_model(), &net).unwrap();
    std::fs::hard_link(&net, &link).unwrap();
    let mut permissions = std::fs::metadata(&net).unwrap().permissions();
    run(&["run", &net, "--input", &digit(&dir), "-o", &values]);
    let input = digit(&dir);
    let before = std::fs::read(&net).unwrap();
    // Each of these would train for hours.
    let long = ["--data", "mnist-10k", "--epochs", "1000"];
    let rounds = ["--data", "mnist-10k", "--epochs-per-round", "1000"];
    let table: &[(&[&[&str]], &str)] = &[
        (&[&["train", &net], &long, &["-o", &folder]], "d.onnx"),
        (&[&["train", &net], &long, &["-o", &net]], "input"),
        (&[&["train", &net], &long, &["-o", &link]], "input"),
        (
            &[&["train", &net], &long, &["-o", &path(&dir, "a.onnx"), "-o", &path(&dir, "./a.onnx")]],
            "two outputs",
        ),
        (&[&["compress", &net], &rounds, &["-o", &folder]], "d.onnx"),
        (&[&["compress", &net], &rounds, &["-o", &link]], "input"),
        (
            &[&["decompose", &net, "--scheme", "spatial", "--macs", "2", "--trp"], &long, &["-o", &link]],
            "input",
        ),
        (&[&["convert", &net, &net]], "input"),
        (&[&["sensitivity", &net, "--data", "mnist-10k", "-o", &folder]], "d.onnx"),
        (&[&["eval", &net, "--data", "mnist-10k", "--predictions", &net]], "input"),
        (&[&["run", &net, "--input", &input, "-o", &input]], "input"),
        (&[&["cluster", &values, "--k", "3", "-o", &values]], "input"),
    ];
    let began = Instant::now();
    for (args, word) in table {
        let args: Vec<&str> = args.iter().flat_map(|a| a.iter().copied()).collect();
        let said = fails(&args, 1);
        assert!(said.contains(word), "{args:?}: {said}");
    }
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert_eq!(std::fs::read(&net).unwrap(), before);
    permissions.set_readonly(true);
    std::fs::set_permissions(&net, permissions).unwrap();
    let said = fails(&[&["train", &sample_model()][..], &long, &["-o", &net]].concat(), 1);
    assert!(said.contains("read-only"), "{said}");
}

/// An image of the network's size.
fn digit(dir: &tempfile::TempDir) -> String {
    let path = path(dir, "digit.npy");
    let tensor = slq::graph::Tensor::f32(vec![1, 1, 28, 28], vec![0.5; 784]).unwrap();
    slq::arrays::write(Path::new(&path), &tensor).unwrap();
    path
}

#[test]
fn what_a_killed_writer_left_is_removed_by_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let stale = path(&dir, ".net.onnx.Ab12Cd.slq-tmp");
    std::fs::write(&stale, b"half a network").unwrap();
    run(&["convert", "zoo:lenet", &path(&dir, "net.onnx")]);
    assert!(!Path::new(&stale).exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_written_through() {
    let dir = tempfile::tempdir().unwrap();
    let [plain, target, link, pipe] =
        ["plain.onnx", "target.onnx", "link.onnx", "pipe.onnx"].map(|n| path(&dir, n));
    run(&["convert", "zoo:lenet", &plain]);
    let expected = std::fs::read(&plain).unwrap();
    std::os::unix::fs::symlink("target.onnx", &link).unwrap();
    run(&["convert", "zoo:lenet", &link]);
    assert!(Path::new(&link).is_symlink());
    assert_eq!(std::fs::read(&target).unwrap(), expected);
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || std::fs::read(pipe).unwrap()
    });
    run(&["convert", "zoo:lenet", &pipe]);
    assert_eq!(reader.join().unwrap(), expected);
    let stdout = path(&dir, "stdout.onnx");
    std::os::unix::fs::symlink("/dev/stdout", &stdout).unwrap();
    let piped = slq().args(["convert", "zoo:lenet", &stdout]).output().unwrap();
    assert!(piped.status.success(), "{}", String::from_utf8_lossy(&piped.stderr));
    assert!(piped.stdout.starts_with(&expected), "{} bytes", piped.stdout.len());
}

#[test]
fn what_convert_wrote_is_run_unless_told_not_to() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a.onnx", "a.slq", "a.safetensors", "a.caffemodel"] {
        let out = path(&dir, name);
        let found = json(&["convert", &sample_model(), &out]);
        assert!(found["outputs"][0]["verified"].as_f64().unwrap() < 1e-3, "{found}");
        let found = json(&["convert", &sample_model(), &out, "--no-verify"]);
        assert!(
            found["outputs"][0]["verified"].is_null() && found["outputs"][0]["unverified"].is_null(),
            "{found}"
        );
    }
    let device = path(&dir, "a.tflite");
    let said = String::from_utf8(run(&["convert", &sample_model(), &device]).stderr).unwrap();
    assert!(said.contains("a.tflite was compared bit by bit") && said.contains("not run"), "{said}");
    let said = fails(&["convert", "mnist-10k", &path(&dir, "d.npz"), "--verify"], 1);
    assert!(said.contains("dataset"), "{said}");
}
