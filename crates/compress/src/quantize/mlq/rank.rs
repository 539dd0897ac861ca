//! The order in which layers are advanced (arXiv 1803.03289, section 3.3: "incremental layer compensation").

use std::collections::HashMap;

use slq_graph::Graph;

use super::settings::{LayerOrder, MlqSettings};
use crate::error::CompressError;
use crate::progress::Event;
use crate::quantize::rounds::RoundContext;
use crate::quantize::state::LayerState;
use crate::train::share_out;

/// Positions in `states`, first in rank first; equal ones in network order.
pub(crate) fn order(
    states: &[LayerState],
    settings: &MlqSettings,
    context: &mut RoundContext<'_>,
) -> Result<Vec<usize>, CompressError> {
    let scores = match settings.rank_by {
        LayerOrder::Loss => measured_rise(states, context)?,
        LayerOrder::Lipschitz => output_bounds(states, context.graph),
        LayerOrder::Size => states.iter().map(|s| -(s.layer.count as f64)).collect(),
    };
    Ok(by_falling_score(&scores, settings.rank_reversed))
}

fn by_falling_score(scores: &[f64], reversed: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    if reversed {
        order.reverse();
    }
    order
}

/// The rise of the held-out loss when one layer alone takes its centroids; the layers are shared out over the processes.
fn measured_rise(states: &[LayerState], context: &mut RoundContext<'_>) -> Result<Vec<f64>, CompressError> {
    let held_out = context.held_out.ok_or(CompressError::NoData)?;
    let base = held_out.loss_shared(context.executor, context.reducer)?;
    let (of, size, mut done) = (states.len(), context.reducer.size(), 0);
    let rises = share_out(context.reducer, of, |layer| {
        let state = &states[layer];
        context.executor.set_parameter(&state.layer.weight, &state.all_shared())?;
        let rise = held_out.loss(context.executor)? - base;
        context.executor.set_parameter(&state.layer.weight, &state.values)?;
        done = (done + size).min(of);
        context.observer.on(&Event::Measuring { done, of });
        Ok([rise])
    })?;
    Ok(rises.into_iter().map(|[rise]| rise).collect())
}

/// For every layer the norm of its change times the norms downstream: how much the outputs can move for an input
/// of norm one to the layer. Where paths part and meet again their bounds add up.
fn output_bounds(states: &[LayerState], graph: &Graph) -> Vec<f64> {
    let (gains, turned) = (downstream_gains(graph), graph.turned_matrices());
    let reads = |node: &slq_graph::Node, weight: &str| {
        node.input(1).is_some_and(|name| turned.get(name).copied().unwrap_or(name) == weight)
    };
    let bound = |state: &LayerState| {
        let change: Vec<f32> = state.all_shared().iter().zip(&state.values).map(|(q, w)| q - w).collect();
        let rows = graph.weights[&state.layer.weight].tensor.shape()[0];
        let readers = graph.nodes.iter().filter(|n| reads(n, &state.layer.weight));
        let gain: f64 = readers.flat_map(|n| &n.outputs).filter_map(|o| gains.get(o.as_str())).sum();
        spectral_norm(&change, rows) * gain
    };
    states.iter().map(bound).collect()
}

