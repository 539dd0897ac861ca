//! Coverage: how much of a network was quantized, and what was not.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use slq_graph::{DType, Graph};

use super::choices::LayerRule;

/// A weight tensor of two axes and more that keeps its floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotQuantized {
    /// Its name.
    pub name: String,
    /// Its weights.
    pub count: usize,
    /// Why it was not quantized.
    pub reason: String,
}

/// How much of a network is quantized.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Weight tensors that are quantized.
    pub quantized: usize,
    /// Weights of quantized tensors over all parameters, 0 to 1.
    pub quantized_fraction: f64,
    /// The weight tensors of two axes and more that are not.
    pub not_quantized: Vec<NotQuantized>,
}

impl Coverage {
    /// The coverage of `graph`, whose palettes are fixed as a whole where they count, by `rules` for layers.
    pub(crate) fn of(graph: &Graph, rules: &[LayerRule]) -> Self {
        let candidates: HashMap<String, String> =
            graph.quantizable().into_iter().map(|q| (q.weight, q.node)).collect();
        let (mut quantized, mut weights, mut not_quantized) = (0, 0, Vec::new());
        for (name, weight) in &graph.weights {
            if weight.palette.as_ref().is_some_and(|p| p.is_fully_fixed()) {
                quantized += 1;
                weights += weight.tensor.len();
                continue;
            }
            let is_matrix = weight.tensor.dtype().is_float() && weight.tensor.shape().len() > 1;
            let readers = graph.readers_of(name);
            let integers = matches!(weight.tensor.dtype(), DType::I8 | DType::U8)
                && weight.tensor.shape().len() > 1
                && readers.iter().any(|op| op == "DequantizeLinear" || op.contains("Integer"));
            if !(is_matrix || integers) || weight.tensor.len() < 2 || graph.is_recurrent_bias(name) {
                continue;
            }
            let reason = match readers.as_slice() {
                _ if integers => "8-bit integers already".into(),
                _ if let Some(node) = candidates.get(name) => {
                    if LayerRule::skip(rules, [name, node]) {
                        "skipped by a rule".into()
                    } else {
                        "its codebook would cost more than it saves".into()
                    }
                }
                [] => "read by no node".into(),
                operators => format!("read by {}", operators.join(", ")),
            };
            not_quantized.push(NotQuantized { name: name.clone(), count: weight.tensor.len(), reason });
        }
        let parameters = graph.parameter_count().max(1);
        Self { quantized, quantized_fraction: weights as f64 / parameters as f64, not_quantized }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::quantize::settings::Quantize;
    use crate::quantize::stage::quantize;

    #[test]
    fn what_is_left_out_is_named_with_its_reason() {
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let context = Context::bare();
        let settings = Quantize::kmeans(4).skip("conv1*");
        let done = quantize(graph, &settings, context, &mut crate::Silent).unwrap();
        let coverage = Coverage::of(&done.graph, &settings.layers);
        assert_eq!(coverage.quantized, 3);
        assert!((coverage.quantized_fraction - 430_000.0 / 431_080.0).abs() < 1e-9);
        let left = &coverage.not_quantized;
        assert_eq!((left.len(), left[0].name.as_str(), left[0].count), (1, "conv1.weight", 500));
        assert_eq!(left[0].reason, "skipped by a rule");
    }

    #[test]
    fn biases_of_recurrent_layers_are_no_weight_matrices() {
        let mut graph = Graph::default();
        graph.nodes.push(slq_graph::Node::new("lstm", "LSTM", &["x", "w", "r", "b"], &["y"]));
        for (name, shape) in [("w", vec![1, 16, 8]), ("r", vec![1, 16, 4]), ("b", vec![1, 32])] {
            let values = vec![0.5; shape.iter().product()];
            graph.weights.insert(name.into(), slq_graph::Tensor::f32(shape, values).unwrap().into());
        }
        let left = |graph: &Graph| -> Vec<String> {
            Coverage::of(graph, &[]).not_quantized.into_iter().map(|n| n.name).collect()
        };
        assert_eq!(left(&graph), ["w", "r"]);
        graph.nodes.push(slq_graph::Node::new("sum", "Add", &["b", "y"], &["z"]));
        assert_eq!(left(&graph), ["w", "r", "b"]);
    }
}
