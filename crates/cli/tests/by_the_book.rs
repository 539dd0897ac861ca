//! The published procedures, short: AlexNet from Caffe's own files through the five rounds of SLQ, and trained rank pruning.

mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{json, path, python, run, sample_model, slq};
use slq::data::{Dataset, Split, write_npz};

const NET: &str = include_str!("../../../examples/alexnet/train_val.prototxt");
const START: &str = include_str!("../../../examples/alexnet/train_solver.prototxt");
const ROUNDS: &str = include_str!("../../../examples/alexnet/solver.prototxt");

/// AlexNet's input.
const SIDE: usize = 227;
const CLASSES: usize = 10;
/// Values of a layer, and how many of them are fixed after each of the published rounds.
const K: usize = 17;
const SCHEDULE: &str = "5,9,13,15,17";
/// Weights alone are 228 MB; 2.2 GB was measured for the start, the values while they move, gradients, momentum, codes,
/// checkpoints on their way to disk and the activations of eight images.
const PEAK_BYTES: u64 = 2_500_000_000;

/// `text` with `from` replaced by `to`, which must be in it.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the example");
    text.replace(from, to)
}

/// Images of noise with a brightness for each class.
fn images(count: usize) -> Split {
    let noise =
        |i: usize| ((i as u32).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(40_503) >> 25) as u8;
    let pixels =
        (0..count * 3 * SIDE * SIDE).map(|i| noise(i) + (12 * (i / (3 * SIDE * SIDE) % CLASSES)) as u8);
    let labels = (0..count).map(|i| (i % CLASSES) as u32).collect();
    Split::from_bytes(pixels.collect(), labels, [3, SIDE, SIDE]).unwrap()
}

/// A folder with Caffe's files of the example, two steps a round on eight images each, and an LMDB.
fn project() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let npz = path(&dir, "images.npz");
    write_npz(&Dataset::of(images(40), images(20)), Path::new(&npz)).unwrap();
    run(&["convert", &npz, &path(&dir, "images.lmdb")]);
    let rounds = changed(&changed(ROUNDS, "max_iter: 10", "max_iter: 2"), "test_iter: 6", "test_iter: 2");
    let start = changed(&changed(START, "max_iter: 60", "max_iter: 2"), "test_iter: 6", "test_iter: 2");
    for (name, text) in [
        ("train_val.prototxt", changed(NET, "batch_size: 16", "batch_size: 8")),
        ("solver.prototxt", rounds),
        ("train_solver.prototxt", start),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// Runs the program with `--json`; returns its report and the largest resident set that was seen while it ran.
fn measured(args: &[&str]) -> (serde_json::Value, u64) {
    let child =
        slq().args(args).args(["--json", "--quiet"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap();
    let status = format!("/proc/{}/status", child.id());
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while let Ok(text) = std::fs::read_to_string(&status) {
            let Some(line) = text.lines().find(|l| l.starts_with("VmHWM:")) else { break };
            let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
            peak = peak.max(kilobytes * 1024);
            std::thread::sleep(Duration::from_millis(20));
        }
        peak
    });
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "slq {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    (serde_json::from_slice(&output.stdout).unwrap(), watcher.join().unwrap())
}

/// The float tensors of a safetensors file with at least two dimensions, by name.
fn matrices(file: &str) -> Vec<(String, Vec<f32>)> {
    let bytes = std::fs::read(file).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, tensor)| {
        *name != "__metadata__" && tensor["dtype"] == "F32" && tensor["shape"].as_array().unwrap().len() > 1
    });
    let values = |tensor: &serde_json::Value| {
        let [start, end] = [0, 1].map(|i| tensor["data_offsets"][i].as_u64().unwrap() as usize);
        data[start..end].as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    };
    tensors.map(|(name, tensor)| (name.clone(), values(tensor))).collect()
}

