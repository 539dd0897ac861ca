//! Defaults, budgets without labels and what is said of a network, end to end.

mod common;

use common::{fails, json, path, run, sample_model};

#[test]
fn a_fine_tuned_network_teaches_and_the_float_network_is_treated_equally() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    let model = sample_model();
    let job = ["compress", &model, "--data", "mnist-10k", "--codebook-size", "9", "--schedule", "5,9"];
    let short = ["--fine-tune-epochs", "0.1", "--iterations-per-round", "5", "--reference"];
    let report = json(&[&job[..], &short, &["--run-dir", &run_dir, "-o", &out]].concat());
    let float = json(&["eval", &model, "--data", "mnist-10k"]);
    assert_eq!(report["baseline"]["top1"], float["top1"], "the network as it came");
    assert!(report["fine_tune"]["iterations"].as_u64() == Some(13), "{}", report["fine_tune"]);
    assert_eq!(report["reference"]["iterations"], 10, "two rounds of five steps");
    let (top1, error) = (&report["reference"]["top1"], &report["reference"]["standard_error"]);
    assert!(top1.as_f64().unwrap() > 0.95 && error.as_f64().unwrap() > 0.0, "{report}");
    let recipe = std::fs::read_to_string(dir.path().join("run/recipe.toml")).unwrap();
    for line in ["distill = 4.0", "init = \"exact\"", "reference = true", "lr = 0.01"] {
        assert!(recipe.contains(line), "{line} is not in {recipe}");
    }
    let again = json(&["resume", &run_dir]);
    assert_eq!((&again["reference"], &again["final"]), (&report["reference"], &report["final"]));

    // Given lengths of rounds leave out the fine-tuning.
    let run_dir = path(&dir, "plain");
    let length = ["--iterations-per-round", "2", "--run-dir", &run_dir, "-o", &out];
    let plain = json(&[&job[..], &length].concat());
    assert!(plain["fine_tune"].is_null() && plain["reference"].is_null(), "{plain}");
}

#[test]
fn a_drop_without_labels_is_a_loss_of_agreement() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    let args = ["compress", &sample_model(), "--calibrate", "mnist-10k", "--calibration-images", "128"];
    let report = json(&[&args[..], &["--max-drop", "1", "--run-dir", &run_dir, "-o", &out]].concat());
    assert!(report["agreement"].as_f64().unwrap() >= 0.99, "{}", report["agreement"]);
    assert!(report["outputs"][0]["ratio"].as_f64().unwrap() > 15.0, "{}", report["outputs"]);
    assert!(report["search"]["trials"].as_array().unwrap().len() > 1, "{}", report["search"]);
    let said = fails(&["compress", &sample_model(), "--max-drop", "1", "-o", &out], 1);
    assert!(said.contains("--data") && said.contains("--calibrate"), "{said}");
}

#[test]
fn choices_are_made_on_the_images_that_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "small.onnx");
    let args = ["compress", &sample_model(), "--data", "mnist-10k", "--method", "kmeans", "--max-drop", "1"];
    let share = [&args[..], &["--validation", "0.25", "-o", &out]].concat();
    let report = json(&share);
    // A quarter of the 8000 training images.
    assert_eq!(report["search"]["validation_baseline"]["images"], 2000, "{}", report["search"]);
    let said = String::from_utf8_lossy(&run(&share).stderr).into_owned();
    assert!(said.contains("2000 validation images"), "{said}");
    for (validation, word) in [("mnist-10k", "test images"), ("1.5", "below 1"), ("nowhere", "nowhere")] {
        let said = fails(&[&args[..], &["--validation", validation, "-o", &out]].concat(), 1);
        assert!(said.contains(word), "{validation}: {said}");
    }
}

#[test]
fn clustering_keeps_a_drop_without_training() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "small.onnx");
    let args = ["compress", &sample_model(), "--data", "mnist-10k", "--method", "kmeans"];
    let report = json(&[&args[..], &["--max-drop", "1", "-o", &out]].concat());
    let top1 = |key: &str| report[key]["top1"].as_f64().unwrap();
    // Chosen on 800 validation images; the difference on 2000 others has a standard error of some 0.3 points.
    assert!(top1("baseline") - top1("final") < 0.02, "{report}");
    assert!(report["outputs"][0]["ratio"].as_f64().unwrap() > 8.0, "{}", report["outputs"]);
}

#[test]
fn checkpoints_of_pytorch_are_read_clustered_and_converted() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = concat!(env!("CARGO_MANIFEST_DIR"), "/../formats/pytorch/tests/fixtures/training.pth");
    let inspected = json(&["inspect", checkpoint]);
    assert_eq!(inspected["capability"]["clustered"]["possible"], true);
    assert_eq!(inspected["capability"]["trained"]["possible"], false);
    let (plain, small) = (path(&dir, "plain.safetensors"), path(&dir, "small.safetensors"));
    run(&["convert", checkpoint, &plain, "--quiet"]);
    assert_eq!(json(&["inspect", &plain])["parameters"], inspected["parameters"]);
    run(&["compress", checkpoint, "--bits", "2", "-o", &small, "--quiet"]);
    let layers = json(&["inspect", &small])["layers"].clone();
    let layer = layers.as_array().unwrap().iter().find(|l| l["name"] == "conv.weight").unwrap();
    assert_eq!((layer["bits"].as_u64(), layer["distinct"].as_u64()), (Some(2), Some(4)));
    let module = checkpoint.replace("training", "module");
    let said = fails(&["inspect", &module], 1);
    assert!(said.contains("module.pth") && said.contains("state_dict()"), "{said}");
}

#[test]
fn labels_that_count_from_one_take_an_offset() {
    let dir = tempfile::tempdir().unwrap();
    let count = 20u32;
    let head = |magic: u32, dims: &[u32]| -> Vec<u8> {
        std::iter::once(&magic).chain(dims).flat_map(|n| n.to_be_bytes()).collect()
    };
    for part in ["train", "t10k"] {
        let images = [head(0x803, &[count, 28, 28]), vec![7; count as usize * 784]].concat();
        let labels = [head(0x801, &[count]), (0..count as u8).map(|i| 1 + i % 10).collect()].concat();
        std::fs::write(dir.path().join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(dir.path().join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
    let (model, data) = (sample_model(), dir.path().display().to_string());
    let args = ["eval", &model, "--data", &data, "--scale", "0.00390625"];
    assert!(fails(&args, 1).contains("--label-offset 1"));
    // One class for all images: two of twenty have its label.
    assert_eq!(json(&[&args[..], &["--label-offset", "1"]].concat())["top1"], 0.1);
    assert!(fails(&[&args[..], &["--label-offset", "2"]].concat(), 1).contains("below --label-offset 2"));
}

#[test]
fn what_can_be_done_with_a_network_is_said() {
    let report = json(&["inspect", &sample_model()]);
    for what in ["clustered", "calibrated", "trained"] {
        assert_eq!(
            report["capability"][what],
            serde_json::json!({"possible": true, "reason": null}),
            "{what}"
        );
    }
}
