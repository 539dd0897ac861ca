//! At full rank a split network computes what it computed before, through the engine.

use slq_engine::Isa;
use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo, Weight};
use slq_lowrank::RankRule;

use super::*;
use crate::progress::Silent;

/// Numbers in [-1, 1) from a fixed sequence.
struct Numbers(u32);

impl Numbers {
    fn take(&mut self, n: usize) -> Vec<f32> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    }

    fn tensor(&mut self, shape: &[usize]) -> Tensor {
        Tensor::f32(shape.to_vec(), self.take(shape.iter().product())).unwrap()
    }
}

/// A network of `nodes` from `x` to `y`; weights by name and shape.
fn network(opset: i64, input: &[usize], nodes: Vec<Node>, weights: &[(&str, &[usize])]) -> Graph {
    let mut numbers = Numbers(7);
    let dims = input.iter().map(|&d| Dim::Known(d)).collect();
    let value = |name: &str, shape| ValueInfo { name: name.into(), dtype: DType::F32, shape };
    let weights = weights.iter().map(|(n, shape)| (n.to_string(), numbers.tensor(shape).into()));
    let mut graph = Graph {
        inputs: vec![value("x", Some(dims))],
        outputs: vec![value("y", None)],
        nodes,
        weights: weights.collect(),
        ..Graph::default()
    };
    graph.metadata.opset = opset;
    graph
}

fn outputs(graph: &Graph, input: &[usize]) -> Vec<f32> {
    let x = Numbers(3).tensor(input);
    let y = slq_engine::run(graph, &[("x", &x)], Isa::detect()).unwrap();
    y[0].1.as_f32().unwrap().to_vec()
}

/// Every layer split, also the first and those that do not pay.
fn everything(scheme: Scheme, rule: RankRule) -> Decompose {
    let mut settings = Decompose::new(scheme, RankChoice::Rule(rule));
    settings.layers = vec!["*=auto".parse().unwrap()];
    settings.force = true;
    settings
}

fn split(graph: &Graph, settings: &Decompose) -> Decomposed {
    decompose(graph.clone(), settings, context(None), Keepers::default(), &mut Silent).unwrap()
}

fn context(data: Option<&crate::train::TrainingData>) -> crate::context::Context<'_> {
    crate::context::Context { data, ..crate::context::Context::bare() }
}

