//! What the constants of a network are: trainable parameters, statistics, settings.

use std::collections::{HashMap, HashSet};

use crate::graph::{Graph, Weight};
use crate::node::Node;
use crate::tensor::Tensor;

/// What a float constant is to a node that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A parameter that gradient descent updates: a kernel, a matrix, a bias, a scale, a slope.
    Trainable,
    /// A running statistic of batch-norm: training updates it, though not by its gradient.
    Statistic,
    /// A tensor that belongs to a formula, such as the mean that is subtracted from an image. It is stored and counted
    /// like a parameter, and never trained.
    Constant,
    /// A bound, a ratio, a table of sizes, or a single number of a formula: no parameter.
    Setting,
}

impl Role {
    /// The role of a constant of `elements` values that `node` reads as its input `input`.
    pub fn of(node: &Node, input: usize, elements: usize) -> Self {
        if !node.domain.is_empty() {
            return if elements == 1 { Role::Setting } else { Role::Trainable };
        }
        match node.op.as_str() {
            "Conv" | "ConvTranspose" | "Gemm" | "MatMul" | "PRelu" => Role::Trainable,
            "BatchNormalization" if input == 3 || input == 4 => Role::Statistic,
            "BatchNormalization" => Role::Trainable,
            "Resize" | "Upsample" | "Clip" | "Pad" | "Dropout" if input > 0 => Role::Setting,
            // Kernels, biases and peepholes of a recurrent layer, and its states before the first step.
            "LSTM" | "GRU" | "RNN" if input == 5 || input == 6 => Role::Constant,
            "LSTM" | "GRU" | "RNN" => Role::Trainable,
            "RotaryEmbedding" | "GridSample" if input > 0 => Role::Constant,
            "Attention" if input > 2 => Role::Constant,
            // A hard-swish spelled out, an epsilon: single numbers are written into the formula.
            _ if elements == 1 => Role::Setting,
            "Sub" | "Div" | "Pow" | "Max" | "Min" => Role::Constant,
            _ => Role::Trainable,
        }
    }
}

impl Graph {
    /// Names of the weights that count as parameters, in the graph's order: floats whose [`Role`] is not
    /// [`Role::Setting`] for some node, and those of more than one value that no node reads. Running statistics of
    /// batch-norm are among them.
    pub fn parameters(&self) -> Vec<&str> {
        let roles = self.roles();
        let counts = |name: &str, tensor: &Tensor| match roles.get(name) {
            Some(roles) => roles.iter().any(|&role| role != Role::Setting),
            None => tensor.len() != 1,
        };
        let floats = self.weights.iter().filter(|(_, w)| w.tensor.dtype().is_float());
        floats.filter(|(name, w)| counts(name, &w.tensor)).map(|(name, _)| name.as_str()).collect()
    }

    /// Names of the weights that training updates by their gradients: 32-bit floats, all finite (a mask that is added may
    /// hold infinities), whose [`Role`] is [`Role::Trainable`] for some node. Those that are frozen by their
    /// [`TrainingRates`](crate::TrainingRates) are among them.
    pub fn trainable(&self) -> HashSet<&str> {
        let roles = self.roles();
        let trained = |name: &str| roles.get(name).is_some_and(|roles| roles.contains(&Role::Trainable));
        let floats = self.weights.iter().filter(|(_, w)| w.tensor.as_f32().is_some());
        let finite = |w: &Weight| w.tensor.as_f32().is_some_and(|v| v.iter().all(|v| v.is_finite()));
        floats.filter(|(name, w)| trained(name) && finite(w)).map(|(name, _)| name.as_str()).collect()
    }

    /// Number of float parameters, quantized or not: the values of all [`Graph::parameters`].
    pub fn parameter_count(&self) -> usize {
        self.parameters().into_iter().map(|name| self.weights[name].tensor.len()).sum()
    }

    /// The roles of each float weight for the nodes that read it.
    fn roles(&self) -> HashMap<&str, Vec<Role>> {
        let mut roles: HashMap<&str, Vec<Role>> = HashMap::new();
        for node in &self.nodes {
            for (i, input) in node.inputs.iter().enumerate() {
                if let Some((name, weight)) =
                    self.weights.get_key_value(input).filter(|(_, w)| w.tensor.dtype().is_float())
                {
                    roles.entry(name).or_default().push(Role::of(node, i, weight.tensor.len()));
                }
            }
        }
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_tell_what_counts_and_what_is_trained() {
        let mut graph = Graph::default();
        let weight =
            |shape: &[usize]| Tensor::f32(shape.to_vec(), vec![0.5; shape.iter().product()]).unwrap();
        let shapes: [(&str, &[usize]); 13] = [
            ("kernel", &[2, 1, 1, 1]),
            ("bias", &[1]),
            ("scale", &[2]),
            ("shift", &[2]),
            ("mean", &[2]),
            ("var", &[2]),
            ("six", &[]),
            ("half", &[]),
            ("image", &[2, 1, 1]),
            ("added", &[2, 1, 1]),
            ("sizes", &[4]),
            ("unread", &[3]),
            ("unread number", &[]),
        ];
        graph.weights = shapes.iter().map(|(n, s)| (n.to_string(), weight(s).into())).collect();
        graph.weights.insert("axes".into(), Tensor::i64_vector(vec![0, 1]).into());
        graph.nodes = vec![
            Node::new("p", "Sub", &["x", "image"], &["p"]),
            Node::new("c", "Conv", &["p", "kernel", "bias"], &["c"]),
            Node::new("n", "BatchNormalization", &["c", "scale", "shift", "mean", "var"], &["n"]),
            Node::new("r", "Clip", &["n", "", "six"], &["r"]),
            Node::new("m", "Mul", &["r", "half"], &["m"]),
            Node::new("a", "Add", &["m", "added"], &["a"]),
            Node::new("u", "Resize", &["a", "", "sizes"], &["y"]),
        ];
        let counted = ["kernel", "bias", "scale", "shift", "mean", "var", "image", "added", "unread"];
        assert_eq!(graph.parameters(), counted);
        assert_eq!(graph.parameter_count(), 2 + 1 + 4 * 2 + 2 + 2 + 3);
        let mut trained: Vec<&str> = graph.trainable().into_iter().collect();
        trained.sort_unstable();
        assert_eq!(trained, ["added", "bias", "kernel", "scale", "shift"]);
    }
}
