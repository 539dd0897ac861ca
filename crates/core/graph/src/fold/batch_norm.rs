//! Batch-norm folded into the layer before it.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, Weight};
use crate::node::{Attribute, Node};
use crate::tensor::{Tensor, element_count};

/// Folds each `BatchNormalization` with constant statistics into the `Conv`, `ConvTranspose` or `Gemm` whose
/// output it alone reads: weights and biases are scaled, the node goes, and so do its parameters unless another node
/// reads them. Returns how many nodes went.
///
/// For inference only. A layer is left alone when its weight carries a palette (scaling each channel would take
/// the values off their codebook) or when another node reads its weight or bias. Computed in 64-bit floats.
pub fn fold_batch_norms(graph: &mut Graph) -> usize {
    // The counts of before: the graph changes meanwhile.
    let reads: HashMap<String, usize> = graph.reads().into_iter().map(|(v, n)| (v.to_string(), n)).collect();
    let mut writers: HashMap<String, usize> = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        writers.extend(node.outputs.iter().map(|v| (v.clone(), i)));
    }
    let mut gone = vec![false; graph.nodes.len()];
    for (i, gone) in gone.iter_mut().enumerate() {
        let node = &graph.nodes[i];
        if node.op != "BatchNormalization" || !node.domain.is_empty() || node.int("training_mode", 0) != 0 {
            continue;
        }
        let layer = node.input(0).filter(|v| reads[*v] == 1).and_then(|v| writers.get(v)).copied();
        let Some(layer) = layer else { continue };
        if let Some(change) = Change::plan(graph, layer, i, &reads) {
            change.apply(graph, layer, i);
            *gone = true;
        }
    }
    remove(graph, &gone)
}

/// Removes the batch-norms marked in `gone`, and those of their parameters that nothing reads any more.
fn remove(graph: &mut Graph, gone: &[bool]) -> usize {
    let (mut parameters, mut at) = (HashSet::new(), 0);
    graph.nodes.retain(|node| {
        let goes = gone[at];
        at += 1;
        if goes {
            parameters.extend(node.inputs.iter().skip(1).cloned());
        }
        !goes
    });
    if !graph.nodes.iter().any(Node::may_hold_subgraph) {
        let reads = graph.reads();
        parameters.retain(|name| !reads.contains_key(name.as_str()));
        graph.weights.retain(|name, _| !parameters.contains(name));
        graph.inputs.retain(|input| !parameters.contains(&input.name));
    }
    gone.iter().filter(|&&g| g).count()
}

/// y = scale * x + shift for each channel.
pub(super) struct Affine {
    pub(super) scale: Vec<f64>,
    pub(super) shift: Vec<f64>,
}

impl Affine {
    pub(super) fn of(graph: &Graph, node: &Node) -> Option<Self> {
        let vector = |i: usize| {
            let weight = graph.weights.get(node.input(i)?)?;
            (weight.tensor.shape().len() == 1).then(|| weight.tensor.as_f32())?
        };
        let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
        if [beta.len(), mean.len(), variance.len()] != [gamma.len(); 3] {
            return None;
        }
        let epsilon = f64::from(node.float("epsilon", 1e-5));
        let spread = variance.iter().map(|&v| (f64::from(v) + epsilon).sqrt());
        let scale: Vec<f64> = gamma.iter().zip(spread).map(|(&g, s)| f64::from(g) / s).collect();
        let terms = scale.iter().zip(mean.iter().zip(beta));
        let shift: Vec<f64> = terms.map(|(s, (&m, &b))| f64::from(b) - f64::from(m) * s).collect();
        scale.iter().chain(&shift).all(|v| v.is_finite()).then_some(Self { scale, shift })
    }
}

struct Change {
    weight: String,
    weight_values: Vec<f32>,
    /// Name and values of the bias afterwards.
    bias: (String, Vec<f32>),
}