/// What differs between the network and its split at full rank, if anything.
fn difference(graph: &Graph, input: &[usize], scheme: Scheme) -> Option<String> {
    let done = split(graph, &everything(scheme, RankRule::Rate(1.0)));
    slq_graph::validate(&done.graph).unwrap();
    let (before, after) = (outputs(graph, input), outputs(&done.graph, input));
    let scale = before.iter().fold(1.0f32, |m, v| m.max(v.abs()));
    let worst = before.iter().zip(&after).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / scale;
    // What the report counts is what the new network has.
    let counted = |pick: fn(&LayerRank) -> Change| -> (u64, u64) {
        let changes = done.report.layers.iter().map(pick);
        changes.fold((0, 0), |(a, b), c| (a + c.before, b + c.after))
    };
    let (whole, thin) = counted(|l| l.flops);
    let flops = done.report.flops;
    if before.len() != after.len() || worst > 1e-5 {
        return Some(format!("{worst:e}"));
    }
    if done.report.layers.is_empty() || flops.before - whole + thin != flops.after {
        return Some(format!("{flops:?} against {whole} -> {thin}"));
    }
    None
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

#[test]
fn convolutions_of_every_form_stay_what_they_are() {
    // Kernel, strides, dilations, padding (top, left, bottom, right).
    type Case = ([usize; 2], [i64; 2], [i64; 2], [i64; 4]);
    let cases: &[Case] = &[
        ([3, 3], [1, 1], [1, 1], [1, 1, 1, 1]),
        ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1]),
        ([3, 3], [2, 1], [1, 1], [0, 1, 2, 0]),
        ([3, 3], [1, 3], [1, 1], [0, 0, 0, 0]),
        ([5, 2], [1, 1], [1, 1], [2, 0, 1, 1]),
        ([1, 5], [2, 2], [1, 1], [0, 2, 0, 2]),
        ([4, 1], [3, 1], [1, 1], [3, 0, 0, 0]),
        ([3, 3], [1, 1], [2, 3], [2, 3, 2, 3]),
        ([3, 2], [2, 2], [2, 1], [1, 0, 3, 1]),
        ([7, 7], [2, 2], [1, 1], [3, 3, 3, 3]),
        ([1, 1], [2, 2], [1, 1], [0, 0, 0, 0]),
    ];
    let mut failures = Vec::new();
    for (kernel, strides, dilations, pads) in cases {
        for bias in [false, true] {
            for scheme in [Scheme::Channel, Scheme::Spatial, Scheme::Decouple] {
                let inputs: &[&str] = if bias { &["x", "w", "b"] } else { &["x", "w"] };
                let node = Node::new("conv", "Conv", inputs, &["y"])
                    .with("strides", ints(strides))
                    .with("dilations", ints(dilations))
                    .with("pads", ints(pads));
                let shape = [5, 4, kernel[0], kernel[1]];
                let input = [2, 4, 11, 10];
                let graph = network(13, &input, vec![node], &[("w", &shape), ("b", &[5])]);
                if let Some(what) = difference(&graph, &input, scheme) {
                    failures.push(format!(
                        "{scheme:?} {kernel:?} {strides:?} {dilations:?} {pads:?} {bias}: {what}"
                    ));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn padding_that_follows_the_input_stays_exact() {
    for mode in ["SAME_UPPER", "SAME_LOWER", "VALID"] {
        for (strides, input) in [([1, 1], [1, 3, 9, 8]), ([2, 2], [1, 3, 9, 8]), ([3, 2], [1, 3, 10, 7])] {
            for scheme in [Scheme::Channel, Scheme::Spatial, Scheme::Decouple] {
                let node = Node::new("conv", "Conv", &["x", "w"], &["y"])
                    .with("auto_pad", Attribute::String(mode.into()))
                    .with("strides", ints(&strides));
                let graph = network(13, &input, vec![node], &[("w", &[4, 3, 4, 3])]);
                assert_eq!(difference(&graph, &input, scheme), None, "{mode} {strides:?} {scheme:?}");
            }
        }
    }
}

#[test]
fn batch_norm_and_activation_stay_behind_the_last_layer() {
    let nodes = vec![
        Node::new("c1", "Conv", &["x", "w1"], &["h"]).with("pads", ints(&[1; 4])),
        Node::new("n1", "BatchNormalization", &["h", "g", "b", "m", "v"], &["i"]),
        Node::new("r1", "Relu", &["i"], &["j"]),
        Node::new("c2", "Conv", &["j", "w2"], &["k"]).with("strides", ints(&[2, 2])),
        Node::new("a", "Add", &["k", "k"], &["y"]),
    ];
    let vector = &[6usize][..];
    let weights: [(&str, &[usize]); 6] = [
        ("w1", &[6, 3, 3, 3]),
        ("w2", &[4, 6, 3, 3]),
        ("g", vector),
        ("b", vector),
        ("m", vector),
        ("v", vector),
    ];
    let input = [2, 3, 9, 9];
    let mut graph = network(13, &input, nodes, &weights);
    graph.weights["v"].tensor.as_f32_mut().unwrap().iter_mut().for_each(|v| *v = v.abs() + 0.1);
    for scheme in [Scheme::Channel, Scheme::Spatial, Scheme::Decouple] {
        assert_eq!(difference(&graph, &input, scheme), None, "{scheme:?}");
    }
}

#[test]
fn fully_connected_layers_of_every_form_stay_what_they_are() {
    let gemm =
        |t: i64, inputs: &[&str]| Node::new("fc", "Gemm", inputs, &["y"]).with("transB", Attribute::Int(t));
    let scaled = |node: Node| node.with("alpha", Attribute::Float(0.5)).with("beta", Attribute::Float(2.0));
    let cases: Vec<(Node, [usize; 2], &[usize])> = vec![
        (gemm(1, &["x", "w", "b"]), [7, 9], &[7]),
        (gemm(0, &["x", "w", "b"]), [9, 7], &[7]),
        (scaled(gemm(1, &["x", "w", "b"])), [7, 9], &[1]),
        (scaled(gemm(0, &["x", "w", "b"])), [9, 7], &[7]),
        (Node::new("fc", "MatMul", &["x", "w"], &["y"]), [9, 7], &[7]),
    ];
    for (node, shape, bias) in cases {
        for opset in [9, 13] {
            let graph = network(opset, &[3, 9], vec![node.clone()], &[("w", &shape), ("b", bias)]);
            assert_eq!(difference(&graph, &[3, 9], Scheme::Svd), None, "{node:?} opset {opset}");
        }
    }
    // A Gemm without a third input exists from operator set 11 on.
    let graph = network(11, &[3, 9], vec![gemm(1, &["x", "w"])], &[("w", &[7, 9])]);
    assert_eq!(difference(&graph, &[3, 9], Scheme::Svd), None);
    // A product with more leading axes.
    let node = Node::new("fc", "MatMul", &["x", "w"], &["y"]);
    let graph = network(13, &[2, 3, 9], vec![node], &[("w", &[9, 7])]);
    assert_eq!(difference(&graph, &[2, 3, 9], Scheme::Svd), None);
}

#[test]
fn transposed_data_is_left_whole() {
    let node = Node::new("fc", "Gemm", &["x", "w"], &["y"]).with("transA", Attribute::Int(1));
    let graph = network(13, &[9, 3], vec![node], &[("w", &[9, 7])]);
    let settings = everything(Scheme::Svd, RankRule::Rank(2));
    let error = decompose(graph, &settings, context(None), Keepers::default(), &mut Silent).unwrap_err();
    assert!(error.to_string().contains("transposed"), "{error}");
}

#[test]
fn a_layer_of_low_rank_is_split_without_loss_at_that_rank() {
    let (n, c) = (8, 6);
    let mut numbers = Numbers(5);
    // Rank 2 for `channel`: every filter is a mixture of two.
    let (mix, filters) = (numbers.take(n * 2), numbers.take(2 * c * 9));
    let values: Vec<f32> = (0..n * c * 9)
        .map(|at| (0..2).map(|k| mix[at / (c * 9) * 2 + k] * filters[k * c * 9 + at % (c * 9)]).sum())
        .collect();
    let node = Node::new("conv", "Conv", &["x", "w"], &["y"]);
    let input = [1, c, 7, 7];
    let mut graph = network(13, &input, vec![node], &[("w", &[n, c, 3, 3])]);
    graph.weights["w"].tensor = Tensor::f32(vec![n, c, 3, 3], values).unwrap();
    let done = split(&graph, &everything(Scheme::Channel, RankRule::Energy(1.0)));
    assert_eq!((done.report.layers[0].rank, done.report.layers[0].of), (2, n));
    let pairs = outputs(&graph, &input).into_iter().zip(outputs(&done.graph, &input)).collect::<Vec<_>>();
    assert!(pairs.iter().all(|(a, b)| (a - b).abs() < 1e-4), "{pairs:?}");
}

#[test]
fn names_stay_unique_and_outputs_keep_theirs() {
    let nodes = vec![
        Node::new("a", "Conv", &["x", "w.weight"], &["h"]),
        Node::new("a.reduce", "Relu", &["h"], &["h.reduce"]),
        Node::new("b", "Conv", &["h.reduce", "v"], &["y"]),
    ];
    let weights: [(&str, &[usize]); 3] =
        [("w.weight", &[3, 3, 3, 3]), ("v", &[2, 3, 3, 3]), ("w.reduce.weight", &[1])];
    let graph = network(13, &[1, 3, 9, 9], nodes, &weights);
    let done = split(&graph, &everything(Scheme::Channel, RankRule::Rate(1.0)));
    slq_graph::validate(&done.graph).unwrap();
    let names: Vec<&str> = done.graph.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["a.reduce_2", "a", "a.reduce", "b.reduce", "b"]);
    let weights: Vec<&String> = done.graph.weights.keys().collect();
    assert_eq!(weights, ["w.reduce.weight_2", "w.expand.weight", "v.reduce", "v.expand", "w.reduce.weight"]);
    assert_eq!(done.graph.nodes.last().unwrap().outputs, ["y"]);
}

#[test]
fn rates_go_over_and_palettes_go() {
    let node = Node::new("conv", "Conv", &["x", "w"], &["y"]);
    let mut graph = network(13, &[1, 2, 5, 5], vec![node], &[("w", &[2, 2, 3, 3])]);
    let rates = slq_graph::TrainingRates { lr_mult: 0.5, decay_mult: 2.0 };
    let values = graph.weights["w"].tensor.as_f32().unwrap().to_vec();
    let palette = slq_graph::Palette::fully_fixed(values, 1, (0..36).collect()).unwrap();
    graph.weights["w"] = Weight { rates, palette: Some(palette), ..graph.weights["w"].clone() };
    let done = split(&graph, &everything(Scheme::Spatial, RankRule::Rank(1)));
    assert_eq!(done.graph.weights.len(), 2);
    assert!(done.graph.weights.values().all(|w| w.rates == rates && w.palette.is_none()));
}