/// The share of the weights that the published first round fixes, by a plain reading of the paper: ten iterations of
/// Lloyd from the ladder 0, m, -m, m/2, -m/2 .. with the first centroid kept at zero, then the first `fixed` clusters.
fn first_round(layers: &[(String, Vec<f32>)], fixed: usize) -> f64 {
    let (mut taken, mut all) = (0, 0);
    for (_, values) in layers {
        let largest = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let step = |i: usize| f64::from(largest).log2().floor().exp2() / f64::from(1 << ((i - 1) / 2));
        let mut centroids: Vec<f64> = (0..K)
            .map(|i| if i == 0 { 0.0 } else { step(i) * if i % 2 == 1 { 1.0 } else { -1.0 } })
            .collect();
        for _ in 0..10 {
            let mut sums = [(0.0, 0u32); K];
            let codes = nearest(values, &centroids);
            for (&value, &code) in values.iter().zip(&codes) {
                sums[code].0 += f64::from(value);
                sums[code].1 += 1;
            }
            for (centroid, (sum, count)) in centroids.iter_mut().zip(sums).skip(1) {
                *centroid = if count > 0 { sum / f64::from(count) } else { *centroid };
            }
        }
        taken += nearest(values, &centroids).iter().filter(|&&code| code < fixed).count();
        all += values.len();
    }
    taken as f64 / all as f64
}

/// The index of each value's nearest centroid.
fn nearest(values: &[f32], centroids: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..centroids.len()).collect();
    order.sort_by(|&a, &b| centroids[a].total_cmp(&centroids[b]));
    let bounds: Vec<f32> =
        order.windows(2).map(|p| ((centroids[p[0]] + centroids[p[1]]) / 2.0) as f32).collect();
    values.iter().map(|v| order[bounds.partition_point(|b| b < v)]).collect()
}