/// For every value of the graph a Lipschitz constant of the outputs with respect to it: layers count with the spectral
/// norm of their weight as a matrix (of a convolution: output channels x the rest), batch-norm with its largest
/// factor, everything else with one.
fn downstream_gains(graph: &Graph) -> HashMap<&str, f64> {
    let turned = graph.turned_matrices();
    let mut gains: HashMap<&str, f64> = graph.outputs.iter().map(|o| (o.name.as_str(), 1.0)).collect();
    for node in graph.nodes.iter().rev() {
        let after: f64 = node.outputs.iter().filter_map(|o| gains.get(o.as_str())).sum();
        let weight = |place: usize| {
            let name = node.input(place)?;
            let tensor = &graph.weights.get(turned.get(name).copied().unwrap_or(name))?.tensor;
            tensor.as_f32().map(|values| (values, tensor.shape()))
        };
        let own = match node.op.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" => {
                weight(1).map_or(1.0, |(values, shape)| spectral_norm(values, shape[0]))
            }
            "BatchNormalization" => match (weight(1), weight(4)) {
                (Some((scale, _)), Some((variance, _))) => {
                    let epsilon = f64::from(node.float("epsilon", 1e-5));
                    let factor = |(s, v): (&f32, &f32)| f64::from(s.abs()) / (f64::from(*v) + epsilon).sqrt();
                    scale.iter().zip(variance).map(factor).fold(0.0, f64::max)
                }
                _ => 1.0,
            },
            _ => 1.0,
        };
        for input in node.inputs.iter().filter(|i| !i.is_empty() && !graph.weights.contains_key(*i)) {
            *gains.entry(input).or_insert(0.0) += own * after;
        }
    }
    gains
}

/// Largest singular value of a matrix of `rows` rows, by power iteration: to about three digits, which is what an
/// order needs.
fn spectral_norm(values: &[f32], rows: usize) -> f64 {
    const PASSES: usize = 30;
    let columns = (values.len() / rows.max(1)).max(1);
    // A ramp rather than ones: filters often sum to zero.
    let mut right: Vec<f64> = (0..columns).map(|i| 1.0 + i as f64 / columns as f64).collect();
    let mut norm = 0.0;
    for _ in 0..PASSES {
        let length = right.iter().map(|x| x * x).sum::<f64>().sqrt();
        if length == 0.0 {
            return 0.0;
        }
        right.iter_mut().for_each(|x| *x /= length);
        let mut next = vec![0.0; columns];
        let mut square = 0.0;
        for row in values.chunks_exact(columns) {
            let left: f64 = row.iter().zip(&right).map(|(&w, x)| f64::from(w) * x).sum();
            square += left * left;
            next.iter_mut().zip(row).for_each(|(n, &w)| *n += f64::from(w) * left);
        }
        norm = square.sqrt();
        right = next;
    }
    norm
}

#[cfg(test)]
mod tests {
    use slq_graph::{Node, Tensor};

    use super::*;

    #[test]
    fn first_in_rank_has_the_largest_score() {
        assert_eq!(by_falling_score(&[0.1, 0.5, 0.5, -1.0], false), [1, 2, 0, 3]);
        assert_eq!(by_falling_score(&[0.1, 0.5, 0.5, -1.0], true), [3, 0, 2, 1]);
    }

    #[test]
    fn the_spectral_norm_of_known_matrices() {
        assert!((spectral_norm(&[3.0, 0.0, 0.0, -4.0], 2) - 4.0).abs() < 1e-3);
        // Rank one: the norm is the product of the vectors' lengths.
        assert!((spectral_norm(&[1.0, -1.0, 2.0, -2.0, 2.0, -2.0], 3) - 18f64.sqrt()).abs() < 1e-6);
        assert_eq!(spectral_norm(&[0.0; 6], 2), 0.0);
    }

    #[test]
    fn gains_multiply_along_a_path_and_add_where_paths_meet() {
        let mut graph = Graph::default();
        for (name, value) in [("a", 2.0), ("b", 3.0)] {
            graph.weights.insert(name.into(), Tensor::f32(vec![1, 1], vec![value]).unwrap().into());
        }
        graph.nodes = vec![
            Node::new("first", "MatMul", &["x", "a"], &["h"]),
            Node::new("second", "MatMul", &["h", "b"], &["i"]),
            Node::new("sum", "Add", &["h", "i"], &["y"]),
        ];
        graph.outputs.push(slq_graph::ValueInfo {
            name: "y".into(),
            dtype: slq_graph::DType::F32,
            shape: None,
        });
        let gains = downstream_gains(&graph);
        for (value, gain) in [("y", 1.0), ("i", 1.0), ("h", 4.0), ("x", 8.0)] {
            assert!((gains[value] - gain).abs() < 1e-9, "{value}: {}", gains[value]);
        }
    }
}
