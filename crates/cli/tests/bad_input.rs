//! Broken inputs: one sentence, exit status 1 (or 2 for wrong usage), no panic, nothing overwritten.

mod common;

use common::{fails, path, run, sample_model};

#[test]
fn wrong_usage_is_status_two() {
    for args in [
        &["compress"][..],
        &["nonsense"],
        &["eval"],
        &["compress", "a.onnx", "-o", "b.onnx", "--bits", "many"],
        &["compress", "a.onnx", "-o", "b.onnx", "--layers", "conv1"],
        &["compress", "a.onnx", "-o", "b.onnx", "--resume", "dir"],
        &["train", "zoo:lenet", "-o", "a.onnx"],
        &["cluster", "x.npy"],
        &["decompose", "a.onnx", "-o", "b.onnx"],
        &["decompose", "a.onnx", "-o", "b.onnx", "--scheme", "diagonal", "--rank", "2"],
        &["decompose", "a.onnx", "-o", "b.onnx", "--scheme", "svd", "--rank", "2", "--energy", "0.5"],
        &["decompose", "a.onnx", "-o", "b.onnx", "--scheme", "svd", "--rank", "2", "--trp"],
        &["decompose", "a.onnx", "-o", "b.onnx", "--scheme", "svd", "--target-size", "small"],
    ] {
        fails(args, 2);
    }
}

#[test]
fn missing_things_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "out.onnx"));
    let table: &[(&[&str], &str)] = &[
        (&["eval", "missing.onnx", "--data", "mnist-10k"], "missing.onnx"),
        (&["eval", "model.h5", "--data", "mnist-10k"], "model.h5"),
        (&["eval", &model], "--data"),
        (&["eval", &model, "--data", "no/such/place"], "no/such/place"),
        (&["eval", "zoo:nothing", "--data", "mnist-10k"], "nothing"),
        (&["compress", &model, "--method", "slq", "-o", &out], "kmeans"),
        (&["compress", &model, "--method", "calibrate", "-o", &out], "--calibrate"),
        (&["compress", &model, "--calibrate", "no/such/place", "-o", &out], "no/such/place"),
        (&["compress", &model, "--calibrate", "random:0", "-o", &out], "random:0"),
        (&["compress", &model, "--calibrate", "random:8", "--method", "slq", "-o", &out], "--data"),
        (&["compress", &model, "--data", "mnist-10k", "-o", "x.h5"], "x.h5"),
        (&["compress", &model, "--data", "mnist-10k", "-o", "no/such/folder/x.onnx"], "no/such/folder"),
        (&["compress", &model, "--method", "kmeans", "--bits", "9", "-o", &out], "bits"),
        (&["compress", &model, "--data", "mnist-10k", "--schedule", "5,9", "-o", &out], "16"),
        (&["compress", &model, "--method", "kmeans", "--layers", "nowhere=4", "-o", &out], "nowhere"),
        (&["compress", &model, "--max-drop", "0.5", "-o", &out], "--calibrate"),
        (&["compress", &model, "--method", "mlq", "-o", &out], "dataset"),
        (&["compress", "--recipe", "no/such/recipe.toml", "-o", &out], "no/such/recipe.toml"),
        (&["compress", "--resume", "no/such/run"], "no/such/run"),
        (&["compress", &model, "--method", "kmeans", "-o", "a.zip"], "a.zip"),
        (&["decompose", &model, "--scheme", "channel", "-o", &out], "--energy"),
        (&["decompose", &model, "--scheme", "channel,spatial", "--rank", "2", "-o", &out], "--scheme"),
        (&["decompose", &model, "--scheme", "channel", "--rank", "0", "-o", &out], "rank 0"),
        (&["decompose", &model, "--scheme", "channel", "--rank", "51", "-o", &out], "50"),
        (&["decompose", &model, "--scheme", "channel", "--energy", "1.5", "-o", &out], "energy"),
        (
            &["decompose", &model, "--scheme", "channel", "--energy", "0.5", "--layers", "fog=2", "-o", &out],
            "fog",
        ),
        (&["decompose", &model, "--scheme", "svd", "--rank", "2", "--layers", "ip2*=11", "-o", &out], "ip2"),
        (&["decompose", &model, "--scheme", "channel", "--flops", "100", "-o", &out], "MACs"),
        (&["decompose", &model, "--scheme", "svd", "--target-size", "1000x", "-o", &out], "parameters"),
        (&["decompose", "zoo:lenet-300-100", "--scheme", "spatial", "--rank", "2", "-o", &out], "spatial"),
        (&["decompose", &model, "--scheme", "svd", "--rank", "2", "-o", "x.h5"], "x.h5"),
        // What the network tells is said before data is read.
        (&["compress", &model, "--data", "no/such/place", "--schedule", "5,9", "-o", &out], "16"),
        (
            &[
                "decompose",
                "zoo:lenet-300-100",
                "--scheme",
                "spatial",
                "--trp",
                "--data",
                "no/such/place",
                "-o",
                &out,
            ],
            "spatial",
        ),
        (&["train", "zoo:lenet", "--data", "mnist-10k", "--epochs", "1", "--lr", "-1", "-o", &out], "lr"),
        (&["cluster", "missing.npy", "--k", "3"], "missing.npy"),
        (&["run", &model, "--input", "missing.npy", "-o", "y.npy"], "missing.npy"),
    ];
    all_mention(table);
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn files_of_a_job_are_checked_before_images_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out, place, page) =
        (path(&dir, "net.onnx"), path(&dir, "out.onnx"), path(&dir, "run"), path(&dir, "page.html"));
    std::fs::copy(sample_model(), &model).unwrap();
    std::fs::create_dir(&place).unwrap();
    std::fs::write(path(&dir, "run/recipe.toml"), "").unwrap();
    let bits: &[&str] = &["compress", &model, "--bits", "4"];
    let ranks: &[&str] = &["decompose", &model, "--scheme", "channel", "--trp"];
    for command in [bits, ranks, &["train", &model, "--epochs", "1"]] {
        let said = |rest: &[&str]| fails(&[command, &["--data", "no/such/place"], rest].concat(), 1);
        for (rest, words) in [
            (&["-o", &model][..], "would replace the input"),
            (&["-o", &out, "-o", &out], "two outputs"),
            (&["-o", &out, "--run-dir", &place], "already holds a run"),
            (&["-o", &out, "--report", &model], "ends in .html"),
            (&["-o", "no/such/folder/x.onnx", "--report", &page], "folder"),
        ] {
            let said = said(rest);
            assert!(said.contains(words), "{command:?} {rest:?}: {said}");
        }
        assert!(said(&["-o", &out]).contains("no/such/place"));
    }
    let listed = String::from_utf8(run(&["runs", &place, "--json"]).stdout).unwrap();
    assert!(listed.contains("names no model") && !listed.contains("slq resume"), "{listed}");
    assert!(fails(&["report", &place, "-o", &page], 1).contains("names no model"));
    assert!(fails(&["resume", &place], 1).contains("names no model"));
}

