//! The graph: nodes in execution order, weights by name, metadata.

use indexmap::IndexMap;

use crate::node::{Node, ValueInfo};
use crate::palette::Palette;
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

impl Weight {
    /// Whether this is a float tensor of two or more dimensions.
    fn is_float_matrix(&self) -> bool {
        self.tensor.shape().len() >= 2 && self.tensor.as_f32().is_some()
    }
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
    /// parameters are not among them (method.md, section 1). Of weights without a network (no nodes), all float
    /// tensors of two or more dimensions.
    pub fn quantizable(&self) -> Vec<Quantizable> {
        if self.nodes.is_empty() {
            let matrices = self.weights.iter().filter(|(_, w)| w.is_float_matrix());
            return matrices
                .map(|(name, _)| Quantizable { weight: name.clone(), ..Quantizable::default() })
                .collect();
        }
        let mut found: Vec<Quantizable> = Vec::new();
        for node in self.nodes.iter().filter(|n| n.domain.is_empty()) {
            let channel_axis = match node.op.as_str() {
                "Conv" => 0,
                "ConvTranspose" => 1,
                "Gemm" if node.int("transB", 0) != 0 => 0,
                "Gemm" | "MatMul" => 1,
                _ => continue,
            };
            let Some(name) = node.input(1) else { continue };
            let Some(weight) = self.weights.get(name) else { continue };
            if weight.is_float_matrix() && !found.iter().any(|q| q.weight == name) {
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
}
