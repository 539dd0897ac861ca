//! Changes to a graph that leave what it computes in evaluation as it is.

mod batchnorm;
mod constants;

use std::collections::{HashMap, HashSet};

pub use batchnorm::fold_batchnorm;
pub use constants::fold_constants;

use crate::graph::Graph;
use crate::node::Node;
use crate::order::live_nodes;

/// Removes the `Dropout` nodes whose mask nobody reads; they do nothing in evaluation. Returns how many.
///
/// A graph output keeps its name; where that leaves no other way, an `Identity` takes the node's place.
pub fn remove_dropout(graph: &mut Graph) -> usize {
    let read: HashSet<String> = read_values(graph).into_iter().map(str::to_string).collect();
    bypass(graph, |node| {
        let mask_read = node.outputs.get(1).is_some_and(|mask| !mask.is_empty() && read.contains(mask));
        node.op == "Dropout" && !mask_read
    })
}

/// Removes the `Identity` nodes. Returns how many; those that tie a graph output to an input, a weight or
/// another output stay.
pub fn remove_identity(graph: &mut Graph) -> usize {
    bypass(graph, |node| node.op == "Identity")
}

/// All values that a node reads or that the graph hands out.
fn read_values(graph: &Graph) -> HashSet<&str> {
    let read = graph.nodes.iter().flat_map(|n| &n.inputs).chain(graph.outputs.iter().map(|o| &o.name));
    read.map(String::as_str).filter(|v| !v.is_empty()).collect()
}

/// What values are called from now on; a new name may itself have been replaced.
#[derive(Default)]
struct Renames(HashMap<String, String>);

impl Renames {
    fn current(&mut self, name: &str) -> String {
        let mut path = vec![name.to_string()];
        while let Some(next) = path.last().and_then(|last| self.0.get(last)) {
            path.push(next.clone());
        }
        let current = path.pop().unwrap_or_default();
        for old in path {
            self.0.insert(old, current.clone()); // long chains are walked once
        }
        current
    }
}

/// Removes the nodes that `idle` picks and lets the readers of their first output read their first input. The
/// nodes must be in execution order.
fn bypass(graph: &mut Graph, idle: impl Fn(&Node) -> bool) -> usize {
    let written: HashSet<String> = graph.nodes.iter().flat_map(|n| n.outputs.iter().cloned()).collect();
    let mut outputs: HashSet<String> = graph.outputs.iter().map(|o| o.name.clone()).collect();
    let mut renames = Renames::default();
    let (mut kept, mut removed) = (Vec::with_capacity(graph.nodes.len()), 0);
    for mut node in std::mem::take(&mut graph.nodes) {
        let ends = (node.inputs.first(), node.outputs.first());
        let (true, (Some(from), Some(to))) = (node.domain.is_empty() && idle(&node), ends) else {
            kept.push(node);
            continue;
        };
        let (current, to) = (renames.current(from), to.clone());
        if current.is_empty() || current == to {
            kept.push(node);
        } else if !outputs.contains(&to) {
            renames.0.insert(to, current);
            removed += 1;
        } else if written.contains(&current) && !outputs.contains(&current) {
            // The name of a graph output stays: the value in front of the node takes it over.
            outputs.insert(to.clone());
            renames.0.insert(current, to);
            removed += 1;
        } else {
            node.op = "Identity".into();
            node.inputs.truncate(1);
            node.outputs.truncate(1);
            node.attributes.clear();
            kept.push(node);
        }
    }
    for node in &mut kept {
        for name in node.inputs.iter_mut().chain(&mut node.outputs) {
            *name = renames.current(name);
        }
    }
    graph.nodes = kept;
    removed
}

/// Makes graph outputs that are the softmax (or log-softmax) over the classes of a value [N, classes] that
/// value itself, since training works on logits. Returns whether there was one.
pub fn strip_trailing_softmax(graph: &mut Graph) -> bool {
    let writers: HashMap<&str, &Node> =
        graph.nodes.iter().flat_map(|n| n.outputs.iter().map(move |o| (o.as_str(), n))).collect();
    let mut logits = Vec::new();
    for (i, output) in graph.outputs.iter().enumerate() {
        let Some(node) = writers.get(output.name.as_str()).filter(|n| n.domain.is_empty()) else { continue };
        // For [N, classes] the axes 1 and -1 are the same, and both defaults are one of them.
        let over_classes = matches!(node.int("axis", 1), 1 | -1);
        if let ("Softmax" | "LogSoftmax", true, Some(name)) = (node.op.as_str(), over_classes, node.input(0))
            && writers.contains_key(name)
        {
            logits.push((i, name.to_string()));
        }
    }
    let stripped = !logits.is_empty();
    for (i, name) in logits {
        graph.outputs[i].name = name;
    }
    if stripped {
        remove_dead_nodes(graph);
    }
    stripped
}

