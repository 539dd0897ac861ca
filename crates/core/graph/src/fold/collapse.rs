//! Batch-norm as one scale and one shift for each channel.

use half::f16;

use super::batch_norm::Affine;
use crate::graph::Graph;
use crate::node::Node;

/// Rewrites each `BatchNormalization` whose constants no other node reads: scale and shift become those that it applies for
/// inference, rounded to 16-bit floats, its mean 0 and its variance such that, with epsilon, it is 1. A file then has one half of
/// the values to hold, with short fractions. Returns how many were rewritten.
///
/// For inference only: the statistics are gone, so that training by those of a batch would change what the network computes
/// ([`has_collapsed_batch_norms`]). Batch-norms with a value that a 16-bit float does not hold to 3 digits stay.
pub fn collapse_batch_norms(graph: &mut Graph) -> usize {
    let reads = graph.reads();
    let nodes = graph.nodes.iter().filter(|n| is_norm(n));
    let alone = nodes.filter(|n| n.inputs.iter().skip(1).all(|i| reads.get(i.as_str()) == Some(&1)));
    let changes: Vec<(Vec<String>, [Vec<f32>; 4])> =
        alone.filter_map(|n| Some((n.inputs.iter().skip(1).cloned().collect(), values(graph, n)?))).collect();
    for (names, values) in &changes {
        for (name, new) in names.iter().zip(values) {
            if let Some(old) = graph.weights.get_mut(name).and_then(|w| w.tensor.as_f32_mut()) {
                old.copy_from_slice(new);
            }
        }
    }
    changes.len()
}

/// Whether a batch-norm's statistics are gone, as [`collapse_batch_norms`] leaves them.
pub fn has_collapsed_batch_norms(graph: &Graph) -> bool {
    let vector = |name: Option<&str>| graph.weights.get(name?).and_then(|w| w.tensor.as_f32());
    graph.nodes.iter().filter(|n| is_norm(n)).any(|node| {
        let unit = unit(node);
        let (mean, variance) = (vector(node.input(3)), vector(node.input(4)));
        mean.zip(variance).is_some_and(|(mean, variance)| {
            // Fresh networks have variances of exactly 1.
            unit != 1.0
                && !mean.is_empty()
                && mean.iter().all(|&m| m == 0.0)
                && variance.iter().all(|&v| v == unit)
        })
    })
}

fn is_norm(node: &Node) -> bool {
    node.op == "BatchNormalization" && node.domain.is_empty() && node.int("training_mode", 0) == 0
}

/// The variance that is 1 with epsilon.
fn unit(node: &Node) -> f32 {
    1.0 - node.float("epsilon", 1e-5)
}

/// Scale, shift, mean and variance; `None` where they cannot be rounded.
fn values(graph: &Graph, node: &Node) -> Option<[Vec<f32>; 4]> {
    let Affine { scale, shift } = Affine::of(graph, node)?;
    // The scale that is applied is divided by this again.
    let root = (f64::from(unit(node)) + f64::from(node.float("epsilon", 1e-5))).sqrt();
    let short = |v: &f64| -> Option<f32> {
        let found = f32::from(f16::from_f64(v * root));
        ((f64::from(found) - v * root).abs() <= 1e-3 * v.abs() || v.abs() < 1e-6).then_some(found)
    };
    let channels = scale.len();
    let scale = scale.iter().map(short).collect::<Option<Vec<_>>>()?;
    let shift = shift.iter().map(short).collect::<Option<Vec<_>>>()?;
    (unit(node) > 0.0).then(|| [scale, shift, vec![0.0; channels], vec![unit(node); channels]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Attribute, Tensor};

    fn network(epsilon: f32) -> Graph {
        let mut graph = Graph::default();
        let node = Node::new("n", "BatchNormalization", &["x", "g", "b", "m", "v"], &["y"]);
        graph.nodes.push(node.with("epsilon", Attribute::Float(epsilon)));
        let values = [[0.7, -2.5], [0.3, 0.1], [5.0, -0.2], [0.04, 3.0]];
        for (name, values) in ["g", "b", "m", "v"].iter().zip(values) {
            graph.weights.insert((*name).into(), Tensor::f32(vec![2], values.to_vec()).unwrap().into());
        }
        graph
    }

    fn applied(graph: &Graph, x: f64) -> Vec<f64> {
        let Affine { scale, shift } = Affine::of(graph, &graph.nodes[0]).unwrap();
        scale.iter().zip(&shift).map(|(s, t)| s * x + t).collect()
    }

    #[test]
    fn scale_and_shift_stay_to_sixteen_bits_and_statistics_go() {
        for epsilon in [1e-5, 1e-3] {
            let graph = network(epsilon);
            let mut short = graph.clone();
            assert!(!has_collapsed_batch_norms(&graph));
            assert_eq!(collapse_batch_norms(&mut short), 1);
            assert!(has_collapsed_batch_norms(&short));
            for x in [-1.0, 0.0, 4.0] {
                for (a, b) in applied(&graph, x).iter().zip(applied(&short, x)) {
                    assert!((a - b).abs() < 2e-3 * (1.0 + a.abs() + 20.0), "{a} {b}");
                }
            }
            let again = short.clone();
            collapse_batch_norms(&mut short);
            assert_eq!(short, again);
        }
    }

    #[test]
    fn fresh_and_shared_and_extreme_ones_stay() {
        let mut fresh = network(1e-5);
        for (name, value) in [("m", 0.0), ("v", 1.0)] {
            fresh.weights.insert(name.into(), Tensor::f32(vec![2], vec![value; 2]).unwrap().into());
        }
        assert!(!has_collapsed_batch_norms(&fresh));
        let mut shared = network(1e-5);
        shared.nodes.push(Node::new("s", "Neg", &["m"], &["z"]));
        let mut extreme = network(1e-5);
        extreme.weights.insert("g".into(), Tensor::f32(vec![2], vec![1e9, 1.0]).unwrap().into());
        for mut graph in [shared, extreme] {
            let before = graph.clone();
            assert_eq!((collapse_batch_norms(&mut graph), &graph), (0, &before));
        }
    }
}
