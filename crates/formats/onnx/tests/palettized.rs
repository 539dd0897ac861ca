//! Palettized files: size, round trip, and what onnx and onnxruntime make of them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use slq_graph::{Graph, Palette, Weight};
use slq_onnx::{OnnxError, WriteOptions};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// Puts palettes with `k` centroids on the graph's quantizable weights: nearest of `k` spread values, each
/// group's codebook a little different.
fn quantize(graph: &mut Graph, k: usize, groups: impl Fn(&[usize]) -> usize) {
    for name in graph.quantizable().into_iter().map(|q| q.weight) {
        let weight = &graph.weights[&name];
        let shape = weight.tensor.shape().to_vec();
        let values = weight.tensor.as_f32().unwrap();
        let groups = groups(&shape);
        let scale = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let step = 2.0 * scale / k as f32;
        let book = (0..groups * k).map(|i| {
            let (g, c) = (i / k, i % k);
            ((c as f32 + 0.5) * step - scale) * (1.0 + g as f32 / 64.0)
        });
        let code = |v: &f32| (((v + scale) / step) as usize).min(k - 1) as u8;
        let palette =
            Palette::fully_fixed(book.collect(), groups, values.iter().map(code).collect()).unwrap();
        let tensor = slq_graph::Tensor::f32(shape, palette.decode()).unwrap();
        graph.weights[&name] = Weight { palette: Some(palette), ..Weight::from(tensor) };
    }
}

/// Rounds the codebooks of all weights to 16-bit floats.
fn halve(graph: &mut Graph) {
    for weight in graph.weights.values_mut().filter(|w| w.palette.is_some()) {
        let palette = weight.palette.take().map(Palette::with_half_codebooks).unwrap();
        assert!(palette.has_half_codebooks() || palette.groups() == 1);
        let tensor = slq_graph::Tensor::f32(weight.tensor.shape().to_vec(), palette.decode()).unwrap();
        *weight = Weight { palette: Some(palette), ..Weight::from(tensor) };
    }
}

/// Tells of a part that was left out; written to standard error itself, which the test harness does not hide.
fn skipped(test: &str, why: &str) {
    writeln!(std::io::stderr(), "skipped {test}: {why}").expect("standard error is there");
}

/// The interpreter that `SLQ_PYTHON` names; says so where there is none.
fn python(test: &str) -> Option<String> {
    let found = std::env::var("SLQ_PYTHON").ok();
    if found.is_none() {
        skipped(test, "SLQ_PYTHON names no interpreter with onnx and onnxruntime");
    }
    found
}