/// Removes the nodes that no graph output needs. The nodes must be in execution order. Returns how many.
pub fn remove_dead_nodes(graph: &mut Graph) -> usize {
    let order: Vec<usize> = (0..graph.nodes.len()).collect();
    let mut live = live_nodes(graph, &order).0.into_iter();
    let before = graph.nodes.len();
    graph.nodes.retain(|_| live.next().unwrap_or(true));
    before - graph.nodes.len()
}

/// Removes the weights that no node reads and that are no graph output. Returns how many.
pub fn prune_unused_weights(graph: &mut Graph) -> usize {
    let read: HashSet<String> = read_values(graph).into_iter().map(str::to_string).collect();
    let unused: HashSet<String> = graph.weights.keys().filter(|n| !read.contains(*n)).cloned().collect();
    graph.weights.retain(|name, _| !unused.contains(name));
    // Files of ONNX's IR version 3 list weights as inputs too.
    graph.inputs.retain(|i| !unused.contains(&i.name));
    unused.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Tensor, ValueInfo};

    fn graph(nodes: Vec<Node>, outputs: &[&str]) -> Graph {
        let value = |n: &&str| ValueInfo { name: n.to_string(), dtype: DType::F32, shape: None };
        let weight = Tensor::f32(vec![1], vec![1.0]).unwrap().into();
        Graph {
            inputs: vec![value(&"x")],
            outputs: outputs.iter().map(value).collect(),
            weights: [("w".to_string(), weight)].into_iter().collect(),
            nodes,
            ..Graph::default()
        }
    }

    /// Operator, inputs and outputs of each node.
    fn show(graph: &Graph) -> Vec<String> {
        let node = |n: &Node| format!("{}({})->{}", n.op, n.inputs.join(","), n.outputs.join(","));
        graph.nodes.iter().map(node).collect()
    }

    #[test]
    fn dropouts_go_and_their_readers_read_on() {
        let mut g = graph(
            vec![
                Node::new("a", "Relu", &["x"], &["h"]),
                Node::new("d1", "Dropout", &["h"], &["i", "mask"]),
                Node::new("d2", "Dropout", &["i"], &["j"]),
                Node::new("b", "Add", &["j", "h"], &["y"]),
            ],
            &["y"],
        );
        assert_eq!(remove_dropout(&mut g), 2);
        assert_eq!(show(&g), ["Relu(x)->h", "Add(h,h)->y"]);
    }

    #[test]
    fn a_dropout_whose_mask_is_read_stays() {
        let mut g = graph(
            vec![
                Node::new("d", "Dropout", &["x"], &["i", "mask"]),
                Node::new("c", "Cast", &["mask"], &["y"]),
            ],
            &["y"],
        );
        assert_eq!(remove_dropout(&mut g), 0);
    }

    #[test]
    fn graph_outputs_keep_their_names() {
        let mut g = graph(
            vec![
                Node::new("a", "Relu", &["x"], &["h"]),
                Node::new("i1", "Identity", &["h"], &["g"]),
                Node::new("i2", "Identity", &["g"], &["y"]),
                Node::new("i3", "Identity", &["h"], &["z"]),
                Node::new("i4", "Identity", &["x"], &["p"]),
                Node::new("i5", "Identity", &["w"], &["v"]),
                Node::new("b", "Mul", &["h", "v"], &["q"]),
            ],
            &["y", "z", "p", "q"],
        );
        assert_eq!(remove_identity(&mut g), 3);
        assert_eq!(show(&g), ["Relu(x)->y", "Identity(y)->z", "Identity(x)->p", "Mul(y,w)->q"]);
        assert_eq!(remove_identity(&mut g), 0);
    }

    #[test]
    fn a_dropout_that_cannot_go_becomes_an_identity() {
        let mut g = graph(vec![Node::new("d", "Dropout", &["x"], &["y", "mask"])], &["y"]);
        assert_eq!(remove_dropout(&mut g), 0);
        assert_eq!(show(&g), ["Identity(x)->y"]);
    }

    #[test]
    fn only_a_softmax_at_the_end_is_stripped() {
        let mut g = graph(
            vec![
                Node::new("s", "Softmax", &["x"], &["h"]),
                Node::new("r", "Relu", &["h"], &["l"]),
                Node::new("t", "LogSoftmax", &["l"], &["y"]),
            ],
            &["y"],
        );
        assert!(strip_trailing_softmax(&mut g));
        assert_eq!(show(&g), ["Softmax(x)->h", "Relu(h)->l"]);
        assert_eq!(g.outputs[0].name, "l");
        assert!(!strip_trailing_softmax(&mut g));
    }

    #[test]
    fn weights_and_nodes_that_nothing_reads_go() {
        let mut g = graph(
            vec![Node::new("a", "Mul", &["x", "w"], &["u"]), Node::new("b", "Relu", &["x"], &["y"])],
            &["y"],
        );
        assert_eq!(prune_unused_weights(&mut g), 0);
        assert_eq!(remove_dead_nodes(&mut g), 1);
        assert_eq!(prune_unused_weights(&mut g), 1);
        assert_eq!(show(&g), ["Relu(x)->y"]);
    }
}
