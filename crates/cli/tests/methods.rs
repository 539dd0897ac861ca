//! The other methods, recipes, sensitivities and budgets, through the program.

mod common;

use std::time::{Duration, Instant};

use common::{fails, json, path, run, sample_model, slq};

/// A run of three steps a round on the sample.
fn short<'a>(model: &'a str, run_dir: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["compress", model, "--data", "mnist-10k", "--iterations-per-round", "3"];
    args.extend(["--calibration", "200", "--run-dir", run_dir, "-o", out]);
    args.extend(more);
    args
}

fn matrices(model: &str) -> Vec<serde_json::Value> {
    let layers = json(&["inspect", model])["layers"].as_array().unwrap().clone();
    layers.into_iter().filter(|l| l["shape"].as_array().unwrap().len() > 1).collect()
}

#[test]
fn every_method_ends_with_all_weights_on_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    let table: &[(&str, &[&str], usize, usize)] = &[
        ("ternary", &["--ternary"], 3, 8),
        (
            "level",
            &[
                "--method",
                "mlq",
                "--published",
                "--bits",
                "2",
                "--advance",
                "level",
                "--layers-per-step",
                "3",
            ],
            3,
            4,
        ),
        (
            "wide",
            &["--method", "mlq", "--bits", "2", "--rank-by", "lipschitz", "--layers-per-step", "4"],
            4,
            3,
        ),
        ("inq", &["--method", "inq", "--bits", "3", "--portions", "0.5,1"], 5, 2),
        ("pow2", &["--codebook", "pow2", "--bits", "3", "--schedule", "5,7"], 7, 2),
        (
            "uniform",
            &["--method", "mlq", "--codebook", "uniform", "--bits", "2", "--layers-per-step", "4"],
            3,
            2,
        ),
        ("pruned", &["--method", "deep-compression", "--bits", "3", "--prune-steps", "2"], 8, 3),
        ("tuned", &["--bits", "1", "--tune-iterations", "2", "--cluster-weights", "fisher"], 2, 3),
        ("calibrated", &["--bits", "2", "--init", "calibrate"], 4, 3),
        (
            "calibrated-pow2",
            &["--bits", "3", "--codebook", "pow2", "--init", "calibrate", "--schedule", "5,7"],
            7,
            2,
        ),
        ("weighted", &["--bits", "2", "--cluster-weights", "inputs"], 4, 3),
    ];
    for (name, more, values, rounds) in table {
        let [run_dir, out] = [name.to_string(), format!("{name}.onnx")].map(|n| path(&dir, &n));
        let report = json(&short(&model, &run_dir, &out, more));
        let found = report["rounds"].as_array().unwrap();
        assert_eq!(found.len(), *rounds, "{name}");
        assert_eq!(found[rounds - 1]["fixed_fraction"], 1.0, "{name}");
        assert_eq!(report["codebook_size"], *values, "{name}");
        for layer in matrices(&out) {
            assert!(layer["distinct"].as_u64().unwrap() as usize <= *values, "{name}: {layer}");
            assert!(!layer["codebook_size"].is_null(), "{name}: {layer}");
        }
        let eval = json(&["eval", &out, "--data", "mnist-10k"]);
        assert_eq!(eval["top1"], report["final"]["top1"], "{name}");
    }
}

#[test]
fn pruning_reaches_its_share_and_entropy_pays_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let [run_dir, out] = ["run", "p.onnx"].map(|n| path(&dir, n));
    let more = ["--method", "deep-compression", "--bits", "3", "--sparsity", "0.95", "--prune-steps", "3"];
    let report = json(&short(&sample_model(), &run_dir, &out, &more));
    let layers = matrices(&out);
    let sum = |key: &str| layers.iter().map(|l| l[key].as_u64().unwrap()).sum::<u64>();
    assert_eq!(sum("zeros"), (0.95 * sum("count") as f64).round() as u64);
    let (stored, entropy) = (&report["size"]["stored_bytes"], &report["size"]["entropy_bytes"]);
    assert!(entropy.as_u64().unwrap() * 4 < stored.as_u64().unwrap(), "{report}");
}

