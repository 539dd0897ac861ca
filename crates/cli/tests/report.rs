//! `slq report` and `--report`: every method has a page, and what is not known is left out; `--dry-run`, completions and manual pages.

mod common;

use std::path::Path;
use std::process::Command;

use common::{fails, json, path, run, sample_model, slq};
use serde_json::Value;
use tempfile::TempDir;

/// A short job of the sample with `--report`; returns its page.
fn page_of(dir: &TempDir, command: &str, args: &[&str]) -> String {
    let (model, page) = (sample_model(), path(dir, "page.html"));
    let small = ["--data", "mnist-10k", "--train-subset", ":600", "--test-subset", ":300"];
    let mut all = vec![command, &model, "--report", &page, "--quiet"];
    if !args.contains(&"kmeans") {
        all.extend(small);
    }
    all.extend(args);
    run(&all);
    read(&page)
}

fn read(page: &str) -> String {
    let text = std::fs::read_to_string(page).unwrap();
    assert!(text.starts_with("<!DOCTYPE html>") && text.ends_with("</html>"));
    assert!(
        !text.contains("<script") && !text.contains("http:") && !text.contains("https:"),
        "a page loads nothing"
    );
    assert!(text.len() < 1_000_000, "{} bytes", text.len());
    text
}

/// Fails unless the page has exactly these of the parts that not every page has.
fn has(page: &str, method: &str, parts: &[&str]) {
    for part in [
        "Rounds",
        "Weights and their values",
        "Networks tried",
        "Sensitivity of each layer",
        "Top-1 accuracy",
        "Beside the float network",
    ] {
        assert_eq!(
            page.contains(&format!("{part}</h2>")) || page.contains(&format!("{part} for")),
            parts.contains(&part),
            "{method}: {part}"
        );
    }
}

#[test]
fn every_method_that_trains_has_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let (out, runs) = (path(&dir, "small.onnx"), path(&dir, "run"));
    for method in ["slq", "mlq", "inq", "deep-compression"] {
        let run_dir = format!("{runs}-{method}");
        let args = [
            "--method",
            method,
            "--bits",
            "3",
            "--iterations-per-round",
            "1",
            "--run-dir",
            &run_dir,
            "-o",
            &out,
        ];
        let page = page_of(&dir, "compress", &args);
        has(&page, method, &["Rounds", "Weights and their values", "Top-1 accuracy"]);
        assert!(page.contains("conv1") && page.contains("Test images whose answer changed"), "{method}");
        assert!(page.contains("--iterations-per-round 1"), "the command stands in the page");
    }
}

#[test]
fn trainings_of_the_float_network_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    let short =
        ["--iterations-per-round", "1", "--fine-tune-epochs", "0.2", "--reference", "--run-dir", &run_dir];
    let page = page_of(&dir, "compress", &[&short[..], &["-o", &out]].concat());
    let again = path(&dir, "again.html");
    run(&["report", &run_dir, "-o", &again, "--quiet"]);
    for (page, what) in [(page, "--report"), (read(&again), "slq report")] {
        for text in
            ["after fine-tuning at full precision", "Float network treated equally", "float, fine-tuned"]
        {
            assert!(page.contains(text), "{what}: {text}");
        }
    }
}

#[test]
fn a_budget_without_labels_is_measured_by_agreement() {
    let dir = tempfile::tempdir().unwrap();
    let (out, html) = (path(&dir, "small.onnx"), path(&dir, "page.html"));
    let inputs = ["--calibrate", "mnist-10k", "--calibration-images", "64", "--max-drop", "2"];
    run(&[&["compress", &sample_model(), "--report", &html, "--quiet", "-o", &out][..], &inputs].concat());
    let page = read(&html);
    assert!(page.contains("agreement with float") && !page.contains("top-1"), "there are no labels");
}

#[test]
fn methods_that_do_not_train_have_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "small.onnx");
    let kmeans = page_of(&dir, "compress", &["--method", "kmeans", "--bits", "3", "-o", &out]);
    has(&kmeans, "kmeans", &["Weights and their values", "Beside the float network"]);
    let run_dir = path(&dir, "run");
    let args = [
        "--method",
        "calibrate",
        "--calibration-images",
        "64",
        "--bits",
        "3",
        "--run-dir",
        &run_dir,
        "-o",
        &out,
    ];
    let calibrate = page_of(&dir, "compress", &args);
    has(&calibrate, "calibrate", &["Weights and their values", "Top-1 accuracy", "Beside the float network"]);
}

