//! The graph: nodes in execution order, weights by name, metadata.

use std::collections::{HashMap, HashSet};

use indexmap::IndexMap;
use slq_codebook::Palette;

use crate::node::{Node, ValueInfo};
use crate::tensor::Tensor;

/// How a weight is trained: multipliers of the solver's rates (Caffe's `param { lr_mult decay_mult }`).
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TrainingRates {
    /// Factor on the learning rate; 0 freezes the weight.
    pub lr_mult: f32,
    /// Factor on the weight decay.
    pub decay_mult: f32,
}

impl Default for TrainingRates {
    fn default() -> Self {
        Self { lr_mult: 1.0, decay_mult: 1.0 }
    }
}

/// A constant of the network: its values, its palette if it is (being) quantized, and how it is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// The values. For a weight that is fixed they equal its centroid, bit for bit.
    pub tensor: Tensor,
    /// Codebook and codes.
    pub palette: Option<Palette>,
    /// Multipliers of the solver's rates.
    pub rates: TrainingRates,
}

impl From<Tensor> for Weight {
    fn from(tensor: Tensor) -> Self {
        Self { tensor, palette: None, rates: TrainingRates::default() }
    }
}

/// What a file says about itself beside the network.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    /// Version of ONNX's operator set that the nodes follow (the default domain).
    pub opset: i64,
    /// Further operator domains and their versions.
    pub domains: Vec<(String, i64)>,
    /// Name of the program that wrote the file.
    pub producer: String,
    /// Free text.
    pub doc: String,
    /// Key/value properties; ours begin with `slq.`.
    pub properties: IndexMap<String, String>,
}

/// A network. Values (activations and weights) are known by name; every name is written once.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Graph {
    /// The network's name.
    pub name: String,
    /// Inputs that a caller gives (weights excluded).
    pub inputs: Vec<ValueInfo>,
    /// Outputs.
    pub outputs: Vec<ValueInfo>,
    /// Nodes in execution order (validated: each input is written before it is read).
    pub nodes: Vec<Node>,
    /// Constants by value name, in file order.
    pub weights: IndexMap<String, Weight>,
    /// What the file says about itself.
    pub metadata: Metadata,
}

/// A weight that the methods may move onto a codebook: the second input of a `Conv`, `ConvTranspose`, `Gemm`
/// or `MatMul` node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quantizable {
    /// Name of the weight.
    pub weight: String,
    /// Name of the (first) node that reads it.
    pub node: String,
    /// That node's operator.
    pub op: String,
    /// Output channels: the axis along which a per-channel codebook runs.
    pub channel_axis: usize,
}

impl Graph {
    /// The weights that the methods may quantize, in execution order, each once. Biases, batch-norm and scale
    /// parameters are not among them (method.md, section 1).
    ///
    /// Of a graph without nodes (the weights of a bare safetensors file) these are all float weights of two axes and
    /// more; the first axis is taken for the channels, and the weight's name without `.weight` for the node's.
    pub fn quantizable(&self) -> Vec<Quantizable> {
        let matrix = |name: &str| {
            let tensor = self.weights.get(name).map(|w| &w.tensor);
            tensor.is_some_and(|t| t.shape().len() >= 2 && t.as_f32().is_some())
        };
        if self.nodes.is_empty() {
            let names = self.weights.keys().filter(|name| matrix(name));
            let bare = |name: &String| Quantizable {
                weight: name.clone(),
                node: name.strip_suffix(".weight").unwrap_or(name).into(),
                op: String::new(),
                channel_axis: 0,
            };
            return names.map(bare).collect();
        }
        let (mut found, mut seen) = (Vec::new(), HashSet::new());
        for node in self.nodes.iter().filter(|n| n.domain.is_empty()) {
            let channel_axis = match node.op.as_str() {
                "Conv" => 0,
                "ConvTranspose" => 1,
                "Gemm" if node.int("transB", 0) != 0 => 0,
                "Gemm" | "MatMul" => 1,
                _ => continue,
            };
            let Some(name) = node.input(1).filter(|name| matrix(name)) else { continue };
            if seen.insert(name) {
                found.push(Quantizable {
                    weight: name.into(),
                    node: node.name.clone(),
                    op: node.op.clone(),
                    channel_axis,
                });
            }
        }
        found
    }

    /// Number of float parameters, quantized or not: all weights that [`stats::parameters`] names.
    ///
    /// [`stats::parameters`]: crate::stats::parameters
    pub fn parameter_count(&self) -> usize {
        crate::stats::parameters(self).into_iter().map(|name| self.weights[name].tensor.len()).sum()
    }

    /// The node that writes value `name`.
    pub fn producer_of(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name))
    }

    /// The nodes that read value `name`.
    pub fn consumers_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |n| n.inputs.iter().any(|i| i == name))
    }

    /// How often each value is read, by inputs of nodes and by outputs of the network.
    pub fn reads(&self) -> HashMap<&str, usize> {
        let mut reads = HashMap::new();
        let inputs = self.nodes.iter().flat_map(|n| &n.inputs);
        for name in inputs.chain(self.outputs.iter().map(|o| &o.name)) {
            *reads.entry(name.as_str()).or_default() += 1;
        }
        reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Attribute;

    #[test]
    fn matrices_of_layers_can_be_quantized_each_once() {
        let mut graph = Graph::default();
        for (name, shape) in [("w", &[2, 2][..]), ("v", &[2, 2, 1, 1]), ("b", &[2]), ("e.weight", &[3, 2])] {
            let tensor = Tensor::f32(shape.to_vec(), vec![0.0; shape.iter().product()]).unwrap();
            graph.weights.insert(name.into(), tensor.into());
        }
        let names = |g: &Graph| g.quantizable().into_iter().map(|q| (q.weight, q.node, q.channel_axis));
        let bare: Vec<_> = names(&graph).collect();
        let entry = |w: &str, n: &str, axis| (w.to_string(), n.to_string(), axis);
        assert_eq!(bare, [entry("w", "w", 0), entry("v", "v", 0), entry("e.weight", "e", 0)]);
        graph.nodes = vec![
            Node::new("fc", "Gemm", &["x", "w", "b"], &["h"]).with("transB", Attribute::Int(1)),
            Node::new("again", "MatMul", &["h", "w"], &["i"]),
            Node::new("up", "ConvTranspose", &["i", "v"], &["j"]),
            Node::new("look-up", "Gather", &["e.weight", "j"], &["y"]),
        ];
        let found: Vec<_> = names(&graph).collect();
        assert_eq!(found, [entry("w", "fc", 0), entry("v", "up", 1)]);
    }
}
