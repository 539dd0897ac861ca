//! The LeNet that Caffe itself trained.

mod common;

use common::shared;
use slq_caffe::{Phase, read};
use slq_graph::{Dim, Graph};

fn lenet(test: &str, which: &str) -> Option<Graph> {
    let net = shared(test, "models/lenet_mnist_deploy.prototxt")?;
    let model = shared(test, &format!("models/lenet_{which}.caffemodel"))?;
    Some(read(&net, Some(&model), Phase::Test).unwrap())
}

#[test]
fn lenet_becomes_the_expected_graph() {
    let Some(graph) = lenet("lenet_becomes_the_expected_graph", "mnist") else { return };
    let nodes: Vec<_> = graph.nodes.iter().map(|n| (n.name.as_str(), n.op.as_str())).collect();
    assert_eq!(
        nodes,
        [
            ("conv1", "Conv"),
            ("pool1", "MaxPool"),
            ("conv2", "Conv"),
            ("pool2", "MaxPool"),
            ("ip1.flatten", "Flatten"),
            ("ip1", "Gemm"),
            ("relu1", "Relu"),
            ("ip2", "Gemm"),
            ("prob", "Softmax"),
        ]
    );
    assert_eq!(graph.parameter_count(), 431_080);
    let shapes: Vec<_> = graph.weights.iter().map(|(n, w)| (n.as_str(), w.tensor.shape().to_vec())).collect();
    assert_eq!(shapes[0], ("conv1.weight", vec![20, 1, 5, 5]));
    assert_eq!(shapes[4], ("ip1.weight", vec![500, 800]));
    assert_eq!(shapes[7], ("ip2.bias", vec![10]));
    let input = graph.inputs[0].shape.clone().unwrap();
    assert_eq!(input[0], Dim::Symbol("N".into()));
    assert_eq!(input[1..], [Dim::Known(1), Dim::Known(28), Dim::Known(28)]);
    assert_eq!(graph.outputs[0].name, "prob");
    assert_eq!(graph.weights["conv1.bias"].rates.lr_mult, 2.0);
}

#[test]
fn in_place_layers_get_their_own_values() {
    let Some(graph) = lenet("in_place_layers_get_their_own_values", "fashion_mnist") else { return };
    let relu = graph.nodes.iter().find(|n| n.name == "relu1").unwrap();
    let ip2 = graph.nodes.iter().find(|n| n.name == "ip2").unwrap();
    assert_ne!(relu.inputs[0], relu.outputs[0]);
    assert_eq!(relu.outputs[0], "ip1", "the last version keeps the blob's name");
    assert_eq!(ip2.inputs[0], "ip1");
}
