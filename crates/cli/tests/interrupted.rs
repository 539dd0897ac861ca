//! Jobs that are stopped at any moment end with the bits of a job that was not stopped, and nothing is lost.

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{fails, path, run, sample_model, slq};

/// A job, the file whose appearance says that it is within a training, and the steps of the whole.
const JOBS: &[(&str, &[&str], &str)] = &[
    ("train", &["train", "MODEL", "--iterations", "400", "--lr", "0.01"], "1-fine-tune/training.json"),
    (
        "low rank",
        &[
            "decompose",
            "MODEL",
            "--scheme",
            "spatial",
            "--macs",
            "1.8",
            "--trp",
            "--iterations",
            "60",
            "--trp-period",
            "4",
        ],
        "1-decompose/low-rank.json",
    ),
    (
        "factors",
        &["decompose", "MODEL", "--scheme", "spatial", "--macs", "1.8", "--fine-tune-epochs", "3"],
        "1-decompose/factors.json",
    ),
    (
        "round",
        &["compress", "MODEL", "--codebook-size", "9", "--schedule", "5,9", "--iterations-per-round", "200"],
        "1-quantize/within-round-2.json",
    ),
    (
        "tune",
        &[
            "compress",
            "MODEL",
            "--codebook-size",
            "9",
            "--schedule",
            "9",
            "--iterations-per-round",
            "5",
            "--tune-iterations",
            "200",
        ],
        "2-tune/tuning.json",
    ),
    (
        "shared values",
        &[
            "compress",
            "MODEL",
            "--method",
            "deep-compression",
            "--prune-steps",
            "1",
            "--iterations-per-round",
            "5",
            "--tune-iterations",
            "200",
        ],
        "1-quantize/within-round-2.json",
    ),
];

fn arguments(job: &[&str], run_dir: &str, out: &str) -> Vec<String> {
    let mut args: Vec<String> = job.iter().map(|a| a.replace("MODEL", &sample_model())).collect();
    let rest = [
        "--data",
        "mnist-10k",
        "--train-subset",
        "::4",
        "--test-subset",
        "::10",
        "--run-dir",
        run_dir,
        "-o",
        out,
    ];
    args.extend(rest.map(String::from));
    args
}

