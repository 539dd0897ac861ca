//! Statistics that training leaves alone follow what sharing weights shifts.

use slq_compress::{Length, Quantize, Recipe, RunOptions, Silent, TrainingData, run};
use slq_data::{Dataset, Transform};
use slq_engine::BatchNormMode;
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};

/// Two convolutions with batch-norm and a product, for images of 1 x 28 x 28.
fn network() -> Graph {
    let mut graph = Graph::default();
    let mut seed = 1u32;
    let mut add = |name: &str, shape: &[usize], fixed: Option<f32>| {
        let random = |_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            fixed.unwrap_or((seed >> 8) as f32 / (1 << 24) as f32 - 0.5)
        };
        let values = (0..shape.iter().product()).map(random).collect();
        graph.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
    };
    for (layer, shape) in [("c1", [4, 1, 5, 5]), ("c2", [6, 4, 3, 3])] {
        add(layer, &shape, None);
        for (part, value) in [("gamma", 1.0), ("beta", 0.2), ("mean", 0.0), ("var", 1.0)] {
            add(&format!("{layer}.{part}"), &shape[..1], Some(value));
        }
    }
    add("fc", &[10, 6], None);
    add("fc.bias", &[10], Some(0.0));
    let norm = |layer: &str, x: &str, y: &str| {
        let parts = ["gamma", "beta", "mean", "var"].map(|p| format!("{layer}.{p}"));
        Node::new(
            &format!("{layer}.bn"),
            "BatchNormalization",
            &[x, &parts[0], &parts[1], &parts[2], &parts[3]],
            &[y],
        )
    };
    graph.nodes = vec![
        Node::new("c1", "Conv", &["x", "c1"], &["a"]),
        norm("c1", "a", "b"),
        Node::new("r1", "Relu", &["b"], &["c"]),
        Node::new("c2", "Conv", &["c", "c2"], &["d"]),
        norm("c2", "d", "e"),
        Node::new("r2", "Relu", &["e"], &["f"]),
        Node::new("p", "GlobalAveragePool", &["f"], &["g"]),
        Node::new("l", "Flatten", &["g"], &["h"]),
        Node::new("fc", "Gemm", &["h", "fc", "fc.bias"], &["y"]).with("transB", Attribute::Int(1)),
    ];
    let value =
        |name: &str, shape: Vec<Dim>| ValueInfo { name: name.into(), dtype: DType::F32, shape: Some(shape) };
    let batch = || Dim::Symbol("N".into());
    graph.inputs = vec![value("x", vec![batch(), Dim::Known(1), Dim::Known(28), Dim::Known(28)])];
    graph.outputs = vec![value("y", vec![batch(), Dim::Known(10)])];
    graph.metadata.opset = 13;
    graph
}

#[test]
fn frozen_statistics_are_moved_by_what_sharing_shifts_and_by_nothing_else() {
    let sample = Dataset::named("mnist-10k").unwrap();
    let (train, test) = (sample.train.subset("::40").unwrap(), sample.test.subset("::40").unwrap());
    let data =
        TrainingData { train, validation: None, test, transform: Transform::default(), following: None };
    let statistics = |batch_norm: BatchNormMode, correction: bool| {
        let published = Quantize { correction, codebook_size: Some(3), ..Quantize::slq(2) };
        let recipe = Recipe::new(published.training(|t| {
            (t.length, t.learning_rate) = (Length::Iterations(2), 1e-6);
            (t.batch, t.batch_norm) = (16, batch_norm);
        }));
        let done = run(network(), Some(&data), &recipe, RunOptions::default(), &mut Silent).unwrap();
        ["c1.mean", "c1.var", "c2.mean", "c2.var"]
            .map(|n| done.graph.weights[n].tensor.as_f32().unwrap().to_vec())
    };
    let before = ["c1.mean", "c1.var", "c2.mean", "c2.var"]
        .map(|n| network().weights[n].tensor.as_f32().unwrap().to_vec());
    assert_eq!(statistics(BatchNormMode::Frozen, false), before);
    let corrected = statistics(BatchNormMode::Frozen, true);
    // Of what the first layer reads nothing is known.
    assert_eq!(corrected[..2], before[..2]);
    assert!(corrected[2].iter().zip(&before[2]).all(|(c, b)| c != b && (c - b).abs() < 1.0), "{corrected:?}");
    assert!(corrected[3].iter().all(|&v| v != 1.0 && v > 0.2 && v < 2.0), "{corrected:?}");
    // Statistics that follow the images need no correction.
    assert_eq!(statistics(BatchNormMode::Train, true), statistics(BatchNormMode::Train, false));
}