impl Change {
    fn plan(graph: &Graph, layer: usize, norm: usize, reads: &HashMap<String, usize>) -> Option<Self> {
        let (node, affine) = (&graph.nodes[layer], Affine::of(graph, &graph.nodes[norm])?);
        if !node.domain.is_empty() {
            return None;
        }
        let channels = affine.scale.len();
        let own = |name: &str| {
            let weight = graph.weights.get(name)?;
            let free = reads.get(name) == Some(&1) && weight.palette.is_none();
            if free { weight.tensor.as_f32().map(|v| (weight.tensor.shape(), v)) } else { None }
        };
        let weight = node.input(1)?;
        let (shape, values) = own(weight)?;
        let channel = channel_of(node, shape)?;
        if (0..values.len()).any(|i| channel(i) >= channels) {
            return None;
        }
        let scaled = values.iter().enumerate();
        let weight_values = scaled.map(|(i, &v)| (f64::from(v) * affine.scale[channel(i)]) as f32).collect();
        let (name, old) = match node.input(2) {
            None => (graph.free_name(&format!("{weight}.bias")), vec![0.0; channels]),
            Some(name) => {
                let beta = if node.op == "Gemm" { f64::from(node.float("beta", 1.0)) } else { 1.0 };
                let (_, values) =
                    own(name).filter(|(s, v)| s.len() <= 1 && (v.len() == channels || v.len() == 1))?;
                let at = |c: usize| f64::from(values[if values.len() == 1 { 0 } else { c }]);
                (name.to_string(), (0..channels).map(|c| beta * at(c)).collect())
            }
        };
        let terms = old.iter().zip(affine.scale.iter().zip(&affine.shift));
        let bias = terms.map(|(old, (scale, shift))| (old * scale + shift) as f32).collect();
        Some(Self { weight: weight.to_string(), weight_values, bias: (name, bias) })
    }

    fn apply(self, graph: &mut Graph, layer: usize, norm: usize) {
        if let Some(values) = graph.weights.get_mut(&self.weight).and_then(|w| w.tensor.as_f32_mut()) {
            values.copy_from_slice(&self.weight_values);
        }
        let (name, values) = self.bias;
        if let Ok(tensor) = Tensor::f32(vec![values.len()], values) {
            let rates = graph.weights.get(&name).map(|w| w.rates).unwrap_or_default();
            graph.weights.insert(name.clone(), Weight { rates, ..tensor.into() });
        }
        let outputs = std::mem::take(&mut graph.nodes[norm].outputs);
        let node = &mut graph.nodes[layer];
        node.outputs = outputs.into_iter().take(1).collect();
        node.inputs.resize(3, String::new());
        node.inputs[2] = name;
        if node.op == "Gemm" {
            node.attributes.insert("beta".into(), Attribute::Float(1.0));
        }
    }
}