#[test]
fn a_killed_mlq_run_resumes_to_the_same_bits() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    // Layers whose turn comes after the kill take their first codebook from a calibration, too.
    let more = ["--method", "mlq", "--codebook-size", "3", "--tune-iterations", "3", "--init", "calibrate"];
    let [whole_dir, whole] = ["whole", "whole.onnx"].map(|n| path(&dir, n));
    run(&short(&model, &whole_dir, &whole, &more));
    let [run_dir, out] = ["killed", "killed.onnx"].map(|n| path(&dir, n));
    let mut child = slq().args(short(&model, &run_dir, &out, &more)).arg("--quiet").spawn().unwrap();
    let (began, checkpoint) =
        (Instant::now(), std::path::Path::new(&run_dir).join("1-quantize/round-3.safetensors"));
    while !checkpoint.exists() {
        assert!(began.elapsed() < Duration::from_secs(300), "no third round");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!std::path::Path::new(&out).exists(), "killed too late to test anything");
    run(&["compress", "--resume", &run_dir]);
    assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&whole).unwrap());
}

#[test]
fn a_recipe_makes_the_same_network_again() {
    let dir = tempfile::tempdir().unwrap();
    let [first, again, other] = ["a.onnx", "b.onnx", "c.onnx"].map(|n| path(&dir, n));
    let [run_a, run_b, run_c] = ["a", "b", "c"].map(|n| path(&dir, n));
    let more = ["--bits", "3", "--schedule", "5,8", "--lr", "0.003", "--seed", "7", "--layers", "ip2*=2"];
    run(&short(&sample_model(), &run_a, &first, &more));
    let recipe = format!("{run_a}/recipe.toml");
    run(&["compress", "--recipe", &recipe, "--run-dir", &run_b, "-o", &again]);
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&again).unwrap());
    // The recipes differ in the outputs alone.
    let text = |dir: &str| {
        let text = std::fs::read_to_string(format!("{dir}/recipe.toml")).unwrap();
        text.lines().filter(|l| !l.starts_with("outputs")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(text(&run_a), text(&run_b));
    let args = ["compress", "--recipe", &recipe, "--bits", "2", "--run-dir", &run_c, "-o", &other];
    let report = json(&args);
    assert_eq!((report["bits"].as_u64(), report["codebook_size"].as_u64()), (Some(2), Some(4)));
    assert_eq!(report["rounds"].as_array().unwrap().len(), 3, "the default schedule of four values");
    std::fs::write(&recipe, "[[stages]]\nquantize.bit = 3\n").unwrap();
    let said = fails(&["compress", "--recipe", &recipe, "-o", &other], 1);
    assert!(said.contains("recipe.toml") && said.contains("line 2") && said.contains("bit"), "{said}");
}

#[test]
fn a_size_is_kept_with_widths_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "k.onnx"));
    let args = ["compress", &model, "--method", "kmeans", "-o", &out, "--target-size"];
    let alone = json(&[&args[..], &["100KB"]].concat());
    let file = |report: &serde_json::Value| report["outputs"][0]["file_bytes"].as_u64().unwrap();
    assert!((80_000..=100_000).contains(&file(&alone)), "the file itself keeps the size: {alone}");
    assert_eq!(alone["search"]["trials"].as_array().unwrap().len(), 1);
    let with_data = json(&[&args[..], &["20x", "--data", "mnist-10k", "--calibration", "200"]].concat());
    assert!(with_data["outputs"][0]["ratio"].as_f64().unwrap() >= 20.0, "{with_data}");
    let trials = with_data["search"]["trials"].as_array().unwrap();
    let chosen = &trials[with_data["search"]["chosen"].as_u64().unwrap() as usize];
    assert!(trials.len() > 1);
    assert_eq!(chosen["stored_bytes"], with_data["size"]["stored_bytes"]);
    let loss = |t: &serde_json::Value| t["validation"]["loss"].as_f64().unwrap();
    assert!(trials.iter().all(|t| loss(t) >= loss(chosen)), "{with_data}");
    let said = fails(&[&args[..], &["1KB"]].concat(), 1);
    // One bit for each of 430 500 weights, two values for each of four layers, 580 floats: 56 165 bytes, and the file around
    // them.
    let least: u64 = said.split("takes ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((56_166..60_000).contains(&least), "{said}");
}

