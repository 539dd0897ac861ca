//! Float parameters in fewer bytes: batch-norms as one scale and one shift for each channel, and 16-bit floats.

mod common;

use common::{path, slq};

/// A CIFAR-sized ResNet-20 whose batch-norms have seen some images, and these.
fn trained(dir: &tempfile::TempDir) -> (String, String) {
    let (data, net) = (common::cifar(dir, [64, 8]), path(dir, "net.onnx"));
    let args = ["train", "zoo:resnet20", "--data", &data, "--iterations", "3", "--batch", "32", "-o", &net];
    common::run(&args);
    (net, data)
}

#[test]
fn collapsed_batch_norms_make_smaller_files_that_compute_the_same_and_are_not_trained() {
    let dir = tempfile::tempdir().unwrap();
    let (net, data) = trained(&dir);
    let [plain, small, again, trained] =
        ["plain.slq", "small.slq", "again.onnx", "t.onnx"].map(|n| path(&dir, n));
    let kmeans = ["compress", &net, "--method", "kmeans", "--bits", "4"];
    let bytes = |json: &serde_json::Value| json["outputs"][0]["file_bytes"].as_u64().unwrap();
    let whole = bytes(&common::json(&[&kmeans[..], &["-o", &plain]].concat()));
    let args = [&kmeans[..], &["--collapse-batch-norm", "-o", &small]].concat();
    let json = common::json(&args);
    // 688 channels: of four 32-bit floats each, one scale and one shift of 16 bits are left.
    assert!(bytes(&json) + 5000 < whole, "{} {whole}", bytes(&json));
    let notes = json["outputs"][0]["notes"].to_string();
    assert!(notes.contains("19 of 19 batch-norms"), "{notes}");
    let compared = common::json(&["compare", &plain, &small]);
    assert!(compared["relative"].as_f64().unwrap() < 5e-3, "{compared}");
    // Converting does the same to a file that is there; and what is collapsed stays as it is.
    for from in [&plain, &small] {
        let json = common::json(&["convert", from, &again, "--collapse-batch-norm"]);
        assert!(json["outputs"][0]["verified"].is_number(), "{json}");
        let compared = common::json(&["compare", &small, &again]);
        assert!(compared["relative"].as_f64().unwrap() < 1e-5, "{compared}");
    }
    // With all float parameters in 16 bits nothing is left to collapse that would take fewer.
    let json = common::json(&[&kmeans[..], &["--half-floats", "-o", &again]].concat());
    assert!(json["outputs"][0]["notes"].to_string().contains(" of 77 float parameters"), "{json}");
    assert!(common::json(&["compare", &plain, &again])["relative"].as_f64().unwrap() < 5e-3);
    let halved = bytes(&common::json(&["convert", &again, &path(&dir, "half.slq")]));
    assert!(halved + 1000 < whole && bytes(&common::json(&args)) < halved, "{halved} {whole}");
    common::run(&["convert", &small, &again]);
    let train = ["train", &again, "--data", &data, "--iterations", "1", "--batch", "8", "-o", &trained];
    let said = common::fails(&train, 1);
    assert!(said.contains("--collapse-batch-norm") && said.contains("--freeze-batch-norm"), "{said}");
    common::run(&[&train[..], &["--freeze-batch-norm"]].concat());
    assert!(slq().args(["eval", &trained, "--data", &data]).output().unwrap().status.success());
}