/// The output channel that each element of the layer's weight belongs to.
fn channel_of(node: &Node, shape: &[usize]) -> Option<Box<dyn Fn(usize) -> usize>> {
    let rest = |axes: usize| element_count(&shape[axes..]).unwrap_or(usize::MAX).max(1);
    match (node.op.as_str(), shape) {
        ("Conv", [_, _, _, ..]) => {
            let run = rest(1);
            Some(Box::new(move |i| i / run))
        }
        ("ConvTranspose", &[inputs, per_group, _, ..]) => {
            let groups = usize::try_from(node.int("group", 1)).ok().filter(|&g| g > 0 && inputs % g == 0)?;
            let (kernel, share) = (rest(2), (inputs / groups).max(1));
            Some(Box::new(move |i| {
                let (input, output) = (i / (kernel * per_group), i / kernel % per_group);
                input / share * per_group + output
            }))
        }
        ("Gemm", &[_, columns]) if columns > 0 => {
            let transposed = node.int("transB", 0) != 0;
            Some(Box::new(move |i| if transposed { i / columns } else { i % columns }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Palette, ValueInfo};

    fn graph(layer: Node, weights: &[(&str, &[usize])]) -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) as f32 / (1 << 24) as f32 + 0.25
        };
        let vector = |n: &'static str| (n, &[4usize][..]);
        let all = weights.iter().copied().chain(["g", "b", "m", "v"].map(vector));
        let weights = all.map(|(n, shape)| {
            let values = (0..shape.iter().product::<usize>()).map(|_| next()).collect();
            (n.to_string(), Tensor::f32(shape.to_vec(), values).unwrap().into())
        });
        Graph {
            inputs: vec![value("x")],
            outputs: vec![value("y")],
            weights: weights.collect(),
            nodes: vec![layer, Node::new("n", "BatchNormalization", &["h", "g", "b", "m", "v"], &["y"])],
            ..Graph::default()
        }
    }

    fn values<'a>(graph: &'a Graph, name: &str) -> &'a [f32] {
        graph.weights[name].tensor.as_f32().unwrap()
    }

    /// The network's outputs for a single position: every layer here is a matrix then. `entry(i, o)` is the
    /// position in the weight of what leads from input i to output o.
    fn run(graph: &Graph, x: &[f32], entry: &dyn Fn(usize, usize) -> Option<usize>) -> Vec<f64> {
        let layer = &graph.nodes[0];
        let (alpha, beta) = (f64::from(layer.float("alpha", 1.0)), f64::from(layer.float("beta", 1.0)));
        let w = values(graph, "w");
        let channel = |o: usize| {
            let at = |i: usize| entry(i, o).map_or(0.0, |p| f64::from(w[p]));
            let sum: f64 = x.iter().enumerate().map(|(i, &x)| f64::from(x) * at(i)).sum();
            let bias = layer.input(2).map_or(0.0, |b| f64::from(values(graph, b)[o]));
            let mut y = alpha * sum + beta * bias;
            if let Some(norm) = graph.nodes.get(1) {
                let at = |n: &str| f64::from(values(graph, n)[o]);
                let epsilon = f64::from(norm.float("epsilon", 1e-5));
                y = (y - at("m")) / (at("v") + epsilon).sqrt() * at("g") + at("b");
            }
            y
        };
        (0..4).map(channel).collect()
    }

    #[test]
    fn the_network_computes_the_same_afterwards() {
        type Entry = Box<dyn Fn(usize, usize) -> Option<usize>>;
        let gemm = |t: i64| {
            let node = Node::new("l", "Gemm", &["x", "w", "c"], &["h"]).with("transB", Attribute::Int(t));
            node.with("alpha", Attribute::Float(0.5)).with("beta", Attribute::Float(2.0))
        };
        let grouped = |op: &str| Node::new("l", op, &["x", "w"], &["h"]).with("group", Attribute::Int(2));
        let bias = ("c", &[4usize][..]);
        let cases: Vec<(Graph, usize, Entry)> = vec![
            (graph(gemm(0), &[("w", &[3, 4]), bias]), 3, Box::new(|i, o| Some(i * 4 + o))),
            (graph(gemm(1), &[("w", &[4, 3]), bias]), 3, Box::new(|i, o| Some(o * 3 + i))),
            (
                graph(Node::new("l", "Conv", &["x", "w", "c"], &["h"]), &[("w", &[4, 3, 1, 1]), bias]),
                3,
                Box::new(|i, o| Some(o * 3 + i)),
            ),
            (
                graph(grouped("Conv"), &[("w", &[4, 3, 1, 1])]),
                6,
                Box::new(|i, o| (i / 3 == o / 2).then(|| o * 3 + i % 3)),
            ),
            (
                graph(grouped("ConvTranspose"), &[("w", &[6, 2, 1, 1])]),
                6,
                Box::new(|i, o| (i / 3 == o / 2).then(|| i * 2 + o % 2)),
            ),
        ];
        for (mut graph, inputs, entry) in cases {
            let x: Vec<f32> = (0..inputs).map(|i| 1.0 - 0.37 * i as f32).collect();
            let before = run(&graph, &x, &entry);
            assert_eq!(fold_batch_norms(&mut graph), 1, "{:?}", graph.nodes[0]);
            assert_eq!((graph.nodes.len(), graph.nodes[0].outputs[0].as_str()), (1, "y"));
            assert!(!["g", "b", "m", "v"].iter().any(|n| graph.weights.contains_key(*n)), "parameters stay");
            for (a, b) in before.iter().zip(run(&graph, &x, &entry)) {
                assert!((a - b).abs() < 1e-6, "{a} {b}: {:?}", graph.nodes[0]);
            }
        }
    }

    #[test]
    fn palettes_and_shared_weights_are_left_alone() {
        let conv = || Node::new("l", "Conv", &["x", "w"], &["h"]);
        let mut palettized = graph(conv(), &[("w", &[4, 1, 1, 1])]);
        let codebook = values(&palettized, "w").to_vec();
        palettized.weights["w"].palette = Palette::fully_fixed(codebook, 1, vec![0, 1, 2, 3]).ok();
        let mut shared = graph(conv(), &[("w", &[4, 1, 1, 1])]);
        shared.nodes.push(Node::new("k", "Conv", &["y", "w"], &["z"]));
        let mut read_twice = graph(conv(), &[("w", &[4, 1, 1, 1])]);
        read_twice.nodes.push(Node::new("k", "Add", &["y", "h"], &["z"]));
        for mut graph in [palettized, shared, read_twice] {
            let before = graph.clone();
            assert_eq!(fold_batch_norms(&mut graph), 0);
            assert_eq!(graph, before);
        }
    }
}