#[test]
fn other_stages_have_a_page() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "thin.onnx");
    let thin = page_of(&dir, "decompose", &["--scheme", "svd", "--energy", "0.7", "-o", &out]);
    has(&thin, "decompose", &["Top-1 accuracy"]);
    assert!(
        thin.contains("MACs") && thin.contains("low rank"),
        "the work before and after is in the summary"
    );
    let tuned = page_of(&dir, "train", &["--iterations", "2", "-o", &out]);
    has(&tuned, "train", &["Top-1 accuracy"]);
}

#[test]
fn a_budget_shows_what_was_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    let args = ["--target-size", "12x", "--iterations-per-round", "1", "--run-dir", &run_dir, "-o", &out];
    let page = page_of(&dir, "compress", &args);
    has(
        &page,
        "budget",
        &[
            "Rounds",
            "Weights and their values",
            "Networks tried",
            "Sensitivity of each layer",
            "Top-1 accuracy",
        ],
    );
}

/// A short job in `RUN` that leaves its directory.
fn job(dir: &TempDir, run_dir: &str, bits: &str) -> Value {
    let (model, out) = (sample_model(), format!("{run_dir}.onnx"));
    let mut args =
        vec!["compress", &model, "--data", "mnist-10k", "--train-subset", ":600", "--test-subset", ":300"];
    args.extend(["--iterations-per-round", "1", "--bits", bits, "--run-dir", run_dir, "-o", &out]);
    let report = json(&args);
    std::fs::write(path(dir, &format!("bits-{bits}.json")), report.to_string()).unwrap();
    report
}

#[test]
fn run_directories_finished_or_not_and_json_stand_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let (two, three, page) = (path(&dir, "two"), path(&dir, "three"), path(&dir, "page.html"));
    let report = job(&dir, &two, "2");
    job(&dir, &three, "3");

    let told = json(&["report", &two, "-o", &page]);
    let run_of = &told["runs"][0];
    assert_eq!(run_of["figures"]["after"]["top1"], report["final"]["top1"]);
    assert_eq!(run_of["figures"]["sizes"]["stored"], report["size"]["stored_bytes"]);
    assert_eq!(run_of["figures"]["macs"][0], 2_293_000);
    assert_eq!(run_of["changes"]["images"], 300);
    assert_eq!(run_of["changes"]["paired"], true);
    let points = report["final"]["top1"].as_f64().unwrap() - report["baseline"]["top1"].as_f64().unwrap();
    let change = |key: &str| run_of["changes"][key].as_f64().unwrap();
    assert!(
        (points - (change("better") - change("worse")) / 300.0).abs() < 1e-9,
        "changes add up to the difference"
    );
    let single = read(&page);
    assert!(single.contains("slq compress --recipe") && single.contains("[[stages]]"));

    // What a kill would leave: no report, no output, two rounds.
    std::fs::remove_file(format!("{three}/report.json")).unwrap();
    std::fs::remove_file(format!("{three}.onnx")).unwrap();
    let told = json(&["report", &three, "-o", &page]);
    assert!(told["runs"][0]["state"]["unfinished"]["resume"].as_str().unwrap().contains("slq resume"));
    assert!(!told["runs"][0]["rounds"].as_array().unwrap().is_empty());
    assert!(read(&page).contains("This job is not finished"));

    let told = json(&["report", &two, &three, &path(&dir, "bits-2.json"), "-o", &page]);
    assert_eq!(told["runs"].as_array().unwrap().len(), 3);
    assert!(read(&page).contains("Side by side"));
}

#[test]
fn what_is_no_run_is_refused_in_one_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let (page, text) = (path(&dir, "page.html"), path(&dir, "some.json"));
    std::fs::write(&text, "{\"method\": 7}").unwrap();
    assert!(fails(&["report", &text, "-o", &page], 1).contains("no report of a job"));
    assert!(fails(&["report", &path(&dir, ""), "-o", &page], 1).contains("holds no run"));
    assert!(fails(&["report", &path(&dir, "nothing"), "-o", &page], 1).contains("nothing"));
    assert!(fails(&["report", &text, "-o", &text], 1).contains("some.json"));
    assert!(!Path::new(&page).exists());
    let model = sample_model();
    let args = ["compress", &model, "--method", "kmeans", "-o", &path(&dir, "x.onnx"), "--report", &model];
    assert!(fails(&args, 1).contains("lenet_mnist10k.onnx"));
}

