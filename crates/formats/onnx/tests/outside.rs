//! Models whose weights lie in a file beside them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use slq_graph::{DType, Dim, Graph, Node, Palette, Tensor, TensorData, ValueInfo, Weight};
use slq_onnx::{Data, OnnxError, WriteOptions};

const BESIDE: WriteOptions = WriteOptions { dense: false, blocked: false, data: Data::Beside };

/// A product with a weight of `rows` times 64 values that depend on `seed`, one of 1 KiB, a small bias and a table of 8-bit integers.
fn network(rows: usize, seed: usize) -> Graph {
    let mut graph = Graph { name: "net".into(), ..Graph::default() };
    graph.metadata.opset = 17;
    let value = |name: &str, shape: [usize; 2]| {
        let shape = Some(shape.map(Dim::Known).to_vec());
        ValueInfo { name: name.into(), dtype: DType::F32, shape }
    };
    graph.inputs = vec![value("x", [2, rows])];
    graph.outputs = vec![value("y", [2, 4]), value("t", [500, 4])];
    let floats = |shape: &[usize]| {
        let count = shape.iter().product();
        Tensor::f32(shape.to_vec(), (0..count).map(|i| ((i * 7 + seed) % 13) as f32 - 6.0).collect()).unwrap()
    };
    let bytes = TensorData::Raw(DType::I8, (0..2000u32).map(|i| i as u8).collect());
    for (name, tensor) in [
        ("w", floats(&[rows, 64])),
        ("v", floats(&[64, 4])),
        ("b", floats(&[4])),
        ("table", Tensor::new(vec![500, 4], bytes).unwrap()),
        ("scale", Tensor::f32(vec![], vec![0.5]).unwrap()),
    ] {
        graph.weights.insert(name.into(), tensor.into());
    }
    graph.nodes = vec![
        Node::new("first", "MatMul", &["x", "w"], &["h"]),
        Node::new("second", "Gemm", &["h", "v", "b"], &["y"]),
        Node::new("floats", "DequantizeLinear", &["table", "scale"], &["t"]),
    ];
    graph
}

fn palettized(mut graph: Graph) -> Graph {
    let weight = &mut graph.weights["w"];
    let codes = weight.tensor.as_f32().unwrap().iter().map(|v| (v + 6.0) as u8).collect();
    let palette = Palette::fully_fixed((0..13).map(|i| i as f32 - 6.0).collect(), 1, codes).unwrap();
    *weight = Weight { palette: Some(palette), ..Weight::from(weight.tensor.clone()) };
    graph
}

