//! `slq decompose`: thin layers that every runtime takes.

mod common;

use common::{json, path, python, run, sample_model};

#[test]
fn other_programs_compute_the_same_from_the_split_network() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    let [images, predictions] = ["sample.npz", "predictions.npy"].map(|n| path(&dir, n));
    run(&["convert", "mnist-10k", &images]);
    run(&["eval", &model, "--data", "mnist-10k", "--predictions", &predictions]);
    let scale = (1.0f64 / 255.0).to_string();
    for scheme in ["channel,svd", "spatial,svd", "decouple"] {
        let [onnx, caffe, prototxt] =
            ["thin.onnx", "thin.caffemodel", "thin.prototxt"].map(|n| path(&dir, n));
        let whole = ["decompose", &model, "--scheme", scheme, "--rate", "1", "--force", "--layers", "*=auto"];
        let report = json(&[&whole[..], &["-o", &onnx, "-o", &caffe]].concat());
        let layers = report["layers"].as_array().unwrap();
        assert_eq!(layers.len(), if scheme == "decouple" { 2 } else { 4 }, "{report}");
        assert!(layers.iter().all(|l| l["rank"] == l["of"]), "{report}");
        // The network as it was is the twin that its split is compared with.
        python("check_onnx.py", &[&onnx, &model, &images, &scale, &predictions]);
        python("check_caffe.py", &[&prototxt, &caffe, &images, &scale, &predictions]);
    }
}

#[test]
fn without_data_operations_fall_and_the_result_can_be_quantized() {
    let dir = tempfile::tempdir().unwrap();
    let [thin, small] = ["thin.onnx", "small.onnx"].map(|n| path(&dir, n));
    let args = ["decompose", &sample_model(), "--scheme", "spatial,svd", "--flops", "2.5", "-o", &thin];
    let report = json(&args);
    assert!(report["baseline"].is_null() && report["final"].is_null() && report["trp"].is_null());
    let flops = &report["flops"];
    assert_eq!(flops["before"], 288_000 + 1_600_000 + 400_000 + 5_000);
    let ratio = flops["before"].as_f64().unwrap() / flops["after"].as_f64().unwrap();
    assert!(ratio >= 2.5 && (flops["ratio"].as_f64().unwrap() - ratio).abs() < 1e-9, "{flops}");
    assert_eq!(report["parameters"]["before"], 431_080);
    let inspected = json(&["inspect", &thin]);
    assert_eq!(report["parameters"]["after"], inspected["parameters"]);
    for layer in report["layers"].as_array().unwrap() {
        assert!(layer["name"].is_string() && layer["rank"].as_u64() < layer["of"].as_u64(), "{layer}");
    }
    assert_eq!(report["left_whole"][0]["reason"], "the first convolution");
    let compressed = json(&["compress", &thin, "--method", "kmeans", "--bits", "5", "-o", &small]);
    assert!(compressed["size"]["ratio"].as_f64().unwrap() > 5.0, "{compressed}");
}

#[test]
fn both_budgets_hold_and_no_other_rule_stands_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let thin = path(&dir, "thin.onnx");
    let model = sample_model();
    let args = ["decompose", &model, "--scheme", "spatial,svd", "-o", &thin, "--flops", "2", "--target-size"];
    let report = json(&[&args[..], &["10x"]].concat());
    assert!(report["flops"]["ratio"].as_f64().unwrap() >= 2.0, "{report}");
    assert!(report["parameters"]["after"].as_u64().unwrap() <= 43_108, "{report}");
    let message = common::fails(&[&args[..], &["10x", "--energy", "0.9"]].concat(), 2);
    assert!(message.contains("--energy") && message.contains("cannot be used"), "{message}");
}

#[test]
fn the_table_says_what_was_left_whole_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let thin = path(&dir, "thin.onnx");
    let model = sample_model();
    let output = run(&[
        "decompose",
        &model,
        "--scheme",
        "channel",
        "--energy",
        "1",
        "--data",
        "mnist-10k",
        "-o",
        &thin,
    ]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for word in ["no layer was split", "first convolution", "a split at rank 50", "1.00x fewer", "top-1"] {
        assert!(text.contains(word), "'{word}' is not in: {text}");
    }
}

