//! Replaces a layer by two (or pairs of two) that compute its low-rank approximation. They are ordinary nodes, which every
//! format's writer and every runtime knows.
//!
//! Padding, stride and dilation stay with the kernel of their axis, where the split is exact. The first layer of a
//! pair has no bias, so that zeros stay zeros and padding may come after it.

use std::collections::{HashMap, HashSet};

use slq_graph::op::{Padding, Window};
use slq_graph::{Attribute, Graph, Node, Tensor, Weight};
use slq_lowrank::Svd;

use super::layer::{Candidate, Form};
use super::scheme::Scheme;
use crate::error::CompressError;

/// A layer, the decompositions of its matrices and the rank to split it at.
#[derive(Debug)]
pub(crate) struct Split {
    pub layer: Candidate,
    pub decompositions: Vec<Svd>,
    pub rank: usize,
}

/// Replaces the layers of `graph` that `splits` names.
pub(crate) fn apply(graph: &mut Graph, splits: &[Split]) -> Result<(), CompressError> {
    let by_node: HashMap<usize, &Split> = splits.iter().map(|s| (s.layer.node, s)).collect();
    let mut names = Names::of(graph);
    let nodes = std::mem::take(&mut graph.nodes);
    for (index, node) in nodes.into_iter().enumerate() {
        match by_node.get(&index) {
            Some(split) => replace(graph, &mut names, node, split)?,
            None => graph.nodes.push(node),
        }
    }
    Ok(())
}

/// Adds the nodes and weights that take the place of `node`.
fn replace(graph: &mut Graph, names: &mut Names, node: Node, split: &Split) -> Result<(), CompressError> {
    let layer = &split.layer;
    let pairs = layer.view.factors(&split.decompositions, split.rank, layer.outputs_first);
    let mut place = graph.weights.get_index_of(&layer.weight).unwrap_or(graph.weights.len());
    let rates = graph.weights.shift_remove(&layer.weight).map(|w| w.rates).unwrap_or_default();
    graph.inputs.retain(|i| i.name != layer.weight);
    let output = node.outputs[0].clone();
    let several = pairs.len() > 1;
    let mut terms = Vec::new();
    for (t, pair) in pairs.into_iter().enumerate() {
        let number = if several { (t + 1).to_string() } else { String::new() };
        let [reduce, expand] = layer.view.scheme.suffixes().map(|s| format!("{s}{number}"));
        let mut weights = Vec::new();
        for (suffix, (shape, values)) in [&reduce, &expand].into_iter().zip(pair) {
            let name = names.value(&weight_name(&layer.weight, suffix));
            let tensor = Tensor::f32(shape.clone(), values)?;
            graph.weights.shift_insert(place, name.clone(), Weight { rates, ..tensor.into() });
            place += 1;
            weights.push((name, shape));
        }
        let middle = names.value(&format!("{output}.{reduce}"));
        // The node that computes the layer's output keeps its name: the last of two layers, or the sum of the pairs.
        let (last, last_node) = match several {
            true => {
                (names.value(&format!("{output}.{expand}")), names.node(&format!("{}.{expand}", node.name)))
            }
            false => (output.clone(), node.name.clone()),
        };
        let [first, second] = layers(graph, names, &node, layer, &weights, [&middle, &last], t == 0)?;
        graph.nodes.push(Node { name: names.node(&format!("{}.{reduce}", node.name)), ..first });
        graph.nodes.push(Node { name: last_node, ..second });
        terms.push(last);
    }
    if several {
        let inputs: Vec<&str> = terms.iter().map(String::as_str).collect();
        graph.nodes.push(Node::new(&node.name, "Sum", &inputs, &[&output]));
    }
    Ok(())
}

