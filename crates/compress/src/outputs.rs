//! What the outputs of a network are: class scores, or other values.

use slq_graph::Graph;

/// What an output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Rows of as many class scores or probabilities.
    Classes(usize),
    /// Other values: boxes, masks, features.
    Values,
}

/// Operators that only rename or reshape.
const VIEWS: [&str; 6] = ["Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Dropout"];
/// Operators that end in features and not in class scores.
const FEATURES: [&str; 10] = [
    "LayerNormalization",
    "BatchNormalization",
    "LpNormalization",
    "Tanh",
    "Sigmoid",
    "Div",
    "Gather",
    "ReduceMean",
    "ReduceSum",
    "ReduceL2",
];

/// What output `name` of `graph` holds, which has `shape`, examples along the first axis: classes where it is a softmax over the
/// last axis, or has the shape [N, classes] (axes of extent 1 left aside) and is not computed as features are.
pub(crate) fn kind(graph: &Graph, name: &str, shape: &[usize]) -> Kind {
    let producer = producer(graph, name);
    let wide: Vec<usize> = shape.iter().skip(1).copied().filter(|&d| d != 1).collect();
    match (wide.as_slice(), producer) {
        (&[classes], Some(op)) if shape.len() > 1 && !FEATURES.contains(&op) => Kind::Classes(classes),
        (&[classes], None) if shape.len() > 1 => Kind::Classes(classes),
        ([_, .., classes], Some("Softmax" | "LogSoftmax"))
            if ends_over_last_axis(graph, name, shape.len()) =>
        {
            Kind::Classes(*classes)
        }
        _ => Kind::Values,
    }
}

/// The operator that computes a value, views left aside.
fn producer<'a>(graph: &'a Graph, name: &str) -> Option<&'a str> {
    let mut name = name;
    // A chain of views is no longer than the network.
    for _ in 0..=graph.nodes.len() {
        let node = graph.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name))?;
        if !VIEWS.contains(&node.op.as_str()) {
            return Some(&node.op);
        }
        name = node.input(0)?;
    }
    None
}

/// Whether output `name` is a softmax over the last of `rank` axes, without a view behind it.
fn ends_over_last_axis(graph: &Graph, name: &str, rank: usize) -> bool {
    let node = graph.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name));
    let last = |axis: i64| axis == -1 || axis == rank as i64 - 1;
    node.is_some_and(|n| matches!(n.op.as_str(), "Softmax" | "LogSoftmax") && last(n.int("axis", -1)))
}

#[cfg(test)]
mod tests {
    use slq_graph::{Attribute, Node};

    use super::*;

    fn found(nodes: Vec<Node>, shape: &[usize]) -> Kind {
        kind(&Graph { nodes, ..Graph::default() }, "y", shape)
    }

    #[test]
    fn class_scores_are_told_from_features() {
        let node = |op: &str, input: &str, output: &str| Node::new(op, op, &[input], &[output]);
        let behind = |op: &str| vec![node(op, "x", "t"), node("Reshape", "t", "y")];
        assert_eq!(found(behind("Gemm"), &[2, 10]), Kind::Classes(10));
        assert_eq!(found(behind("Conv"), &[2, 10, 1, 1]), Kind::Classes(10));
        for op in ["LayerNormalization", "Tanh", "ReduceMean", "Div"] {
            assert_eq!(found(behind(op), &[2, 10]), Kind::Values, "{op}");
        }
        assert_eq!(found(behind("Gemm"), &[2, 1]), Kind::Values);
        assert_eq!(found(behind("Conv"), &[2, 10, 8, 8]), Kind::Values);
        let softmax = |axis| vec![node("Softmax", "x", "y").with("axis", Attribute::Int(axis))];
        assert_eq!(found(softmax(-1), &[2, 7, 10]), Kind::Classes(10));
        assert_eq!(found(softmax(1), &[2, 7, 10]), Kind::Values);
    }
}