#[test]
fn pointers_of_git_lfs_are_named_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let model = sample_model();
    for (name, args) in [
        ("net.slq", &["eval", "NAME", "--data", "mnist-10k"][..]),
        ("x.npy", &["run", &model, "--input", "NAME", "-o", "y.npy"]),
        ("x.npz", &["compress", &model, "--calibrate", "NAME", "-o", "out.onnx"]),
    ] {
        let file = path(&dir, name);
        std::fs::write(&file, "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n").unwrap();
        let args: Vec<&str> = args.iter().map(|&a| if a == "NAME" { file.as_str() } else { a }).collect();
        let said = fails(&args, 1);
        assert!(said.contains("git lfs pull"), "{args:?}: {said}");
    }
}

#[test]
fn flags_and_outputs_that_do_not_fit_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "out.onnx"));
    let table: &[(&[&str], &str)] = &[
        (
            &["run", &model, "--input", "x.npy", "--data", "mnist-10k", "-o", &out],
            "--data means nothing here",
        ),
        (
            &["eval", &model, "--weights", "w.caffemodel", "--data", "mnist-10k"],
            "--weights goes with a .prototxt",
        ),
        (&["inspect", "zoo:lenet", "--graph", "g.onnx"], "--graph goes with a .safetensors"),
        (&["run", &model, "--input", "x.npy", "-o", "y.onnx"], "ends in .npy"),
        (&["sensitivity", &model, "--data", "no/such/place", "--bits", "3", "-o", "t.slq"], "ends in .json"),
        (&["compress", &model, "--method", "kmeans", "-o", &out, "--report", "page.onnx"], "ends in .html"),
        (
            &["compress", &model, "--ternary", "--method", "kmeans", "-o", &out],
            "--codebook-size 3 in place of --ternary",
        ),
    ];
    all_mention(table);
    assert!(!std::path::Path::new(&out).exists());
}

