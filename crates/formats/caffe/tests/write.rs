//! Written files: read back, in other forms, and by OpenCV.

mod common;

use std::path::Path;
use std::process::Command;

use common::{fixture, shared};
use slq_caffe::{CaffeError, Phase, ReadOptions, Source, WriteOptions, read, write};
use slq_graph::{DType, Dim, Graph, Node, Palette, ValueInfo, infer_shapes, validate};

fn options(prototxt: &Path) -> WriteOptions {
    WriteOptions { prototxt: Some(prototxt.into()), ..WriteOptions::default() }
}

/// The weights that stand for blobs, by name and bits.
fn bits(graph: &Graph) -> Vec<(String, Vec<usize>, Vec<u32>)> {
    let floats = graph.weights.iter().filter_map(|(n, w)| Some((n, &w.tensor, w.tensor.as_f32()?)));
    let mut all: Vec<_> = floats
        .filter(|(_, t, _)| !t.shape().is_empty())
        .map(|(n, t, v)| (n.clone(), t.shape().to_vec(), v.iter().map(|x| x.to_bits()).collect()))
        .collect();
    all.sort();
    all
}

#[test]
fn a_written_net_reads_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (net, model) = (folder.path().join("w.prototxt"), folder.path().join("w.caffemodel"));
    let graph = read(&fixture("wide.prototxt"), None, Phase::Test).unwrap();
    for legacy in [false, true] {
        write(&graph, &model, &WriteOptions { legacy_blobs: legacy, ..options(&net) }).unwrap();
        let back = read(&net, Some(&model), Phase::Test).unwrap();
        assert_eq!(bits(&back), bits(&graph), "legacy blobs: {legacy}");
        assert_eq!(back.outputs, graph.outputs, "what was cut off is no output");
        let again = folder.path().join("again.prototxt");
        write(&back, &folder.path().join("again.caffemodel"), &options(&again)).unwrap();
        let third = read(&again, Some(&folder.path().join("again.caffemodel")), Phase::Test).unwrap();
        assert_eq!((third.nodes, third.outputs), (back.nodes, back.outputs));
    }
    let old = read(&fixture("wide.prototxt"), Some(&model), Phase::Test).unwrap();
    assert_eq!(bits(&old), bits(&graph), "the original prototxt still fits");
}

#[test]
fn the_users_own_layers_are_kept_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (net, model) = (folder.path().join("w.prototxt"), folder.path().join("w.caffemodel"));
    let options = WriteOptions {
        source: Some(Source {
            prototxt: fixture("opaque.prototxt"),
            caffemodel: None,
            options: ReadOptions::new(Phase::Test),
        }),
        ..options(&net)
    };
    let graph = read(&fixture("opaque.prototxt"), None, Phase::Test).unwrap();
    assert!(matches!(write(&graph, &model, &WriteOptions::default()), Err(CaffeError::NoLayer { .. })));
    assert!(!model.exists(), "a failure leaves nothing behind");
    write(&graph, &model, &options).unwrap();
    let back = read(&net, Some(&model), Phase::Test).unwrap();
    assert_eq!(bits(&back), bits(&graph));
    assert_eq!(back.nodes, graph.nodes);
}

#[test]
fn well_known_nets_of_other_origin_are_written() {
    let folder = tempfile::tempdir().unwrap();
    let (net, model) = (folder.path().join("z.prototxt"), folder.path().join("z.caffemodel"));
    for name in ["lenet", "lenet-300-100", "cifar-quick", "resnet20", "googlenet", "mobilenet-v2"] {
        let graph = slq_zoo::build(name, 1).unwrap();
        write(&graph, &model, &options(&net)).unwrap_or_else(|e| panic!("{name}: {e}"));
        let back = read(&net, Some(&model), Phase::Test).unwrap_or_else(|e| panic!("{name}: {e}"));
        validate(&back).unwrap();
        let matrices = |graph: &Graph| {
            let all = graph.quantizable().into_iter();
            let values = all.map(|q| graph.weights[&q.weight].tensor.as_f32().unwrap().to_vec());
            values.collect::<Vec<_>>()
        };
        let kept = |values: &Vec<f32>| values.iter().any(|&v| v != 0.0 && v != 1.0);
        let back_values: Vec<_> = matrices(&back).into_iter().filter(kept).collect();
        assert!(back_values == matrices(&graph), "{name}: the weights differ");
        let input = &graph.inputs[0];
        let shape: Vec<usize> =
            input.shape.iter().flatten().map(|d| if let Dim::Known(d) = d { *d } else { 3 }).collect();
        let out = |graph: &Graph| {
            let shapes = infer_shapes(graph, &[(&graph.inputs[0].name, shape.clone())]).unwrap();
            shapes.get(&graph.outputs[0].name).unwrap().to_vec()
        };
        assert_eq!(out(&back), out(&graph), "{name}");
    }
}

