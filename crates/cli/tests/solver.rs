//! Caffe's files as they are: solver, train/test net, LMDB, caffemodel, snapshots.

mod common;

use std::path::Path;

use common::{fails, json, path, run};

const NET: &str = r#"
name: "small"
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { scale: 0.00390625 }
  data_param { source: "mnist.lmdb/train" batch_size: 32 backend: LMDB } }
layer { name: "mnist" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { scale: 0.00390625 }
  data_param { source: "mnist.lmdb/test" batch_size: 50 backend: LMDB } }
layer { name: "pool0" type: "Pooling" bottom: "data" top: "pool0" pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "ip1" type: "InnerProduct" bottom: "pool0" top: "ip1"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 40 weight_filler { type: "xavier" } bias_filler { type: "constant" } } }
layer { name: "relu1" type: "ReLU" bottom: "ip1" top: "ip1" }
layer { name: "drop1" type: "Dropout" bottom: "ip1" top: "ip1" dropout_param { dropout_ratio: 0.1 } }
layer { name: "ip2" type: "InnerProduct" bottom: "ip1" top: "ip2"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } bias_filler { type: "constant" } } }
layer { name: "accuracy" type: "Accuracy" bottom: "ip2" bottom: "label" top: "accuracy" include { phase: TEST } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip2" bottom: "label" top: "loss" }
"#;

const SOLVER: &str = r#"
net: "net.prototxt"
test_iter: 40 test_interval: 200
base_lr: 0.05 lr_policy: "inv" gamma: 0.0001 power: 0.75 momentum: 0.9 weight_decay: 0.0005
display: 100 max_iter: 430 random_seed: 3 solver_mode: CPU
"#;

/// A project: the databases of the built-in sample, the net and the solver with `more` in it.
fn project(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run(&["convert", "mnist-10k", &path(&dir, "mnist.lmdb")]);
    write(&dir, "net.prototxt", NET);
    write(&dir, "solver.prototxt", &format!("{SOLVER}\n{more}"));
    dir
}

fn write(dir: &tempfile::TempDir, name: &str, text: &str) -> String {
    std::fs::write(dir.path().join(name), text).unwrap();
    path(dir, name)
}

#[test]
fn a_solver_trains_evaluates_and_compresses() {
    let dir = project("");
    let (solver, model) = (path(&dir, "solver.prototxt"), path(&dir, "small.caffemodel"));
    let trained = json(&["train", "--solver", &solver, "-o", &model, "--legacy-blobs"]);
    let top1 = trained["final"]["top1"].as_f64().unwrap();
    assert!(top1 > 0.85, "{trained}");
    assert_eq!(
        (trained["iterations"].as_u64(), trained["final"]["images"].as_u64()),
        (Some(430), Some(2000))
    );
    let tested: Vec<_> =
        trained["tests"].as_array().unwrap().iter().map(|t| t["iteration"].as_u64()).collect();
    assert_eq!(tested, [Some(200), Some(400)]);

    // The solver's test, the net's own TEST data, the written net, and a named dataset all see the same.
    let net = path(&dir, "net.prototxt");
    let written = path(&dir, "small.prototxt");
    for args in [
        &["eval", "--solver", &solver, "--weights", &model][..],
        &["eval", &net, "--weights", &model],
        &["eval", &written, "--weights", &model],
        &["eval", &net, "--weights", &model, "--data", "mnist-10k"],
    ] {
        assert_eq!(json(args)["top1"], trained["final"]["top1"], "{args:?}");
    }

    let [out, onnx, run_dir] = ["small5.caffemodel", "small5.onnx", "run"].map(|n| path(&dir, n));
    let args =
        ["compress", "--solver", &solver, "--weights", &model, "--published", "--iterations-per-round", "20"];
    let report =
        json(&[&args[..], &["--lr", "0.01", "--run-dir", &run_dir, "-o", &out, "-o", &onnx]].concat());
    assert_eq!(
        (report["rounds"].as_array().unwrap().len(), report["rounds"][0]["iterations"].as_u64()),
        (5, Some(20))
    );
    assert_eq!(report["baseline"]["top1"], trained["final"]["top1"]);
    let inspected = json(&["inspect", &written, "--weights", &out]);
    let is_shared = |l: &&serde_json::Value| l["name"].as_str().unwrap().ends_with(".weight");
    let shared: Vec<_> = inspected["layers"].as_array().unwrap().iter().filter(is_shared).collect();
    assert_eq!(shared.len(), 2);
    for layer in shared {
        assert!(layer["distinct"].as_u64().unwrap() <= 17, "{layer}");
    }
    let onnx = json(&["eval", &onnx, "--data", "mnist-10k"]);
    assert_eq!(onnx["top1"], report["final"]["top1"], "the ONNX file keeps the data layer's preprocessing");
}

#[test]
fn a_training_goes_on_from_its_snapshot_as_if_it_had_never_stopped() {
    for kind in ["", "type: 'Adam' momentum2: 0.999 delta: 1e-8"] {
        let dir = project("");
        let prefix = path(&dir, "snap");
        let text = SOLVER.replace("max_iter: 430", "max_iter: 250");
        let text = text.replace("0.05", if kind.is_empty() { "0.05" } else { "0.001" });
        let snapshots = format!("snapshot: 100 snapshot_prefix: '{prefix}' iter_size: 2 {kind}");
        let solver = write(&dir, "solver.prototxt", &format!("{text}\n{snapshots}"));
        let whole = json(&["train", "--solver", &solver]);
        let written = whole["snapshots"].as_array().unwrap();
        assert_eq!(written.len(), 6, "two at 100, 200 and the end: {written:?}");
        let last = format!("{prefix}_iter_250.caffemodel");
        let straight = std::fs::read(&last).unwrap();
        std::fs::remove_file(&last).unwrap();
        let state = format!("{prefix}_iter_100.solverstate");
        let resumed = json(&["train", "--solver", &solver, "--snapshot", &state]);
        assert_eq!(resumed["final"], whole["final"], "{kind}");
        assert!(std::fs::read(&last).unwrap() == straight, "{kind}: the weights differ");
    }
}

#[test]
fn what_is_not_supported_is_named() {
    let dir = project("");
    let solver = path(&dir, "solver.prototxt");
    let out = path(&dir, "out.onnx");
    let with_net = |from: &str, to: &str| {
        assert!(NET.contains(from));
        write(&dir, "net.prototxt", &NET.replace(from, to));
        write(&dir, "solver.prototxt", SOLVER);
        fails(&["train", "--solver", &solver, "-o", &out], 1)
    };
    let table = [
        ("mnist.lmdb/train", "nowhere_lmdb", "nowhere_lmdb"),
        ("backend: LMDB", "", "LevelDB"),
        ("scale: 0.00390625", "mean_file: 'mean.binaryproto'", "mean.binaryproto"),
        (
            "include { phase: TEST }\n  transform_param {",
            "include { phase: TEST }\n  transform_param { mirror: true",
            "mirror",
        ),
        (
            "include { phase: TEST }\n  transform_param {",
            "include { phase: TEST }\n  transform_param { mean_value: 9",
            "TRAIN",
        ),
        ("type: \"SoftmaxWithLoss\"", "type: \"EuclideanLoss\"", "one score"),
        ("type: \"SoftmaxWithLoss\"", "type: \"SigmoidCrossEntropyLoss\"", "one score"),
        ("type: \"SoftmaxWithLoss\"", "type: \"MultinomialLogisticLoss\"", "behind a Softmax"),
        (
            "type: \"SoftmaxWithLoss\" bottom: \"ip2\" bottom: \"label\"",
            "type: \"EuclideanLoss\" bottom: \"data\" bottom: \"ip1\"",
            "another blob",
        ),
        ("type: \"SoftmaxWithLoss\"", "type: \"SoftmaxWithLos\"", "SoftmaxWithLos"),
        ("name: \"loss\"", "name: \"loss\" loss_param { ignore_label: 3 }", "ignore_label"),
        ("dropout_ratio", "dropout_rati", "dropout_rati"),
        ("name: \"drop1\"", "name: \"drop1\" include { phase: TRAIN }", "TEST phase"),
    ];
    let failures: Vec<String> = table
        .iter()
        .filter_map(|(from, to, word)| {
            let said = with_net(from, to);
            (!said.contains(word)).then(|| format!("{to} does not bring up {word}: {said}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    write(&dir, "net.prototxt", NET);
    let with_solver = |more: &str| {
        write(&dir, "solver.prototxt", &format!("{SOLVER}\n{more}"));
        fails(&["train", "--solver", &solver, "-o", &out], 1)
    };
    for (more, word) in [
        ("type: 'Lion'", "Lion"),
        ("snapshot_format: HDF5", "snapshot_format"),
        ("weights: 'a.caffemodel' weights: 'b.caffemodel'", "weights"),
        ("snapshot_prefix: 'no/such/folder/x'", "no/such/folder"),
        ("learning: 1", "learning"),
    ] {
        let said = with_solver(more);
        assert!(said.contains(word), "{more}: {said}");
    }
    write(&dir, "solver.prototxt", SOLVER);
    let said = fails(&["train", "--solver", &solver], 1);
    assert!(said.contains("-o"), "{said}");
    let said = fails(&["train", "net.onnx", "--solver", &solver, "-o", &out], 1);
    assert!(said.contains("net.onnx"), "{said}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn a_state_of_another_net_or_solver_is_refused() {
    let dir = project("");
    let prefix = path(&dir, "snap");
    let short = SOLVER.replace("max_iter: 430", "max_iter: 5");
    let solver = write(&dir, "solver.prototxt", &format!("{short} snapshot_prefix: '{prefix}'"));
    run(&["train", "--solver", &solver]);
    let state = format!("{prefix}_iter_5.solverstate");
    write(&dir, "solver.prototxt", &format!("{SOLVER} snapshot_prefix: '{prefix}' type: 'Adam'"));
    let said = fails(&["train", "--solver", &solver, "--snapshot", &state], 1);
    assert!(said.contains("another solver type"), "{said}");
    write(&dir, "solver.prototxt", &format!("{SOLVER} snapshot_prefix: '{prefix}'"));
    write(&dir, "net.prototxt", &NET.replace("num_output: 40", "num_output: 41"));
    let model = format!("{prefix}_iter_5.caffemodel");
    let said = fails(&["train", "--solver", &solver, "--snapshot", &state, "--weights", &model], 1);
    assert!(said.contains("ip1"), "{said}");
}

#[test]
fn auxiliary_losses_are_trained_and_the_main_one_is_tested() {
    let dir = project("");
    let aux = r#"
layer { name: "aux" type: "InnerProduct" bottom: "ip1" top: "aux"
  inner_product_param { num_output: 10 weight_filler { type: "xavier" } } }
layer { name: "aux_loss" type: "SoftmaxWithLoss" bottom: "aux" bottom: "label" top: "aux_loss" loss_weight: 0.3 }
"#;
    // The auxiliary loss comes first in the file, as in GoogLeNet.
    let (head, tail) = NET.split_at(NET.find("layer { name: \"ip2\"").unwrap());
    let net = write(&dir, "net.prototxt", &format!("{head}{aux}{tail}"));
    let (solver, model) = (path(&dir, "solver.prototxt"), path(&dir, "small.caffemodel"));
    let trained = json(&["train", "--solver", &solver, "-o", &model]);
    assert!(trained["final"]["top1"].as_f64().unwrap() > 0.85, "{trained}");
    assert_eq!(trained["settings"]["heads"].as_array().unwrap().len(), 2);
    let before = json(&["inspect", &net]);
    let after = json(&["inspect", &net, "--weights", &model]);
    let aux_layer = |report: &serde_json::Value| {
        report["layers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|l| l["name"].as_str().unwrap().contains("aux"))
            .cloned()
    };
    assert!(aux_layer(&before).is_some() && aux_layer(&after).is_some());
}

/// The network of [`NET`] with another loss, at `outputs` scores.
fn with_loss(outputs: usize, loss: &str) -> String {
    let accuracy = NET.find("layer { name: \"accuracy\"").unwrap();
    let net = NET[..accuracy].replace("num_output: 10", &format!("num_output: {outputs}"));
    format!("{net}layer {{ name: \"loss\" {loss} bottom: \"ip2\" bottom: \"label\" top: \"loss\" }}")
}

#[test]
fn other_losses_are_trained_on_and_measured() {
    let dir = project("");
    let (solver, model) = (path(&dir, "solver.prototxt"), path(&dir, "small.caffemodel"));
    let small = path(&dir, "small.onnx");
    let train = |net: &str, rate: &str, more: &[&str]| {
        write(&dir, "net.prototxt", net);
        write(&dir, "solver.prototxt", &SOLVER.replace("base_lr: 0.05", &format!("base_lr: {rate}")));
        let trained = json(&[&["train", "--solver", &solver, "-o", &model], more].concat());
        let short = SOLVER
            .replace("base_lr: 0.05", &format!("base_lr: {rate}"))
            .replace("max_iter: 430", "max_iter: 50");
        write(&dir, "solver.prototxt", &short);
        let run_dir = path(&dir, "run");
        let compress = ["compress", "--solver", &solver, "--weights", &model, "--bits", "4", "-o", &small];
        let packed = json(&[&compress[..], &["--run-dir", &run_dir], more].concat());
        std::fs::remove_dir_all(run_dir).unwrap();
        let of = |report: &serde_json::Value, key: &str| report["final"][key].as_f64().unwrap();
        let start = packed["baseline"]["loss"].as_f64().unwrap();
        assert!((start - of(&trained, "loss")).abs() < 1e-5, "one loss for both commands: {packed}");
        [of(&trained, "top1"), of(&trained, "loss"), of(&packed, "top1"), of(&packed, "loss")]
    };
    for norm in ["L1", "L2"] {
        let hinge = format!("type: \"HingeLoss\" hinge_loss_param {{ norm: {norm} }}");
        let [top1, _, packed, _] = train(&with_loss(10, &hinge), "0.02", &[]);
        assert!(top1 > 0.85 && packed > top1 - 0.03, "{norm}: {top1}, then {packed}");
    }
    let softmax =
        "layer { name: \"prob\" type: \"Softmax\" bottom: \"ip2\" top: \"prob\" }\nlayer { name: \"loss\"";
    let logistic = with_loss(10, "type: \"MultinomialLogisticLoss\"")
        .replace("layer { name: \"loss\"", softmax)
        .replace("bottom: \"ip2\" bottom: \"label\"", "bottom: \"prob\" bottom: \"label\"");
    let [top1, ..] = train(&logistic, "0.05", &[]);
    assert!(top1 > 0.85, "{top1}");
    // The digit as a number: half its variance is 4.1, and a constant is right for a tenth.
    let [top1, loss, _, packed] = train(&with_loss(1, "type: \"EuclideanLoss\""), "0.005", &[]);
    assert!(
        loss < 2.05 && top1 > 0.2 && packed < 1.2 * loss,
        "loss {loss}, then {packed}; {top1} round to the digit"
    );
    // Two classes: is the upper half the brighter one? Noise, at half its height in the other half.
    let noise = |i: u32| i.wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503) >> 24;
    let labels: Vec<u32> = (0..400).map(|image| noise(image) % 2).collect();
    let pixel = |i: u32| {
        let (image, place) = (i / 784, i % 784);
        let bright = (place < 392) == (labels[image as usize] == 1);
        if bright { noise(i) as u8 } else { noise(i) as u8 / 2 }
    };
    let images = (0..400 * 784).map(pixel).collect();
    let split = slq::data::Split::from_bytes(images, labels, [1, 28, 28]).unwrap();
    let halves = path(&dir, "halves.npz");
    slq::data::write_npz(&slq::data::Dataset::of(split.clone(), split), Path::new(&halves)).unwrap();
    let sigmoid = with_loss(1, "type: \"SigmoidCrossEntropyLoss\"");
    let [top1, loss, packed, _] = train(&sigmoid, "0.05", &["--data", &halves]);
    assert!(top1 > 0.9 && loss < 0.4 && packed > 0.85, "{top1}, loss {loss}, then {packed}");
    write(&dir, "net.prototxt", &sigmoid);
    let said = fails(&["train", "--solver", &solver, "-o", &model], 1);
    assert!(said.contains("label"), "digits are no labels of two classes: {said}");
}

#[test]
fn the_net_of_a_solver_is_never_replaced() {
    let dir = project("");
    let solver = write(&dir, "solver.prototxt", &SOLVER.replace("max_iter: 430", "max_iter: 2"));
    // The output's description would have the name of the net that the solver trains.
    for overwrite in [&[][..], &["--overwrite"]] {
        run(&[&["train", "--solver", &solver, "-o", &path(&dir, "net.caffemodel")], overwrite].concat());
        assert_eq!(std::fs::read_to_string(dir.path().join("net.prototxt")).unwrap(), NET);
        run(&["eval", &path(&dir, "net.slq.prototxt"), "--weights", &path(&dir, "net.caffemodel")]);
    }
}

#[cfg(unix)]
#[test]
fn a_signal_writes_a_snapshot_to_go_on_from() {
    let dir = project("");
    let prefix = path(&dir, "snap");
    let text = SOLVER
        .replace("max_iter: 430", "max_iter: 3000")
        .replace("test_interval: 200", "test_interval: 9000");
    let solver = write(&dir, "solver.prototxt", &format!("{text}\nsnapshot: 1 snapshot_prefix: '{prefix}'"));
    let args = ["train", "--solver", &solver];
    let mut child = common::slq().args(args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while !dir.path().join("snap_iter_3.solverstate").exists() {
        assert!(child.try_wait().unwrap().is_none());
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(143), "{said}");
    let state = said.trim().rsplit(' ').next().unwrap();
    assert!(state.ends_with(".solverstate") && Path::new(state).exists(), "{said}");
}