/// Starts a job that keeps a checkpoint after every step, and waits for the file that says it is under way.
fn under_way(job: &[&str], run_dir: &str, out: &str, wait_for: &str) -> Child {
    let mut child = slq()
        .args(arguments(job, run_dir, out))
        .args(["--checkpoint-seconds", "0"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !Path::new(run_dir).join(wait_for).exists() {
        assert!(child.try_wait().unwrap().is_none(), "{job:?} ended before {wait_for} appeared");
        assert!(began.elapsed() < Duration::from_secs(120), "{wait_for} did not appear");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn killed_within_a_training_a_job_ends_with_the_same_bits() {
    for (name, job, wait_for) in JOBS {
        let dir = tempfile::tempdir().unwrap();
        let [whole, whole_dir, out, run_dir] = ["w.onnx", "w", "o.onnx", "r"].map(|n| path(&dir, n));
        run(&arguments(job, &whole_dir, &whole).iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = under_way(job, &run_dir, &out, wait_for);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!Path::new(&out).exists(), "{name}: killed too late to test anything");
        let resumed = run(&["resume", &run_dir, "--threads", "1"]);
        let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
        assert!(said.contains("going on after step"), "{name}: the training began again: {said}");
        assert!(std::fs::read(&out).unwrap() == std::fs::read(&whole).unwrap(), "{name}: other bits");
        let left: Vec<_> = std::fs::read_dir(Path::new(&run_dir).join(wait_for).parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .filter(|n| n.contains("momentum") || n.ends_with(".slq-tmp"))
            .collect();
        assert!(left.is_empty(), "{name}: {left:?} are left");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_keeps_a_checkpoint_and_says_how_to_go_on() {
    let (_, job, wait_for) = JOBS[0];
    let dir = tempfile::tempdir().unwrap();
    let [whole, whole_dir] = ["w.onnx", "w"].map(|n| path(&dir, n));
    run(&arguments(job, &whole_dir, &whole).iter().map(String::as_str).collect::<Vec<_>>());
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        let [out, run_dir] = [format!("o{status}.onnx"), format!("r{status}")].map(|n| path(&dir, &n));
        let child = under_way(job, &run_dir, &out, wait_for);
        let began = Instant::now();
        send(&child, signal);
        let ended = child.wait_with_output().unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(status), "{said}");
        assert!(said.contains(&format!("slq resume {run_dir}")), "{said}");
        // From another folder: the paths of the job are kept from the root.
        let resumed = slq().args(["resume", &run_dir]).current_dir(dir.path()).output().unwrap();
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert_eq!(std::fs::read(&out).unwrap(), std::fs::read(&whole).unwrap());
    }
}

#[cfg(unix)]
#[test]
fn a_signal_before_the_first_step_ends_the_program_too() {
    let dir = tempfile::tempdir().unwrap();
    let [out, run_dir] = ["o.onnx", "r"].map(|n| path(&dir, n));
    let (_, job, _) = JOBS[0];
    let child = under_way(job, &run_dir, &out, "recipe.toml");
    send(&child, "-INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    assert!(!Path::new(&out).exists());
}

#[test]
fn relative_paths_are_found_from_another_folder() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(sample_model(), dir.path().join("net.onnx")).unwrap();
    let args = ["compress", "net.onnx", "--data", "mnist-10k", "--bits", "2", "--iterations-per-round", "1"];
    let rest = ["--train-subset", "::20", "--test-subset", "::20", "--run-dir", "run", "-o", "small.onnx"];
    let done = slq().args(args).args(rest).current_dir(dir.path()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let out = dir.path().join("small.onnx");
    let expected = std::fs::read(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let resumed = slq().args(["resume", &path(&dir, "run")]).current_dir(elsewhere.path()).output().unwrap();
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    assert_eq!(std::fs::read(&out).unwrap(), expected);
}

#[test]
fn what_was_detected_is_kept_for_a_job_that_goes_on_and_looked_for_again_by_a_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let [weights, net, out, run_dir] = ["l.caffemodel", "l.prototxt", "o.onnx", "r"].map(|n| path(&dir, n));
    run(&["convert", &sample_model(), "-o", &weights]);
    let data = ["--data", "mnist-10k", "--train-subset", "::20", "--test-subset", "::20"];
    let job = ["compress", &net, "--weights", &weights, "--bits", "2", "--iterations-per-round", "1"];
    let said = |args: &[&str]| String::from_utf8(run(args).stderr).unwrap();
    let first = said(&[&job[..], &data, &["--run-dir", &run_dir, "-o", &out]].concat());
    assert!(first.contains("preprocessing detected: 0 to 1") && first.contains("of 400 training"), "{first}");
    let expected = std::fs::read(&out).unwrap();

    // What the file says is said, so nothing was looked for.
    let recipe = Path::new(&run_dir).join("recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap();
    assert!(text.contains("[data.detected]\nname = \"0 to 1\"\nimages = 400\n"), "{text}");
    std::fs::write(&recipe, text.replace("images = 400\n", "images = 77\n")).unwrap();
    std::fs::remove_file(&out).unwrap();
    let resumed = said(&["resume", &run_dir]);
    assert!(resumed.contains("detected: 0 to 1") && resumed.contains("of 77 training"), "{resumed}");
    assert!(std::fs::read(&out).unwrap() == expected);

    let [again, other] = ["p.onnx", "q"].map(|n| path(&dir, n));
    let made_again =
        said(&["compress", "--recipe", &recipe.display().to_string(), "--run-dir", &other, "-o", &again]);
    assert!(made_again.contains("of 400 training"), "{made_again}");
    assert!(std::fs::read(&again).unwrap() == expected);
}

#[test]
fn two_jobs_in_one_directory_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [out, other, run_dir] = ["o.onnx", "p.onnx", "r"].map(|n| path(&dir, n));
    let (_, job, wait_for) = JOBS[0];
    let mut child = under_way(job, &run_dir, &out, wait_for);
    let said = fails(&["resume", &run_dir], 1);
    assert!(said.contains("another process"), "{said}");
    let again = arguments(job, &run_dir, &other);
    let said = fails(&again.iter().map(String::as_str).collect::<Vec<_>>(), 1);
    assert!(said.contains("already holds a run"), "{said}");
    child.kill().unwrap();
    child.wait().unwrap();
    run(&["resume", &run_dir]);
    assert!(Path::new(&out).exists() && !Path::new(&other).exists());
}

#[test]
fn eight_starts_at_once_in_one_directory_make_one_job() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = path(&dir, "r");
    let start = |i: usize| {
        let args = ["compress", &sample_model(), "--data", "mnist-10k", "--bits", "2"].map(String::from);
        let out = path(&dir, &format!("{i}.onnx"));
        let rest =
            ["--iterations-per-round", "1", "--train-subset", "::20", "--run-dir", &run_dir, "-o", &out];
        slq().args(args).args(rest).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let children: Vec<Child> = (0..8).map(start).collect();
    let done: Vec<bool> = children.into_iter().map(|mut c| c.wait().unwrap().success()).collect();
    let written: Vec<bool> = (0..8).map(|i| Path::new(&path(&dir, &format!("{i}.onnx"))).exists()).collect();
    assert_eq!(done.iter().filter(|d| **d).count(), 1, "{done:?}");
    assert_eq!(done, written);
}

#[test]
fn a_swapped_round_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let [out, run_dir] = ["o.onnx", "r"].map(|n| path(&dir, n));
    let job: &[&str] =
        &["compress", "MODEL", "--codebook-size", "9", "--schedule", "3,6,9", "--iterations-per-round", "3"];
    run(&arguments(job, &run_dir, &out).iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::remove_file(&out).unwrap();
    let stage = Path::new(&run_dir).join("1-quantize");
    for (from, to) in [("round-1", "round-3"), ("round-3", "round-1")] {
        let [from, to] = [from, to].map(|n| stage.join(format!("{n}.safetensors")));
        let kept = std::fs::read(&to).unwrap();
        std::fs::copy(from, &to).unwrap();
        let said = fails(&["resume", &run_dir], 1);
        assert!(said.contains(to.file_name().unwrap().to_str().unwrap()) && said.contains("hash"), "{said}");
        assert!(!Path::new(&out).exists());
        std::fs::write(&to, kept).unwrap();
    }
    run(&["resume", &run_dir]);
    assert!(Path::new(&out).exists());
}

#[test]
fn a_job_that_fails_before_its_first_checkpoint_leaves_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let diverges = |rest: &[&str]| {
        let args = [
            "compress",
            &sample_model(),
            "--data",
            "mnist-10k",
            "--train-subset",
            "::20",
            "--test-subset",
            "::20",
        ]
        .map(String::from);
        let job = ["--bits", "2", "--iterations-per-round", "3", "-o", "o.onnx"];
        let output = slq().args(args).args(job).args(rest).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("diverged"), "{said}");
    };
    diverges(&["--lr", "1e30"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    diverges(&["--lr", "1e30", "--run-dir", "mine/run"]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // What was there before stays, and so does what holds a checkpoint: the network fine-tuned before the rounds.
    std::fs::create_dir(dir.path().join("there")).unwrap();
    diverges(&["--lr", "1e30", "--run-dir", "there"]);
    assert!(dir.path().join("there/recipe.toml").exists());
    let recipe = "[[stages]]\n[stages.fine-tune.training]\nlength = { iterations = 1 }\n[[stages]]\n[stages.quantize]\n\
                  bits = 2\nslq.training.lr = 1e30\nslq.training.length = { iterations = 3 }\n";
    std::fs::write(dir.path().join("r.toml"), recipe).unwrap();
    let args =
        ["compress", &sample_model(), "--data", "mnist-10k", "--train-subset", "::20", "--recipe", "r.toml"];
    let output = slq().args(args).args(["-o", "o.onnx"]).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(dir.path().join("slq-runs/lenet_mnist10k/1-fine-tune/network.safetensors").exists());
}