#[test]
fn alexnet_goes_through_the_published_rounds() {
    let dir = project();
    let [start, start_values, small, small_net] =
        ["alexnet.caffemodel", "alexnet.safetensors", "small.caffemodel", "small.prototxt"]
            .map(|n| path(&dir, n));
    let [net, solver, run_dir] = ["train_val.prototxt", "solver.prototxt", "run"].map(|n| path(&dir, n));
    // The solver's snapshots go below the current folder.
    let train = ["train", "--solver", "train_solver.prototxt", "--quiet", "-o", "alexnet.caffemodel"];
    let trained = slq().args(train).current_dir(dir.path()).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));

    let args =
        ["compress", "--solver", &solver, "--weights", &start, "--codebook-size", "17", "--codebook", "free"];
    let published = [
        "--partition",
        "magnitude",
        "--schedule",
        SCHEDULE,
        "--init",
        "published",
        "--lloyd-iterations",
        "10",
    ];
    let (report, peak) = measured(&[&args[..], &published, &["--run-dir", &run_dir, "-o", &small]].concat());

    // Five rounds of two steps; the first fixes the share that the published procedure fixes.
    let rounds = report["rounds"].as_array().unwrap();
    let fixed: Vec<f64> = rounds.iter().map(|r| r["fixed_fraction"].as_f64().unwrap()).collect();
    assert!(rounds.iter().all(|r| r["iterations"] == 2), "{report}");
    assert_eq!(fixed.len(), 5, "{report}");
    assert!(fixed.is_sorted_by(|a, b| a < b) && fixed[4] == 1.0, "{fixed:?}");
    run(&["convert", &net, "--weights", &start, &start_values]);
    let layers = matrices(&start_values);
    assert_eq!(
        layers.iter().map(|(_, v)| v.len()).sum::<usize>(),
        56_899_616,
        "AlexNet's weights for ten classes"
    );
    let expected = first_round(&layers, 5);
    assert!((fixed[0] - expected).abs() < 1e-4, "round 1 fixes {}, published {expected}", fixed[0]);

    // Seventeen values in every layer, zero among them.
    let inspected = json(&["inspect", &net, "--weights", &small]);
    let weights =
        inspected["layers"].as_array().unwrap().iter().filter(|l| l["shape"].as_array().unwrap().len() > 1);
    let weights: Vec<_> = weights.collect();
    assert_eq!(weights.len(), 8);
    for layer in weights {
        assert!(layer["distinct"] == K && layer["zeros"].as_u64().unwrap() > 0, "{layer}");
    }
    println!("fixed {fixed:?}, peak {} MB", peak / 1_000_000);
    if cfg!(target_os = "linux") {
        assert!(
            peak > 228_000_000,
            "a peak of {peak} bytes is less than the weights take: it was not measured"
        );
        assert!(peak < PEAK_BYTES, "a peak of {peak} bytes");
    }

    // OpenCV computes the same outputs; it knows no layers that compare with labels, so it is given the layers between
    // the data and them.
    let [input, output] = ["x.npy", "y.npy"].map(|n| path(&dir, n));
    let pixels = (0..4 * 3 * SIDE * SIDE)
        .map(|i| (i * 7919 % 255) as f32 - 110.0 + 20.0 * (i / (3 * SIDE * SIDE)) as f32);
    let tensor = slq::graph::Tensor::f32(vec![4, 3, SIDE, SIDE], pixels.collect()).unwrap();
    slq::arrays::write(Path::new(&input), &tensor).unwrap();
    run(&["run", &small_net, "--weights", &small, "--input", &input, "-o", &output]);
    let written = std::fs::read_to_string(&small_net).unwrap();
    let [first, accuracy] = ["conv1", "accuracy"].map(|layer| {
        let found = written.find(&format!("layer {{\n  name: \"{layer}\""));
        found.unwrap_or_else(|| panic!("the net written keeps {layer}"))
    });
    let declared = format!("input: \"data\" input_shape {{ dim: 4 dim: 3 dim: {SIDE} dim: {SIDE} }}\n");
    let deploy = declared + &written[first..accuracy];
    let deploy_net = path(&dir, "deploy.prototxt");
    std::fs::write(&deploy_net, deploy).unwrap();
    python("check_outputs.py", &[&deploy_net, &small, &input, &output]);
}

#[test]
fn trained_rank_pruning_ends_in_an_exact_split() {
    let dir = tempfile::tempdir().unwrap();
    let (model, thin) = (sample_model(), path(&dir, "thin.onnx"));
    let data = ["--data", "mnist-10k", "--train-subset", "0:1280:1", "--test-subset", "0:1000:1"];
    let published = ["--trp", "--trp-period", "5", "--nuclear-weight", "0.0003", "--train-energy", "0.9"];
    let training = ["--iterations", "40", "--lr", "0.005", "--batch", "32", "--energy", "0.9999", "--force"];
    let args = ["decompose", &model, "--scheme", "spatial", "-o", &thin];
    let report = json(&[&args[..], &data, &published, &training].concat());
    assert_eq!(
        (&report["trp"]["iterations"], &report["trp"]["truncations"]),
        (&40.into(), &8.into()),
        "{report}"
    );
    let split: Vec<_> =
        report["layers"].as_array().unwrap().iter().filter(|l| !l["rank"].is_null()).collect();
    assert!(!split.is_empty() && split.iter().all(|l| l["rank"].as_u64() < l["of"].as_u64()), "{report}");
    // The last step truncated, so the thin layers compute what the trained ones did.
    let number = |at: &str, key: &str| report.pointer(at).unwrap()[key].as_f64().unwrap();
    assert_eq!(number("/trp/trained", "top1"), number("/final", "top1"), "{report}");
    let (trained, thin_loss) = (number("/trp/trained", "loss"), number("/final", "loss"));
    assert!((trained - thin_loss).abs() < 1e-5 * trained.max(1e-3), "loss {trained}, split {thin_loss}");
}