#[test]
fn a_dry_run_tells_the_plan_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "small.onnx"));
    let args = ["compress", &model, "--data", "mnist-10k", "--bits", "4", "-o", &out];
    let shown = run(&[&args[..], &["--dry-run"]].concat());
    let text = String::from_utf8(shown.stdout).unwrap();
    for line in [
        "model ",
        "data ",
        "1. fine-tune: ",
        "2. quantize by slq: 4 bits, 16 values",
        "writes ",
        "keeps ",
        "size ",
        "memory ",
        "time     about ",
        "nothing was done",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    let wide = |l: &&str| l.chars().count() > 80 && l.split_whitespace().count() > 2;
    assert_eq!(text.lines().find(wide), None, "{text}");
    assert!(std::fs::read_dir(&dir).unwrap().next().is_none());
    let plan = json(&[&args[..], &["--dry-run"]].concat());
    // The estimate is what a quantization by the same settings stores.
    let done = json(&["compress", &model, "--method", "kmeans", "--bits", "4", "-o", &out]);
    assert_eq!(plan["size"]["stored_bytes"], done["size"]["stored_bytes"]);
    assert_eq!(plan["size"]["dense_bytes"], done["size"]["dense_bytes"]);
    assert!(plan["training_bytes"].as_u64().unwrap() > 1_000_000);
    assert!(plan["seconds"].as_f64().unwrap() > 0.1 && plan["training_steps"].as_u64().unwrap() > 100);
    assert_eq!(plan["at_most"], false);
    // Nothing is trained: there is no estimate, which is said.
    let quick = ["compress", &model, "--method", "kmeans", "-o", &out, "--dry-run"];
    assert!(
        String::from_utf8(run(&quick).stdout).unwrap().contains("time     not estimated: nothing is trained")
    );
    assert!(json(&quick)["seconds"].is_null());
}

#[test]
fn tables_fit_eighty_columns() {
    let text = String::from_utf8(run(&["inspect", &sample_model()]).stdout).unwrap();
    let rows: Vec<&str> = text.lines().filter(|l| l.starts_with('|')).collect();
    assert!(rows.len() > 8 && rows.iter().all(|l| l.chars().count() <= 80), "{text}");
}

#[test]
fn the_version_names_commit_and_instruction_set() {
    let long = String::from_utf8(run(&["--version"]).stdout).unwrap();
    let lines: Vec<&str> = long.lines().collect();
    assert_eq!(lines[0], format!("slq {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("commit: ") && lines[1].len() > 12, "{long}");
    assert!(
        ["scalar", "avx2", "avx512"].iter().any(|isa| lines[2] == format!("instruction set: {isa}")),
        "{long}"
    );
    let short = String::from_utf8(run(&["-V"]).stdout).unwrap();
    assert_eq!(short.trim(), lines[0]);
}

#[test]
fn errors_have_no_colour_without_a_terminal() {
    let output = slq().args(["inspect", "missing.onnx"]).env("TERM", "xterm").output().unwrap();
    assert!(output.stderr.starts_with(b"error: "));
}

#[test]
fn completions_and_manual_pages_know_the_commands() {
    for (shell, word) in [("bash", "complete -F"), ("zsh", "#compdef slq"), ("fish", "complete -c slq")] {
        let text = String::from_utf8(run(&["completions", shell]).stdout).unwrap();
        assert!(
            text.contains(word) && text.contains("sensitivity") && text.contains("target-size"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    run(&["pages", "--man", &path(&dir, "man"), "--quiet"]);
    for name in ["slq.1", "slq-compress.1", "slq-report.1"] {
        let text = std::fs::read_to_string(path(&dir, &format!("man/{name}"))).unwrap();
        assert!(text.contains(".TH"), "{name}");
    }
    assert!(!Path::new(&path(&dir, "man/slq-pages.1")).exists(), "hidden commands have no page");
    assert!(!Path::new(&path(&dir, "man/slq-help-run.1")).exists(), "nor has the help of a command");
}

/// Pictures of a page in Chromium, and axe's check; the script says where it is skipped.
#[test]
fn a_page_passes_the_accessibility_check() {
    let dir = tempfile::tempdir().unwrap();
    let (out, run_dir) = (path(&dir, "small.onnx"), path(&dir, "run"));
    page_of(
        &dir,
        "compress",
        &["--target-size", "12x", "--iterations-per-round", "1", "--run-dir", &run_dir, "-o", &out],
    );
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/report-screenshots");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report-screenshots");
    let output = Command::new("bash").arg(script).arg(path(&dir, "page.html")).arg(target).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    print!("{said}");
}