/// Every command of the table fails with a sentence that mentions the word beside it.
fn all_mention(table: &[(&[&str], &str)]) {
    let failures: Vec<String> = table
        .iter()
        .filter_map(|(args, word)| {
            let said = fails(args, 1);
            (!said.contains(word)).then(|| format!("{args:?} does not mention {word}: {said}"))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_refused_schedule_leaves_no_run_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out, run) = (sample_model(), path(&dir, "out.onnx"), path(&dir, "run"));
    fails(
        &["compress", &model, "--data", "mnist-10k", "--schedule", "5,9", "--run-dir", &run, "-o", &out],
        1,
    );
    assert!(!std::path::Path::new(&run).exists());
}

#[test]
fn damaged_models_leave_outputs_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, out) = (path(&dir, "bad.onnx"), path(&dir, "out.onnx"));
    std::fs::write(&out, b"precious").unwrap();
    let whole = std::fs::read(sample_model()).unwrap();
    let mut garbled = whole.clone();
    garbled.iter_mut().step_by(97).for_each(|b| *b = b.wrapping_mul(31).wrapping_add(7));
    for (name, bytes) in [
        ("empty", &[][..]),
        ("truncated", &whole[..whole.len() / 2]),
        ("text", b"hello"),
        ("garbled", &garbled),
    ] {
        std::fs::write(&bad, bytes).unwrap();
        let said = fails(&["compress", &bad, "--method", "kmeans", "-o", &out], 1);
        assert!(said.contains("bad.onnx") || said.contains("weight"), "{name}: {said}");
        assert_eq!(std::fs::read(&out).unwrap(), b"precious", "{name}");
    }
}

#[test]
fn labels_beyond_the_outputs_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = path(&dir, "data.npz");
    run(&["convert", "mnist-10k", &data]);
    let model = path(&dir, "two.onnx");
    // A network of ten classes on labels up to nine is fine; the classes file of an image folder is tested in slq-data.
    run(&["convert", "zoo:lenet", &model]);
    run(&["eval", &model, "--data", &data, "--test-subset", ":20", "--scale", "1"]);
    let cut = ["--test-subset", ":20", "--crop", "24"];
    let said = fails(&[&["eval", "zoo:resnet20", "--data", &data], &cut[..]].concat(), 1);
    assert!(said.contains("24x24") && said.contains("3x32x32"), "shapes should be named: {said}");
    // Without a crop of their own, images get the size and the colours of the network.
    run(&["eval", "zoo:resnet20", "--data", &data, "--test-subset", ":20"]);
}

#[test]
fn a_second_run_does_not_overwrite_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (run_dir, out, model) = (path(&dir, "run"), path(&dir, "o.onnx"), sample_model());
    let args = ["compress", &model, "--data", "mnist-10k", "--bits", "2", "--iterations-per-round", "1"];
    let args = [&args[..], &["--run-dir", &run_dir, "-o", &out]].concat();
    run(&args);
    let said = fails(&args, 1);
    assert!(said.contains("resume"), "{said}");
}

#[test]
fn a_diverging_run_gives_advice() {
    let dir = tempfile::tempdir().unwrap();
    let out = path(&dir, "o.onnx");
    let said =
        fails(&["train", "zoo:lenet", "--data", "mnist-10k", "--epochs", "1", "--lr", "1e6", "-o", &out], 1);
    assert!(said.contains("learning rate"), "{said}");
    assert!(!std::path::Path::new(&out).exists());
}

#[test]
fn a_weight_that_is_not_a_number_is_named_with_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (bad, out) = (path(&dir, "nan.onnx"), path(&dir, "o.onnx"));
    let mut model = slq::Model::open("zoo:lenet").unwrap();
    model.graph.weights["conv2.weight"].tensor.as_f32_mut().unwrap()[7] = f32::INFINITY;
    model.save(&bad).unwrap();
    for args in [
        &["inspect", &bad][..],
        &["eval", &bad, "--data", "mnist-10k"],
        &["compress", &bad, "--method", "kmeans", "-o", &out],
    ] {
        let said = fails(args, 1);
        assert!(said.contains("nan.onnx") && said.contains("conv2.weight") && said.contains('7'), "{said}");
    }
}

#[test]
fn errors_are_json_where_json_is_asked_for() {
    let args = ["compress", &sample_model(), "--method", "kmeans", "--bits", "9", "-o", "x.onnx", "--json"];
    let output = common::slq().args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["kind"], "setting");
    assert!(error["error"]["message"].as_str().unwrap().contains("bits"), "{error}");

    // Wrong usage as well, with the sentence alone; help is none.
    for (args, part) in [
        (&["run", "zoo:lenet", "--json"][..], "not provided: --input"),
        (&["eval", "zoo:lenet", "--json", "--frobnicate"], "'--frobnicate'"),
        (
            &["compress", "--resume", "somewhere", "--bits", "4", "--json"],
            "--bits cannot stand beside --resume",
        ),
    ] {
        let output = common::slq().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["kind"], "usage");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(part) && !message.contains("Usage"), "{error}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("error: "));
    }
    let help = common::run(&["eval", "--json", "--help"]);
    assert!(!String::from_utf8_lossy(&help.stdout).contains("\"error\""));
}

#[test]
fn flags_beside_resume_are_refused() {
    let said = fails(&["compress", "--resume", "somewhere", "--bits", "4"], 2);
    assert!(said.contains("--bits") && said.contains("--resume"), "{said}");
}
