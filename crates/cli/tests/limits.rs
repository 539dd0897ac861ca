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
