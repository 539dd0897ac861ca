//! Weights in bodies, recurrent layers, tables and other element types: found, palettized, and run by onnxruntime
//! (tests/make_weight_fixtures.py).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use slq_graph::{DType, Graph, Palette, Tensor, Weight, validate};
use slq_onnx::WriteOptions;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/weights").join(format!("{name}.onnx"))
}

fn found(graph: &Graph) -> Vec<(String, String)> {
    graph.quantizable().into_iter().map(|q| (q.weight, q.node)).collect()
}

/// Puts palettes of `k` centroids of the weight's own type on all quantizable weights.
fn quantize(graph: &mut Graph, k: usize, by_channel: bool) {
    for q in graph.quantizable() {
        let tensor = &graph.weights[&q.weight].tensor;
        let (shape, dtype) = (tensor.shape().to_vec(), tensor.dtype());
        let values = tensor.to_f32().unwrap();
        let groups = if by_channel { shape[0] } else { 1 };
        let scale = values.iter().fold(0f32, |m, v| m.max(v.abs()));
        let step = 2.0 * scale / k as f32;
        let centroid =
            |i: usize| dtype.round((((i % k) as f32 + 0.5) * step - scale) * (1.0 + (i / k) as f32 / 64.0));
        let code = |v: &f32| (((v + scale) / step) as usize).min(k - 1) as u8;
        let book = (0..groups * k).map(centroid).collect();
        let palette = Palette::fully_fixed(book, groups, values.iter().map(code).collect()).unwrap();
        let tensor = Tensor::floats(shape, dtype, palette.decode()).unwrap();
        graph.weights[&q.weight] = Weight { palette: Some(palette), ..Weight::from(tensor) };
    }
}

#[test]
fn weights_of_bodies_are_weights_of_the_network() {
    let graph = slq_onnx::read(fixture("bodies")).unwrap();
    validate(&graph).unwrap();
    let pair = |w: &str, n: &str| (w.to_string(), n.to_string());
    let wanted = [
        pair("choice.W", "else_mm"),
        pair("else_v", "else_mv"),
        pair("choice.W.1", "then_mm"),
        pair("then_v", "then_mv"),
        pair("L", "loop"),
        pair("shared", "loop"),
    ];
    let mut names = found(&graph);
    names.sort();
    let mut sorted = wanted.to_vec();
    sorted.sort();
    assert_eq!(names, sorted);
    // Vectors stay where they are.
    assert!(graph.weights.keys().all(|name| !name.ends_with('b')));
    let again =
        slq_onnx::read_bytes(&slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap()).unwrap();
    assert_eq!(again, graph);
}

#[test]
fn recurrent_layers_tables_and_left_operands_count() {
    let graph = slq_onnx::read(fixture("recurrent")).unwrap();
    let names: Vec<String> = found(&graph).into_iter().map(|(w, _)| w).collect();
    assert_eq!(names, ["lW", "lR", "gW", "gR", "rW", "rR", "E", "left"]);
    for (name, dtype) in
        [("half", DType::F16), ("half_10", DType::F16), ("bfloat", DType::Bf16), ("double", DType::F64)]
    {
        let graph = slq_onnx::read(fixture(name)).unwrap();
        validate(&graph).unwrap();
        assert!(graph.quantizable().iter().all(|q| graph.weights[&q.weight].tensor.dtype() == dtype));
        let wanted: &[&str] = if name == "bfloat" { &["table"] } else { &["table", "w", "left"] };
        let names: Vec<String> = found(&graph).into_iter().map(|(w, _)| w).collect();
        assert_eq!(names, wanted, "{name}");
    }
}

#[test]
fn all_of_them_read_back_and_run_palettized() {
    let folder = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for name in ["bodies", "recurrent", "half", "half_10", "bfloat", "double"] {
        for (k, by_channel) in [(3, false), (16, true), (256, false)] {
            let mut graph = slq_onnx::read(fixture(name)).unwrap();
            quantize(&mut graph, k, by_channel);
            validate(&graph).unwrap();
            let path = |kind: &str| folder.path().join(format!("{name}-{k}-{kind}.onnx"));
            let (dense, packed) = (path("dense"), path("packed"));
            slq_onnx::write(&graph, &dense, &WriteOptions { dense: true, ..Default::default() }).unwrap();
            slq_onnx::write(&graph, &packed, &WriteOptions::default()).unwrap();
            assert_eq!(slq_onnx::read(&packed).unwrap(), graph, "{name} {k}");
            pairs.push((dense, packed));
        }
    }
    let Ok(python) = std::env::var("SLQ_PYTHON") else {
        let why = "skipped the part with onnxruntime: SLQ_PYTHON names no interpreter that has it";
        writeln!(std::io::stderr(), "{why}").expect("standard error is there");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/same_outputs.py");
    let arguments = pairs.iter().flat_map(|(a, b)| [a, b]);
    let output = Command::new(python).arg(script).args(arguments).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_codebook_of_another_type_is_refused() {
    let mut graph = slq_onnx::read(fixture("half")).unwrap();
    quantize(&mut graph, 4, false);
    let bytes = slq_onnx::write_bytes(&graph, &WriteOptions::default()).unwrap();
    let text = br#""dtype":"F16""#;
    let at = bytes.windows(text.len()).position(|w| w == text).unwrap();
    let mut wrong = bytes.clone();
    wrong[at..at + text.len()].copy_from_slice(br#""dtype":"F64""#);
    let error = slq_onnx::read_bytes(&wrong).unwrap_err().to_string();
    assert!(error.contains("type F16, not F64"), "{error}");
}