fn interop(python: &str, pairs: &[(PathBuf, PathBuf)]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop.py");
    let arguments = pairs.iter().flat_map(|(a, b)| [a, b]);
    let output = Command::new(python).arg(script).args(arguments).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Number of codebooks for a weight of a shape.
type Groups = fn(&[usize]) -> usize;

const SIZES: [usize; 12] = [1, 2, 3, 4, 5, 9, 17, 32, 33, 100, 200, 256];

#[test]
fn every_width_reads_back_and_runs() {
    let python = python("every_width_reads_back_and_runs (the part with onnxruntime)");
    let folder = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for opset in [7, 9, 11, 13, 17, 21, 23] {
        let float = slq_onnx::read(fixture(&format!("opset{}.onnx", opset.min(21))));
        let mut float = float.unwrap();
        float.metadata.opset = opset;
        for k in SIZES {
            let kinds: [(&str, Groups); 4] = [
                ("tensor", |_| 1),
                ("channel", |shape| shape[0]),
                ("half", |shape| shape[0]),
                ("run", |shape| shape.iter().product::<usize>() / 6), // not along any axis
            ];
            for (label, groups) in kinds {
                let mut graph = float.clone();
                quantize(&mut graph, k, groups);
                if label == "half" {
                    halve(&mut graph);
                }
                let name = format!("opset{opset}-{k}-{label}");
                let path = |kind: &str| folder.path().join(format!("{name}-{kind}.onnx"));
                let (dense, packed) = (path("dense"), path("packed"));
                slq_onnx::write(&graph, &dense, &WriteOptions { dense: true, ..Default::default() }).unwrap();
                slq_onnx::write(&graph, &packed, &WriteOptions::default()).unwrap();
                assert_eq!(slq_onnx::read(&packed).unwrap(), graph, "{name}");
                let half = std::fs::read(&packed).unwrap().windows(11).any(|w| w == b"\"half\":true");
                assert!(half || label != "half", "{name}");
                let plain = slq_onnx::read(&dense).unwrap();
                assert!(plain.weights.values().all(|w| w.palette.is_none()), "{name}");
                pairs.push((dense, packed));
            }
        }
    }
    if let Some(python) = python {
        interop(&python, &pairs);
    }
}

#[test]
fn a_weight_that_only_subgraphs_read_is_rebuilt_before_them() {
    let mut graph = slq_onnx::read(fixture("subgraph.onnx")).unwrap();
    let palette = Palette::fully_fixed(vec![0.25, 0.5, 1.0], 1, vec![0, 1, 2, 1]).unwrap();
    let tensor = slq_graph::Tensor::f32(vec![4], palette.decode()).unwrap();
    graph.weights["w"] = Weight { palette: Some(palette), ..Weight::from(tensor) };
    let folder = tempfile::tempdir().unwrap();
    let [dense, packed] = ["dense", "packed"].map(|k| folder.path().join(format!("{k}.onnx")));
    slq_onnx::write(&graph, &dense, &WriteOptions { dense: true, ..Default::default() }).unwrap();
    slq_onnx::write(&graph, &packed, &WriteOptions::default()).unwrap();
    assert_eq!(slq_onnx::read(&packed).unwrap(), graph);
    if let Some(python) = python("a_weight_that_only_subgraphs_read_is_rebuilt_before_them") {
        interop(&python, &[(dense, packed)]);
    }
}

#[test]
fn models_of_torch_and_real_networks_run() {
    let test = "models_of_torch_and_real_networks_run";
    let folder = tempfile::tempdir().unwrap();
    let mut sources: Vec<PathBuf> =
        ["script_17", "dynamo_18", "dynamo_20"].iter().map(|n| fixture(&format!("torch_{n}.onnx"))).collect();
    let data = std::env::var("SLQ_DATA").map(PathBuf::from);
    let data = data.unwrap_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared"));
    for name in ["resnet20_cifar10", "mobilenet_v2"] {
        let path = data.join("models").join(format!("{name}.onnx"));
        if path.exists() {
            sources.push(path);
        } else {
            skipped(test, &format!("no {}", path.display()));
        }
    }
    let mut pairs = Vec::new();
    for source in sources {
        let name = source.file_stem().unwrap().to_string_lossy().into_owned();
        let mut graph = slq_onnx::read(&source).unwrap();
        quantize(&mut graph, 17, |_| 1);
        let [dense, packed] = ["dense", "packed"].map(|k| folder.path().join(format!("{name}-{k}.onnx")));
        slq_onnx::write(&graph, &dense, &WriteOptions { dense: true, ..Default::default() }).unwrap();
        let size = slq_onnx::write(&graph, &packed, &WriteOptions::default()).unwrap();
        assert_eq!(slq_onnx::read(&packed).unwrap(), graph, "{name}");
        let (size, limit) = (usize::try_from(size.bytes).unwrap(), allowance(&graph));
        let float = std::fs::metadata(&dense).unwrap().len() as usize;
        let saved: usize =
            quantized(&graph).map(|(n, p)| 4 * n - p.packed_bytes() - p.codebook_bytes()).sum();
        let overhead = (size + saved - float) / quantized(&graph).count();
        eprintln!("{name}: {float} -> {size} bytes (limit {limit}), {overhead} beside the codes of a weight");
        assert!(overhead <= 600, "{name}: {overhead} bytes for each weight");
        // The small ones consist of names for the most part.
        assert!(size <= limit || float < 10_000, "{name}: {size} bytes of {limit}");
        pairs.push((dense, packed));
    }
    if let Some(python) = python(test) {
        interop(&python, &pairs);
    }
}

/// Number of values and palette of each quantized weight.
fn quantized(graph: &Graph) -> impl Iterator<Item = (usize, &Palette)> {
    graph.weights.values().filter_map(|w| Some((w.tensor.len(), w.palette.as_ref()?)))
}

/// Bytes that a palettized file may have: packed codes, codebooks, the other floats and 1 KiB for each
/// quantized weight.
fn allowance(graph: &Graph) -> usize {
    let bytes = |weight: &Weight| match &weight.palette {
        Some(p) => p.packed_bytes() + p.codebook_bytes() + 1024,
        None => 4 * weight.tensor.len(),
    };
    graph.weights.values().map(bytes).sum()
}

#[test]
fn the_file_is_small() {
    for opset in [7, 9, 11, 21] {
        let float = slq_onnx::read(fixture(&format!("opset{opset}.onnx"))).unwrap();
        for k in SIZES {
            for grouped in [false, true] {
                let mut graph = float.clone();
                quantize(&mut graph, k, |shape| if grouped { shape[0] } else { 1 });
                let bytes = slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap();
                let limit = allowance(&graph);
                assert!(bytes.len() <= limit, "opset {opset}, {k} centroids: {} of {limit}", bytes.len());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_palette_reads_back(
        (shape, groups) in (1usize..7, 1usize..7, 1usize..5)
            .prop_flat_map(|(a, b, c)| (Just(vec![a, b * c]), prop::sample::select(vec![1, a, a * b]))),
        book in prop::collection::vec(-1e3f32..1e3, 1..=256),
        seed in prop::collection::vec(any::<u8>(), 6 * 6 * 4),
        opset in slq_onnx::OPSETS,
    ) {
        let count = shape[0] * shape[1];
        let codes = seed[..count].iter().map(|&c| (usize::from(c) % book.len()) as u8).collect();
        let palette = Palette::fully_fixed(book.repeat(groups), groups, codes).unwrap();
        let tensor = slq_graph::Tensor::f32(shape, palette.decode()).unwrap();
        let mut graph = slq_onnx::read(fixture("opset13.onnx")).unwrap();
        graph.metadata.opset = opset;
        graph.weights["fc.w"] = Weight { palette: Some(palette), ..Weight::from(tensor) };
        let bytes = slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap();
        prop_assert_eq!(slq_onnx::read_bytes(&bytes).unwrap(), graph);
    }
}

#[test]
fn a_partly_fixed_palette_is_written_as_floats() {
    let mut graph = slq_onnx::read(fixture("opset13.onnx")).unwrap();
    quantize(&mut graph, 5, |_| 1);
    let weight = graph.weights.get_mut("fc.w").unwrap();
    let p = weight.palette.take().unwrap();
    let mut fixed = p.fixed().to_vec();
    fixed[3] = false;
    let partly = Palette::new(p.codebook().to_vec(), 1, p.codes().to_vec(), fixed).unwrap();
    weight.palette = Some(partly);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partly.onnx");
    slq_onnx::write(&graph, &path, &WriteOptions::default()).unwrap();
    let back = slq_onnx::read(&path).unwrap();
    assert!(back.weights["fc.w"].palette.is_none());
    assert!(back.weights["conv.w"].palette.is_some());
    assert_eq!(back.weights["fc.w"].tensor, graph.weights["fc.w"].tensor);
}

#[test]
fn values_that_are_not_the_palettes_are_not_written() {
    let mut graph = slq_onnx::read(fixture("opset13.onnx")).unwrap();
    quantize(&mut graph, 5, |_| 1);
    graph.weights.get_mut("fc.w").unwrap().tensor.as_f32_mut().unwrap()[0] += 1.0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.onnx");
    std::fs::write(&path, "before").unwrap();
    let error = slq_onnx::write(&graph, &path, &WriteOptions::default()).unwrap_err();
    let OnnxError::File { source, .. } = &error else { panic!("{error}") };
    assert!(matches!(**source, OnnxError::ReadBack { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "before", "the old file stays");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else stays");
}
