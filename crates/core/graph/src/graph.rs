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

impl TrainingRates {
    /// A weight that training leaves alone.
    pub const FROZEN: Self = Self { lr_mult: 0.0, decay_mult: 0.0 };

    /// Whether training leaves the weight alone.
    pub fn is_frozen(&self) -> bool {
        self.lr_mult == 0.0
    }
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

impl Graph {
    /// The inputs that a caller gives, in order: files may list weights among the inputs, too.
    pub fn free_inputs(&self) -> impl Iterator<Item = &ValueInfo> {
        self.inputs.iter().filter(|i| !self.weights.contains_key(&i.name))
    }

    /// The node that writes value `name`.
    pub fn producer_of(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.outputs.iter().any(|o| o == name))
    }

    /// The nodes that read value `name`.
    pub fn consumers_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |n| n.inputs.iter().any(|i| i == name))
    }

    /// How often each value is read, by inputs of nodes, by bodies of `If`, `Loop` and `Scan` (each node's bodies count
    /// once) and by outputs of the network.
    pub fn reads(&self) -> HashMap<&str, usize> {
        let mut reads = HashMap::new();
        let inputs = self.nodes.iter().flat_map(|n| &n.inputs);
        for name in inputs.chain(self.outputs.iter().map(|o| &o.name)) {
            *reads.entry(name.as_str()).or_default() += 1;
        }
        let holders: Vec<&Node> = self.nodes.iter().filter(|n| n.may_hold_subgraph()).collect();
        if !holders.is_empty() {
            let written = self.nodes.iter().flat_map(|n| &n.outputs);
            let names = self.weights.keys().chain(written).chain(self.inputs.iter().map(|i| &i.name));
            let own: HashSet<&str> = names.map(String::as_str).collect();
            let inside = holders.into_iter().filter_map(Node::bodies).flat_map(|b| b.reads);
            for name in inside.filter_map(|name| own.get(name.as_str()).copied()) {
                *reads.entry(name).or_default() += 1;
            }
        }
        reads
    }
    /// `name`, or that with the first number behind it, so that no value of the network has it.
    pub(crate) fn free_name(&self, name: &str) -> String {
        let holders: Vec<_> =
            self.nodes.iter().filter(|n| n.may_hold_subgraph()).filter_map(Node::bodies).collect();
        let writes = |node: &Node, name: &str| node.outputs.iter().any(|o| o == name);
        first_free(name, |n| {
            self.weights.contains_key(n)
                || self.inputs.iter().any(|i| i.name == n)
                || self.nodes.iter().any(|node| writes(node, n))
                || holders.iter().any(|b| b.reads.contains(n) || b.nodes.iter().any(|node| writes(node, n)))
        })
    }
}

/// `name`, or that with the first number behind it that is not `taken`.
pub(crate) fn first_free(name: &str, taken: impl Fn(&str) -> bool) -> String {
    let mut names = std::iter::once(name.to_owned()).chain((1u64..).map(|k| format!("{name}_{k}")));
    names.find(|n| !taken(n)).unwrap_or_default()
}