/// The two nodes of a pair, without names. Only one pair may carry the bias.
fn layers(
    graph: &mut Graph,
    names: &mut Names,
    node: &Node,
    layer: &Candidate,
    weights: &[(String, Vec<usize>)],
    [middle, last]: [&str; 2],
    with_bias: bool,
) -> Result<[Node; 2], CompressError> {
    let input = node.inputs[0].as_str();
    let (first, second) = (weights[0].0.as_str(), weights[1].0.as_str());
    let mut into_last = vec![middle, second];
    into_last.extend(node.input(2).filter(|_| with_bias));
    let expand = Node {
        name: String::new(),
        inputs: into_last.iter().map(|s| s.to_string()).collect(),
        outputs: vec![last.into()],
        ..node.clone()
    };
    Ok(match layer.form {
        Form::Conv(window) => {
            let [a, b] = windows(layer.view.scheme, window);
            let groups = if layer.view.scheme == Scheme::Decouple { weights[1].1[0] } else { 1 };
            let reduce = Node::new("", "Conv", &[input, first], &[middle]);
            [convolution(reduce, a, 1), convolution(expand, b, groups)]
        }
        Form::Gemm => {
            let mut inputs = vec![input, first];
            let zero;
            if graph.metadata.opset < 11 {
                // Up to operator set 10 a Gemm has to add something.
                zero = names.value(&format!("{first}.zero"));
                graph.weights.insert(zero.clone(), Tensor::f32(vec![1], vec![0.0])?.into());
                inputs.push(&zero);
            }
            let reduce = Node::new("", "Gemm", &inputs, &[middle]);
            [reduce.with("transB", Attribute::Int(layer.outputs_first.into())), expand]
        }
        Form::MatMul => [Node::new("", "MatMul", &[input, first], &[middle]), expand],
    })
}

/// The windows of the two convolutions that a convolution with `window` is split into.
fn windows(scheme: Scheme, window: Window) -> [Window; 2] {
    let point =
        Window { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], padding: Padding::Explicit([0; 4]) };
    match scheme {
        Scheme::Spatial => [along(window, 0), along(window, 1)],
        Scheme::Decouple => [point, window],
        _ => [window, point],
    }
}

/// The part of a window that belongs to one axis. `SAME` padding is found for each axis by itself and is none for a
/// kernel and stride of 1.
fn along(window: Window, axis: usize) -> Window {
    let keep = |values: [usize; 2]| [0, 1].map(|i| if i == axis { values[i] } else { 1 });
    let padding = match window.padding {
        Padding::Explicit(pads) => {
            Padding::Explicit([0, 1, 2, 3].map(|i| if i % 2 == axis { pads[i] } else { 0 }))
        }
        same => same,
    };
    Window {
        kernel: keep(window.kernel),
        strides: keep(window.strides),
        dilations: keep(window.dilations),
        padding,
    }
}

/// `node` with the attributes of a convolution.
fn convolution(mut node: Node, window: Window, groups: usize) -> Node {
    let ints = |values: &[usize]| Attribute::Ints(values.iter().map(|&v| v as i64).collect());
    node.op = "Conv".into();
    node.attributes.clear();
    node = node
        .with("kernel_shape", ints(&window.kernel))
        .with("strides", ints(&window.strides))
        .with("dilations", ints(&window.dilations))
        .with("group", Attribute::Int(groups as i64));
    match window.padding {
        Padding::Explicit(pads) => node.with("pads", ints(&pads)),
        Padding::SameUpper => node.with("auto_pad", Attribute::String(b"SAME_UPPER".to_vec())),
        Padding::SameLower => node.with("auto_pad", Attribute::String(b"SAME_LOWER".to_vec())),
    }
}

/// `conv1.weight` and `reduce` make `conv1.reduce.weight`.
fn weight_name(weight: &str, suffix: &str) -> String {
    match weight.strip_suffix(".weight") {
        Some(stem) => format!("{stem}.{suffix}.weight"),
        None => format!("{weight}.{suffix}"),
    }
}

/// The names that are taken.
struct Names {
    values: HashSet<String>,
    nodes: HashSet<String>,
}

impl Names {
    fn of(graph: &Graph) -> Self {
        let written = graph.nodes.iter().flat_map(|n| n.inputs.iter().chain(&n.outputs));
        let declared = graph.inputs.iter().chain(&graph.outputs).map(|v| &v.name);
        Self {
            values: written.chain(declared).chain(graph.weights.keys()).cloned().collect(),
            nodes: graph.nodes.iter().map(|n| n.name.clone()).collect(),
        }
    }

    /// `name`, or with the first number that makes it new among values and weights.
    fn value(&mut self, name: &str) -> String {
        fresh(&mut self.values, name)
    }

    /// The same among nodes.
    fn node(&mut self, name: &str) -> String {
        fresh(&mut self.nodes, name)
    }
}

fn fresh(taken: &mut HashSet<String>, name: &str) -> String {
    let mut found = name.to_string();
    for k in 2.. {
        if taken.insert(found.clone()) {
            break;
        }
        found = format!("{name}_{k}");
    }
    found
}