#[test]
fn a_container_made_without_data_gets_its_size_by_a_price_on_bits() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "k.slq"));
    let args = ["compress", &model, "--method", "kmeans", "-o", &out, "--overwrite"];
    let with = |more: &[&str]| {
        let report = json(&[&args[..], more].concat());
        (std::fs::metadata(&out).unwrap().len(), report)
    };
    let distance = || {
        let beside = json(&["compare", &model, &out, "--calibrate", "mnist-10k"]);
        beside["outputs"][0]["kl"].as_f64().unwrap()
    };
    let (bytes, report) = with(&["--target-size", "100KB"]);
    assert!((90_000..=100_000).contains(&bytes), "{bytes}");
    let (search, kept) = (&report["search"], distance());
    let chosen = &search["trials"][search["chosen"].as_u64().unwrap() as usize];
    assert!(chosen["rate"].as_f64().unwrap() > 0.0 && chosen["stored_bytes"] == bytes, "{search}");
    let (wider, _) = with(&["--bits", "2"]);
    assert!(wider > 80_000 && kept < distance(), "two bits make {wider} bytes");

    let (plain, _) = with(&["--bits", "5"]);
    let (priced, _) = with(&["--bits", "5", "--rate", "0.01"]);
    assert!(priced < plain * 3 / 4, "{plain} {priced}");
    let (dearer, report) = with(&["--bits", "5", "--rate", "0.03"]);
    assert!(dearer < priced && report["quantized"] == 4, "{dearer} {priced}");
    let warns = |report: &serde_json::Value| {
        let all = report["warnings"].as_array();
        all.is_some_and(|all| all.iter().any(|w| w["kind"] == "rate"))
    };
    let beside = path(&dir, "k.onnx");
    let unused = json(&[&args[..4], &["--bits", "5", "--rate", "0.01", "-o", &beside]].concat());
    assert!(!warns(&report) && warns(&unused), "{unused}");
    let said = fails(&[&args[..], &["--bits", "4", "--rate", "0.01", "--codebook", "uniform"]].concat(), 1);
    assert!(said.contains("rate") && said.contains("free"), "{said}");
}

#[test]
fn settings_that_are_no_finite_numbers_are_refused() {
    let model = sample_model();
    let flags = [
        "--lr",
        "--momentum",
        "--weight-decay",
        "--clip-gradients",
        "--distill",
        "--damping",
        "--rate",
        "--sparsity",
        "--portions",
    ];
    for flag in flags {
        for number in ["nan", "inf"] {
            let args =
                ["compress", &model, "--data", "mnist-10k", "--bits", "4", "-o", "x.slq", flag, number];
            let said = fails(&args, 2);
            assert!(said.contains(flag) && said.contains("finite"), "{said}");
        }
    }
}

#[test]
fn a_drop_is_kept_by_the_smallest_network_that_does() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "d.onnx"));
    let args = ["compress", &model, "--data", "mnist-10k", "--method", "kmeans", "--calibration", "200"];
    let drop = |points| [&args[..], &["-o", &out, "--max-drop", points]].concat();
    let report = json(&drop("1"));
    let search = &report["search"];
    let trials = search["trials"].as_array().unwrap();
    let chosen = &trials[search["chosen"].as_u64().unwrap() as usize];
    let top1 = |v: &serde_json::Value| v["top1"].as_f64().unwrap();
    assert!(top1(&chosen["validation"]) >= top1(&search["validation_baseline"]) - 0.01 - 1e-9, "{report}");
    let bytes = |t: &serde_json::Value| t["stored_bytes"].as_u64().unwrap();
    assert!(trials.iter().all(|t| t["fits"] == false || bytes(t) >= bytes(chosen)), "{report}");
    assert!(trials.iter().any(|t| t["fits"] == false && bytes(t) < bytes(chosen)), "{report}");
    assert!(fails(&drop("-1"), 1).contains("max-drop"));
}