#[test]
fn trained_rank_pruning_reports_its_parts_and_is_repeatable() {
    let dir = tempfile::tempdir().unwrap();
    let [a, b] = ["a.onnx", "b.onnx"].map(|n| path(&dir, n));
    let model = sample_model();
    let mut reports = Vec::new();
    for (out, threads) in [(&a, "1"), (&b, "2")] {
        let data = ["--data", "mnist-10k", "--train-subset", "0:1280:1", "--test-subset", "0:1000:1"];
        let trp =
            ["--trp", "--trp-period", "5", "--epochs", "1", "--fine-tune-epochs", "0.5", "--lr", "0.005"];
        let args =
            ["decompose", &model, "--scheme", "spatial", "--flops", "1.7", "-o", out, "--threads", threads];
        reports.push(json(&[&args[..], &data, &trp].concat()));
    }
    assert_eq!(std::fs::read(&a).unwrap(), std::fs::read(&b).unwrap());
    let report = &reports[0];
    assert_eq!((&report["trp"]["iterations"], &report["trp"]["truncations"]), (&20.into(), &4.into()));
    assert!(report["trp"]["svd_share"].as_f64().unwrap() > 0.0 && report["trp"]["failures"] == 0);
    assert_eq!(report["fine_tune"]["iterations"], 10);
    let top1 = |v: &serde_json::Value| v["top1"].as_f64().unwrap();
    let (before, trained, split, after) = (
        top1(&report["baseline"]),
        top1(&report["trp"]["trained"]),
        top1(&report["fine_tune"]["before"]),
        top1(&report["final"]),
    );
    assert!((trained - split).abs() < 0.002, "the split itself costs nothing: {report}");
    assert!(after > before - 0.03, "{report}");
    let eval = json(&["eval", &a, "--data", "mnist-10k", "--test-subset", "0:1000:1"]);
    assert_eq!(eval["top1"], report["final"]["top1"]);
}

#[test]
fn one_recipe_goes_to_low_rank_and_then_to_few_values() {
    let dir = tempfile::tempdir().unwrap();
    let [recipe, run_dir, small, again] =
        ["two.toml", "run", "small.onnx", "again.onnx"].map(|n| path(&dir, n));
    let text = format!(
        "model = '{}'\n[data]\ndata = 'mnist-10k'\n\
         [[stages]]\n[stages.decompose]\nconvolutions = 'spatial'\nfully-connected = true\nranks = {{ flops = 2.5 }}\n\
         [stages.decompose.fine-tune]\nlength = {{ iterations = 40 }}\n\
         [[stages]]\n[stages.quantize]\ncodebook-size = 9\n[stages.quantize.slq]\nschedule = [5, 9]\n\
         training.length = {{ iterations = 40 }}\n",
        sample_model()
    );
    std::fs::write(&recipe, text).unwrap();
    let report = json(&["compress", "--recipe", &recipe, "--run-dir", &run_dir, "-o", &small]);
    let low_rank = &report["decompose"];
    assert!(low_rank["flops"]["ratio"].as_f64().unwrap() >= 2.5, "{report}");
    assert_eq!(low_rank["fine_tune"]["iterations"], 40);
    assert_eq!(report["baseline"]["top1"], low_rank["baseline"]["top1"], "the network as it came");
    assert_eq!(report["size"]["dense_bytes"], 4 * low_rank["parameters"]["after"].as_u64().unwrap());
    assert!(report["final"]["top1"].as_f64().unwrap() > 0.93, "{report}");
    // Killed between the parts: the network of low rank is not made again.
    std::fs::remove_dir_all(dir.path().join("run/2-quantize")).unwrap();
    let made = dir.path().join("run/1-decompose/network.onnx");
    let (network, bits) = (std::fs::read(&made).unwrap(), std::fs::read(&small).unwrap());
    std::fs::remove_file(&small).unwrap();
    let resumed = json(&["compress", "--resume", &run_dir]);
    assert_eq!(resumed["decompose"], report["decompose"], "the seconds are those of the first sitting, too");
    assert_eq!(std::fs::read(made).unwrap(), network);
    assert_eq!(std::fs::read(&small).unwrap(), bits);
    let shown = run(&["compress", "--recipe", &recipe, "--method", "kmeans", "-o", &again]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("low rank  ") && shown.contains("in all    1 724 320 bytes before"), "{shown}");
}
