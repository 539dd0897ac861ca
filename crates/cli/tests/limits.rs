//! Limits: of memory, and numbers beyond reason.

mod common;

use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::{path, sample_model, slq};

/// The output of the child, which must end within two minutes.
fn ends(mut child: Child, args: &[&str]) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("slq {args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn numbers_beyond_reason_are_refused_or_make_no_difference() {
    const HUGE: &str = "1000000000000";
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (sample_model(), path(&dir, "o.onnx"));
    let values = path(&dir, "v.npy");
    let tensor = slq::graph::Tensor::f32(vec![8], vec![0.5; 8]).unwrap();
    slq::arrays::write(std::path::Path::new(&values), &tensor).unwrap();
    let kmeans = ["compress", &model, "--method", "kmeans", "-o", &out];
    let rounds = [
        "compress",
        &model,
        "--data",
        "mnist-10k",
        "--train-subset",
        "::20",
        "--test-subset",
        "::20",
        "--bits",
        "2",
        "--iterations-per-round",
        "1",
        "-o",
        &out,
    ];
    let group = format!("group:{HUGE}");
    let table: &[(&[&str], &[&str])] = &[
        (&kmeans, &["--granularity", &group]),
        (&kmeans, &["--granularity", "group:18446744073709551615"]),
        (&rounds, &["--partition-images", HUGE]),
        (&rounds, &["--lloyd-iterations", HUGE]),
        (&rounds, &["--batch", HUGE]),
        (&rounds, &["--method", "mlq", "--layers-per-step", HUGE]),
        (&rounds, &["--resize", HUGE]),
        (&rounds, &["--crop", HUGE]),
        (&rounds, &["--pad-crop", HUGE]),
        (&rounds, &["--max-drop", "nan"]),
        (&rounds, &["--max-drop", "-5"]),
        (&["cluster", &values, "--k", HUGE], &[]),
        (&["decompose", &model, "--scheme", "spatial", "--rank", HUGE, "-o", &out], &[]),
        (&["decompose", &model, "--scheme", "spatial", "--macs", "1e300", "-o", &out], &[]),
        (&["bench", &model, "--batch", HUGE], &[]),
        (&["bench", &model, "--seconds", "nan", "--batch", "1"], &[]),
        (&["eval", &model, "--data", "mnist-10k", "--batch", HUGE], &[]),
    ];
    for (number, (args, more)) in table.iter().enumerate() {
        let run_dir = path(&dir, &format!("r{number}"));
        let mut args = [*args, *more].concat();
        if args.contains(&"--iterations-per-round") {
            args.extend(["--run-dir", &run_dir]);
        }
        let child = slq().args(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let ended = ends(child, &args);
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(matches!(ended.status.code(), Some(0..=2)), "{args:?}: {:?} {said}", ended.status);
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
}

/// A shell limits the address space of the program (`ulimit -v`, in kB).
#[cfg(target_os = "linux")]
#[test]
fn what_does_not_fit_into_the_limit_names_a_batch_that_does() {
    let bench = |batch: &str| {
        let command = format!(
            "ulimit -v 900000; exec '{}' bench zoo:resnet20 --threads 2 --seconds 0.01 --batch {batch}",
            env!("CARGO_BIN_EXE_slq")
        );
        let child = std::process::Command::new("sh")
            .args(["-c", &command])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let ended = ends(child, &["bench"]);
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    for batch in ["2048", "16384", "65536"] {
        let (status, said) = bench(batch);
        assert_eq!(status, Some(1), "{batch}: {said}");
        assert!(said.contains("bytes of memory") && said.contains("should fit"), "{batch}: {said}");
    }
    let (status, said) = bench("2");
    assert_eq!(status, Some(0), "{said}");
}

/// Runs the program in an address space of so many kB (`ulimit -v`), on two threads.
#[cfg(target_os = "linux")]
fn within(kilobytes: u32, args: &[&str]) -> (Option<i32>, String, String) {
    let script = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\" --threads 2");
    let child = std::process::Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_slq")])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ended = ends(child, args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (ended.status.code(), text(&ended.stdout), text(&ended.stderr))
}

#[cfg(target_os = "linux")]
fn parsed(stdout: &str) -> serde_json::Value {
    serde_json::from_str(stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
}

/// The batch that a command used, which must be smaller than `most`, and said.
#[cfg(target_os = "linux")]
fn shrunk(kilobytes: u32, args: &[&str], most: u64) -> (u64, serde_json::Value) {
    let (status, out, said) = within(kilobytes, &[args, &["--batch", "auto", "--json"]].concat());
    assert_eq!(status, Some(0), "{args:?}: {said}");
    let json = parsed(&out);
    let batch = json["batch"].as_u64().unwrap();
    assert!((1..most).contains(&batch), "{args:?}: {json}");
    assert_eq!(said.matches("(--batch auto)").count(), 1, "{args:?}: {said}");
    assert!(said.contains(&format!("one of {batch} does")), "{args:?}: {said}");
    (batch, json)
}

#[cfg(target_os = "linux")]
#[test]
fn batch_auto_takes_what_fits_and_gives_the_same_figures() {
    let dir = tempfile::tempdir().unwrap();
    let data = common::cifar(&dir, [200, 12]);
    // The plan is for the whole batch, however few images there are: three keep the test short.
    let eval = ["eval", "zoo:resnet18", "--data", &data, "--resize", "224x224", "--test-subset", "::4"];
    let (status, _, said) = within(600_000, &eval);
    assert!(status == Some(1) && said.contains("should fit"), "{said}");
    let (_, small) = shrunk(600_000, &eval, 100);
    let whole = parsed(&String::from_utf8(common::run(&[&eval[..], &["--json"]].concat()).stdout).unwrap());
    assert_eq!(whole["batch"], 100);
    let losses = [&small, &whole].map(|j| j["loss"].as_f64().unwrap());
    assert!((losses[0] - losses[1]).abs() < 1e-4 * losses[1].abs(), "{losses:?}");

    let tensor = |count: usize| {
        let values = (0..count * 3 * 32 * 32).map(|i| (i % 251) as f32 / 251.0).collect();
        slq::graph::Tensor::f32(vec![count, 3, 32, 32], values).unwrap()
    };
    let [x, y, z] = ["x.npy", "y.npy", "z.npy"].map(|n| path(&dir, n));
    slq::arrays::write(std::path::Path::new(&x), &tensor(256)).unwrap();
    let run = |out: &str| ["run", "zoo:resnet20", "--input", &x, "-o", out].map(String::from);
    let [auto, all] = [run(&y), run(&z)];
    let [auto, all] = [&auto, &all].map(|args| args.iter().map(String::as_str).collect::<Vec<_>>());
    let (status, printed, said) = within(900_000, &[&auto[..], &["--batch", "100", "--json"]].concat());
    assert_eq!((status, parsed(&printed)["batch"].as_u64()), (Some(0), Some(100)), "{said}");
    common::run(&all);
    let [part, whole] = [&y, &z].map(|f| slq::arrays::read_f32(std::path::Path::new(f)).unwrap());
    assert_eq!(part.len(), 2560);
    let largest = whole.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    assert!(part.iter().zip(&whole).all(|(a, b)| (a - b).abs() < 1e-3 * largest));
}

/// The sample network without its preprocessing, behind a detour of 3 MB for each image.
#[cfg(target_os = "linux")]
fn wide_network(file: &str) {
    use slq::graph::{Node, Tensor, TensorData};
    let mut graph = slq::Model::open(sample_model().as_str()).unwrap().graph;
    graph.metadata.properties.clear();
    let input = graph.inputs[0].name.clone();
    graph
        .nodes
        .iter_mut()
        .flat_map(|n| &mut n.inputs)
        .filter(|i| **i == input)
        .for_each(|i| *i = "back".into());
    for (name, values) in
        [("times", vec![1, 1, 32, 32]), ("first", vec![0, 0]), ("last", vec![28, 28]), ("axes", vec![2, 3])]
    {
        let tensor = Tensor::new(vec![values.len()], TensorData::I64(values)).unwrap();
        graph.weights.insert(name.into(), tensor.into());
    }
    let detour = [
        Node::new("tile", "Tile", &[&input, "times"], &["wide"]),
        Node::new("slice", "Slice", &["wide", "first", "last", "axes"], &["back"]),
    ];
    graph.nodes.splice(0..0, detour);
    slq::Model::from(graph).save(file).unwrap();
}

/// No flag says how many images detection takes at once.
#[cfg(target_os = "linux")]
#[test]
fn preprocessing_is_detected_on_images_that_fit() {
    let dir = tempfile::tempdir().unwrap();
    let model = path(&dir, "wide.onnx");
    wide_network(&model);
    let eval = ["eval", &model, "--data", "mnist-10k", "--train-subset", "::100", "--test-subset", "::100"];
    let (status, _, said) =
        within(300_000, &[&eval[..], &["--batch", "64", "--scale", "0.00390625"]].concat());
    assert!(status == Some(1) && said.contains("a batch of 64 needs"), "{said}");
    let (status, out, said) = within(300_000, &[&eval[..], &["--batch", "4", "--json"]].concat());
    assert!(status == Some(0) && said.contains("preprocessing detected"), "{said}");
    assert!(parsed(&out)["top1"].as_f64().unwrap() > 0.9, "{out}");
}

#[cfg(target_os = "linux")]
#[test]
fn batch_auto_measures_speed_sensitivities_and_differences_of_what_fits() {
    let dir = tempfile::tempdir().unwrap();
    let data = common::cifar(&dir, [200, 12]);
    shrunk(300_000, &["bench", "zoo:resnet20", "--seconds", "0.01"], 64);
    let args = ["sensitivity", "zoo:resnet20", "--data", &data, "--layers-only", "--partition-images", "100"];
    // Where all fits, the default is used; a number is taken as it is.
    let (status, out, said) = within(
        900_000,
        &[&args[..], &["--layers", "*=skip", "--layers", "linear*=2", "--batch", "auto", "--json"]].concat(),
    );
    assert_eq!((status, parsed(&out)["batch"].as_u64()), (Some(0), Some(64)), "{said}");
    let model = sample_model();
    let compare = ["compare", &model, &model, "--json"];
    assert_eq!(parsed(&within(900_000, &[&compare[..], &["--batch", "3"]].concat()).1)["batch"], 3);
    assert_eq!(parsed(&within(900_000, &[&compare[..], &["--batch", "auto"]].concat()).1)["batch"], 16);
    for (args, word) in [
        (vec!["compare", &model, &model, "--batch", "17"], "1 to 16"),
        (vec!["compress", &model, "--method", "kmeans", "--batch", "auto", "-o", "o.onnx"], "trains nothing"),
    ] {
        let said = common::fails(&args, 1);
        assert!(said.contains(word), "{said}");
    }
    common::fails(&["eval", &model, "--data", "mnist-10k", "--batch", "many"], 2);
}

#[cfg(target_os = "linux")]
#[test]
fn batch_auto_trains_in_parts_that_fit_and_a_resumed_job_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out, run_dir) = (common::cifar(&dir, [200, 12]), path(&dir, "o.onnx"), path(&dir, "run"));
    let args =
        ["train", "zoo:resnet20", "--data", &data, "--iterations", "1", "-o", &out, "--run-dir", &run_dir];
    // What is free when the job is planned is not always free when it runs; no limit may stop it.
    for kilobytes in (300_000..=400_000).step_by(25_000) {
        let run_dir = path(&dir, &kilobytes.to_string());
        let (status, _, said) =
            within(kilobytes, &[&args[..8], &["--run-dir", &run_dir, "--batch", "auto"]].concat());
        assert_eq!(status, Some(0), "{kilobytes}: {said}");
    }
    let (status, printed, said) = within(320_000, &[&args[..], &["--batch", "auto", "--json"]].concat());
    assert_eq!(status, Some(0), "{said}");
    let json = parsed(&printed);
    let (step, part) = (json["batch"]["step"].as_u64().unwrap(), json["batch"]["part"].as_u64().unwrap());
    assert!(step == 64 && part < 64 && 64 % part == 0, "{json}");
    assert!(
        said.contains(&format!("{} parts of {part}", 64 / part)) && said.contains("batch-norm"),
        "{said}"
    );
    assert_eq!(
        (&json["settings"]["batch"], &json["settings"]["iter-size"]),
        (&part.into(), &(64 / part).into())
    );
    let read = |name: &str| std::fs::read_to_string(std::path::Path::new(&run_dir).join(name)).unwrap();
    let recipe = read("recipe.toml");
    assert!(
        recipe.contains(&format!("batch = {part}")) && recipe.contains(&format!("iter-size = {}", 64 / part))
    );
    let report: serde_json::Value = serde_json::from_str(&read("report.json")).unwrap();
    assert_eq!(report["batch"], json["batch"]);
    // With all memory there is, a resumed job goes on with the same parts.
    let first = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let again = common::json(&["resume", &run_dir]);
    assert_eq!(again["batch"], json["batch"]);
    assert_eq!(std::fs::read(&out).unwrap(), first);
}