#[test]
fn a_finished_search_resumes_to_the_same_network() {
    let dir = tempfile::tempdir().unwrap();
    let [run_dir, out] = ["search", "s.onnx"].map(|n| path(&dir, n));
    let model = sample_model();
    let args = short(&model, &run_dir, &out, &["--target-size", "12x", "--lr", "0.002"]);
    let report = json(&args);
    assert!(report["size"]["ratio"].as_f64().unwrap() >= 12.0);
    let first = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let resumed = json(&["compress", "--resume", &run_dir]);
    assert_eq!(std::fs::read(&out).unwrap(), first);
    assert_eq!(resumed["search"], report["search"]);
    assert!(fails(&args, 1).contains("resume"));
}

#[test]
fn sensitivities_are_shown_kept_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let [table, out] = ["t.json", "o.onnx"].map(|n| path(&dir, n));
    let model = sample_model();
    let args = ["sensitivity", &model, "--data", "mnist-10k", "--calibration", "200", "--codebook-size", "3"];
    let found = json(&[&args[..], &["-o", &table]].concat());
    let layers = found["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    for layer in layers {
        let clusters = layer["clusters"].as_array().unwrap();
        let count: u64 = clusters.iter().map(|c| c["count"].as_u64().unwrap()).sum();
        assert_eq!((clusters.len(), Some(count)), (3, layer["count"].as_u64()));
        assert!(layer["rise"]["error"].as_f64().unwrap() > 0.0 && layer["taylor"]["mean"].is_number());
    }
    let args = ["compress", &model, "--method", "kmeans", "--data", "mnist-10k", "--target-size", "20x"];
    json(&[&args[..], &["--sensitivity", &table, "-o", &out]].concat());
    std::fs::write(&table, "{}").unwrap();
    assert!(fails(&[&args[..], &["--sensitivity", &table, "-o", &out]].concat(), 1).contains("t.json"));
}

#[test]
fn flags_that_contradict_each_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "o.onnx"));
    let table: &[(&[&str], &str)] = &[
        (&["--rank-by", "size"], "--rank-by"),
        (&["--method", "mlq", "--partition", "loss"], "--partition"),
        (&["--method", "inq", "--schedule", "3,5"], "--schedule"),
        (&["--method", "inq", "--codebook-size", "7"], "codebook-size"),
        (&["--method", "inq", "--portions", "0.5,0.9"], "portions"),
        (&["--method", "deep-compression", "--codebook", "pow2"], "--codebook"),
        (&["--codebook", "uniform", "--codebook-size", "8"], "even"),
        (&["--method", "kmeans", "--lr", "0.1"], "--lr"),
        (&["--method", "inq", "--ternary"], "--ternary"),
        (&["--sparsity", "0.5"], "--sparsity"),
        (&["--method", "deep-compression", "--sparsity", "1"], "sparsity"),
        (&["--no-correction"], "--no-correction"),
        (&["--tune-lr", "0.1"], "--tune-epochs"),
        (&["--codebook", "pow2", "--tune-epochs", "1"], "tune-epochs"),
        (&["--bits", "3", "--max-drop", "1"], "--bits"),
        (&["--sensitivity", "x.json"], "--target-size"),
        (&["--ternary", "--schedule", "2"], "3"),
        (&["--method", "mlq", "--layers-per-step", "0"], "layers-per-step"),
    ];
    for (more, word) in table {
        let args = [&["compress", &model, "--data", "mnist-10k", "-o", &out][..], more].concat();
        let said = fails(&args, 1);
        assert!(said.contains(word), "{more:?} does not mention {word}: {said}");
    }
    for more in
        [&["--target-size", "big"][..], &["--target-size", "9x", "--max-drop", "1"], &["--method", "magic"]]
    {
        fails(&[&["compress", &model, "--data", "mnist-10k", "-o", &out][..], more].concat(), 2);
    }
}