fn files(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// Runs pairs of models with onnxruntime, where there is one, and compares their outputs.
fn compare(pairs: &[PathBuf]) {
    let Ok(python) = std::env::var("SLQ_PYTHON") else {
        let why = "skipped the part with onnxruntime: SLQ_PYTHON names no interpreter that has it";
        writeln!(std::io::stderr(), "{why}").expect("standard error is there");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/same_outputs.py");
    let output = Command::new(python).arg(script).args(pairs).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn large_tensors_lie_beside_the_model_and_all_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut pairs = Vec::new();
    for (name, graph) in [("dense", network(100, 1)), ("codes", palettized(network(100, 1)))] {
        let [model, whole] = ["", "-whole"].map(|end| folder.path().join(format!("{name}{end}.onnx")));
        let written = slq_onnx::write(&graph, &model, &BESIDE).unwrap();
        let data = folder.path().join(format!("{name}.onnx.data"));
        assert_eq!((written.data.as_ref(), written.unused.len()), (Some(&data), 0));
        let sizes = [&model, &data].map(|f| f.metadata().unwrap().len());
        assert_eq!(written.bytes, sizes[0] + sizes[1]);
        // The table begins at the first multiple of 4096 behind the weight. 1 KiB and less stays in the model.
        let first: u64 = if name == "dense" { 25_600 } else { 3_200 };
        assert_eq!(sizes[1], first.next_multiple_of(4096) + 2000, "{name}");
        assert!(slq_onnx::read(&model).unwrap() == graph, "{name}");
        let inside = slq_onnx::write(&graph, &whole, &WriteOptions::default()).unwrap();
        assert_eq!(inside.data, None);
        pairs.extend([whole, model]);
    }
    assert!(files(folder.path()).iter().all(|f| f.contains(".onnx")), "nothing else is left");
    compare(&pairs);
}

#[test]
fn an_old_pair_stays_usable_until_the_new_one_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let [model, copy] = ["a.onnx", "copy.onnx"].map(|n| folder.path().join(n));
    slq_onnx::write(&network(10, 1), &model, &BESIDE).unwrap();
    std::fs::copy(&model, &copy).unwrap();
    // A graph that does not read back: its palette does not give its values.
    let mut wrong = palettized(network(10, 2));
    wrong.weights["w"].tensor.as_f32_mut().unwrap()[0] += 1.0;
    let error = slq_onnx::write(&wrong, &model, &BESIDE).unwrap_err();
    assert!(error.to_string().contains("does not read back"), "{error}");
    assert_eq!(files(folder.path()), ["a.onnx", "a.onnx.data", "copy.onnx"]);
    assert!(slq_onnx::read(&model).unwrap() == network(10, 1));

    let second = slq_onnx::write(&network(10, 2), &model, &BESIDE).unwrap();
    assert_eq!(second.data, Some(folder.path().join("a.onnx.2.data")));
    assert_eq!(second.unused, [folder.path().join("a.onnx.data")]);
    assert!(slq_onnx::read(&model).unwrap() == network(10, 2));
    assert_eq!(
        slq_onnx::read(&copy).unwrap(),
        network(10, 1),
        "data that another model uses are not touched"
    );
    let third = slq_onnx::write(&network(10, 3), &model, &BESIDE).unwrap();
    assert_eq!((third.data, third.unused.len()), (Some(folder.path().join("a.onnx.3.data")), 2));
}

#[test]
fn a_model_without_large_tensors_has_no_data_file() {
    let folder = tempfile::tempdir().unwrap();
    let mut graph = network(2, 1);
    graph.weights["table"] = Tensor::new(vec![2], TensorData::Raw(DType::I8, vec![1, 2])).unwrap().into();
    let written = slq_onnx::write(&graph, folder.path().join("a.onnx"), &BESIDE).unwrap();
    assert_eq!(written.data, None);
    assert_eq!(files(folder.path()), ["a.onnx"]);
}

#[cfg(unix)]
#[test]
fn a_link_gets_its_data_beside_what_it_names_and_a_device_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let [real, link] = ["real", "link"].map(|n| folder.path().join(n));
    std::fs::create_dir(&real).unwrap();
    std::fs::write(real.join("net.onnx"), "old").unwrap();
    std::os::unix::fs::symlink(real.join("net.onnx"), &link).unwrap();
    let written = slq_onnx::write(&network(10, 1), &link, &BESIDE).unwrap();
    assert_eq!(written.data.unwrap().file_name().unwrap(), "net.onnx.data");
    assert_eq!(files(&real), ["net.onnx", "net.onnx.data"]);
    assert!(slq_onnx::read(&link).unwrap() == network(10, 1));
    let error = slq_onnx::write(&network(10, 1), "/dev/null", &BESIDE).unwrap_err();
    assert!(
        matches!(&error, OnnxError::File { source, .. } if matches!(**source, OnnxError::NotAFile)),
        "{error}"
    );
}

/// Takes 5 GB of memory and 3 GB of disk.
#[test]
#[ignore = "large: cargo test -p slq-onnx --test outside -- --ignored"]
fn more_than_two_gibibytes_are_written_and_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.onnx");
    let mut graph = network(10, 1);
    let count = (1usize << 31) + 4096;
    let bytes = TensorData::Raw(DType::I8, (0..count).map(|i| (i % 251) as u8).collect());
    graph.weights["table"] = Tensor::new(vec![count / 4, 4], bytes).unwrap().into();
    let inside = WriteOptions { data: Data::Inside, ..WriteOptions::default() };
    let error = slq_onnx::write(&graph, &path, &inside).unwrap_err();
    assert!(error.to_string().contains("exceeds the 2 GiB"), "{error}");
    assert!(files(folder.path()).is_empty());
    // What is written is read back and compared by the writer.
    let written = slq_onnx::write(&graph, &path, &WriteOptions::default()).unwrap();
    assert!(written.bytes > count as u64 && path.metadata().unwrap().len() < 1 << 20);
    drop(graph);
    let back = slq_onnx::read(&path).unwrap();
    let TensorData::Raw(_, bytes) = back.weights["table"].tensor.data() else {
        panic!("not what was written")
    };
    assert!(bytes.len() == count && bytes.iter().enumerate().all(|(i, &b)| b == (i % 251) as u8));
}