#[test]
fn shared_values_are_written_as_the_centroids() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("w.caffemodel");
    let mut graph = read(&fixture("wide.prototxt"), None, Phase::Test).unwrap();
    let weight = graph.weights.get_mut("ip.weight").unwrap();
    let codes: Vec<u8> = (0..weight.tensor.len()).map(|i| (i % 3) as u8).collect();
    let palette = Palette::fully_fixed(vec![0.0, -0.5, 0.25], 1, codes).unwrap();
    weight.tensor = slq_graph::Tensor::f32(weight.tensor.shape().to_vec(), palette.decode()).unwrap();
    weight.palette = Some(palette);
    write(&graph, &model, &WriteOptions::default()).unwrap();
    let back = read(&fixture("wide.prototxt"), Some(&model), Phase::Test).unwrap();
    assert_eq!(back.weights["ip.weight"].tensor, graph.weights["ip.weight"].tensor);
}

#[test]
fn what_caffe_lacks_is_named_and_nothing_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("w.caffemodel");
    std::fs::write(&model, "precious").unwrap();
    let mut graph = read(&fixture("wide.prototxt"), None, Phase::Test).unwrap();
    let elu = graph.nodes.iter_mut().find(|n| n.name == "elu").unwrap();
    elu.op = "HardSwish".into();
    graph.metadata.opset = 14;
    elu.attributes.clear();
    let error = write(&graph, &model, &WriteOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`elu`") && error.contains("HardSwish"), "{error}");
    assert_eq!(std::fs::read(&model).unwrap(), b"precious");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_product_with_a_vector_has_no_counterpart() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("w.caffemodel");
    let input = |name: &str, shape: &[usize]| ValueInfo {
        name: name.into(),
        dtype: DType::F32,
        shape: Some(shape.iter().map(|&d| Dim::Known(d)).collect()),
    };
    let cases = [(&[3][..], &[1][..], false), (&[2, 3, 2, 2], &[2, 3, 1, 1], true)];
    for (shape, factor, fits) in cases {
        let mut graph = Graph { inputs: vec![input("a", shape), input("b", factor)], ..Graph::default() };
        graph.metadata.opset = 17;
        graph.nodes.push(Node::new("product", "Mul", &["a", "b"], &["y"]));
        graph.outputs.push(ValueInfo { name: "y".into(), dtype: DType::F32, shape: None });
        let written = write(&graph, &model, &WriteOptions::default());
        assert_eq!(written.is_ok(), fits, "{shape:?}: {written:?}");
        if let Err(error) = written {
            let error = error.to_string();
            assert!(error.contains("product") && error.contains("[1] is not one factor"), "{error}");
        }
    }
}

/// Runs `tests/compare.py` on pairs of nets; OpenCV must give the same outputs for both.
fn opencv(test: &str, pairs: &[[&Path; 4]]) {
    let Some(python) = std::env::var_os("SLQ_PYTHON") else {
        eprintln!("skipped {test}: SLQ_PYTHON names no Python with OpenCV");
        return;
    };
    for pair in pairs {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/compare.py");
        let out = Command::new(&python).arg(script).args(pair).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{pair:?}: {said}");
    }
}

#[test]
fn opencv_sees_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let wide = fixture("wide.prototxt");
    let graph = read(&wide, None, Phase::Test).unwrap();
    let (net, model) = (path("w.prototxt"), path("w.caffemodel"));
    write(&graph, &model, &options(&net)).unwrap();
    opencv("opencv_sees_no_difference (wide)", &[[&wide, &model, &net, &model]]);
    let files = (
        shared("opencv_sees_no_difference (LeNet)", "models/lenet_mnist_deploy.prototxt"),
        shared("opencv_sees_no_difference (LeNet)", "models/lenet_mnist.caffemodel"),
    );
    let (Some(lenet), Some(weights)) = files else { return };
    let graph = read(&lenet, Some(&weights), Phase::Test).unwrap();
    let (net, model) = (path("l.prototxt"), path("l.caffemodel"));
    let legacy = WriteOptions { legacy_blobs: true, ..options(&net) };
    for options in [options(&net), legacy] {
        write(&graph, &model, &options).unwrap();
        let pairs = [[&*lenet, &*weights, &*net, &*model], [&*lenet, &*weights, &*lenet, &*model]];
        opencv("opencv_sees_no_difference (LeNet)", &pairs);
    }
}
