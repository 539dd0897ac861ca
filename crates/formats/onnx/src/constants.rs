//! Constants in the form that the rest of the program takes.

use slq_graph::{Graph, Tensor, TrainingRates, Weight};

/// Operator set from which on the exponent of `Pow` may be of another type than its base.
const MIXED_POW: i64 = 12;

/// Turns integer exponents of `Pow` into floats, and freezes constants that hold an infinity, such as a mask: weight
/// decay would make them NaN.
pub fn settle(graph: &mut Graph) {
    if graph.metadata.opset >= MIXED_POW {
        float_exponents(graph);
    }
    for weight in graph.weights.values_mut() {
        if weight.tensor.as_f32().is_some_and(|values| values.iter().any(|v| v.is_infinite())) {
            weight.rates = TrainingRates::FROZEN;
        }
    }
}

fn float_exponents(graph: &mut Graph) {
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        if node.op != "Pow" || !node.domain.is_empty() {
            continue;
        }
        let Some(name) = node.input(1).map(str::to_owned) else { continue };
        let Some(weight) = graph.weights.get(&name) else { continue };
        let Some(integers) = weight.tensor.to_i64() else { continue };
        // Beyond 2^24 a float would be another number.
        if integers.iter().any(|i| i.unsigned_abs() > 1 << 24) {
            continue;
        }
        let values = integers.iter().map(|&i| i as f32).collect();
        let Ok(tensor) = Tensor::f32(weight.tensor.shape().to_vec(), values) else { continue };
        let alone = graph.nodes.iter().flat_map(|n| &n.inputs).filter(|i| **i == name).count() == 1;
        let taken = |n: &str| graph.weights.contains_key(n) || graph.producer_of(n).is_some();
        let free = (0..).map(|i| format!("{name}.float{i}")).find(|n| !taken(n));
        let new = if alone { name.clone() } else { free.unwrap_or_else(|| name.clone()) };
        graph.weights.insert(new.clone(), Weight { rates: TrainingRates::FROZEN, ..tensor.into() });
        graph.nodes[index].inputs[1] = new;
    }
}

#[cfg(test)]
mod tests {
    use slq_graph::{Node, TensorData};

    use super::*;

    #[test]
    fn exponents_become_floats_and_other_readers_keep_their_integers() {
        let two = || Weight::from(Tensor::new(vec![], TensorData::I64(vec![2])).unwrap());
        let mut graph = Graph::default();
        graph.metadata.opset = 14;
        graph.weights.insert("two".into(), two());
        graph.nodes.push(Node::new("p", "Pow", &["x", "two"], &["y"]));
        settle(&mut graph);
        assert_eq!(graph.weights["two"].tensor.as_f32(), Some(&[2.0][..]));
        assert_eq!(graph.weights["two"].rates, TrainingRates::FROZEN);

        graph.weights.insert("two".into(), two());
        graph.nodes.push(Node::new("q", "Gather", &["y", "two"], &["z"]));
        let mut old = graph.clone();
        settle(&mut graph);
        assert_eq!(graph.weights["two"].tensor.as_f32(), None);
        assert_eq!(graph.nodes[0].inputs[1], "two.float0");
        assert_eq!(graph.weights["two.float0"].tensor.as_f32(), Some(&[2.0][..]));
        old.metadata.opset = 11;
        let before = old.clone();
        settle(&mut old);
        assert_eq!(old, before, "both inputs have one type there");
    }

    #[test]
    fn a_mask_is_not_trained() {
        let mut graph = Graph::default();
        let mask = Tensor::f32(vec![2], vec![0.0, f32::NEG_INFINITY]).unwrap();
        graph.weights.insert("mask".into(), mask.into());
        settle(&mut graph);
        assert_eq!(graph.weights["mask"].rates, TrainingRates::FROZEN);
    }
}
