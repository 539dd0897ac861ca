//! Nodes, their attributes, and the graph's inputs and outputs.

use std::collections::BTreeMap;

use crate::dtype::DType;
use crate::tensor::Tensor;

/// One dimension of a value whose shape a file declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A known extent.
    Known(usize),
    /// A named, free extent; by convention the first dimension of an image batch.
    Symbol(String),
    /// Nothing declared.
    Unknown,
}

/// Name, element type and declared shape of a graph input or output.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueInfo {
    /// The value's name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Declared shape; `None` where the file gives no rank.
    pub shape: Option<Vec<Dim>>,
}

/// A node's attribute, after ONNX's `AttributeProto`.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // each variant says what it holds
#[non_exhaustive]
pub enum Attribute {
    Int(i64),
    Float(f32),
    String(Vec<u8>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<Vec<u8>>),
    Tensor(Tensor),
    /// A kind that no operator here reads (sub-graphs, sparse tensors …), as encoded `AttributeProto` bytes, so
    /// that it can be written back.
    Opaque(Vec<u8>),
}

/// An operator applied to named values.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// The node's name; unique in a validated graph.
    pub name: String,
    /// Operator type in the ONNX vocabulary, such as `Conv`.
    pub op: String,
    /// Operator domain; empty for ONNX's own.
    pub domain: String,
    /// Names of the inputs; an empty name is an omitted optional input.
    pub inputs: Vec<String>,
    /// Names of the outputs; an empty name is an unused output.
    pub outputs: Vec<String>,
    /// Attributes by name.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Node {
    /// A node of ONNX's own domain without attributes.
    pub fn new(name: &str, op: &str, inputs: &[&str], outputs: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        Self {
            name: name.into(),
            op: op.into(),
            inputs: owned(inputs),
            outputs: owned(outputs),
            ..Self::default()
        }
    }

    /// The same node with one more attribute.
    pub fn with(mut self, name: &str, value: Attribute) -> Self {
        self.attributes.insert(name.into(), value);
        self
    }

    /// Whether an attribute is kept as bytes that may be a sub-graph, such as the body of a loop: it can read any value
    /// of the graph. The value of a `Constant` cannot.
    pub fn may_hold_subgraph(&self) -> bool {
        self.op != "Constant" && self.attributes.values().any(|a| matches!(a, Attribute::Opaque(_)))
    }

    /// The name of input `i`, or `None` where it is absent or omitted.
    pub fn input(&self, i: usize) -> Option<&str> {
        self.inputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// An integer attribute, or `default` where it is absent or of another kind.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attribute::Int(v)) = self.attributes.get(name) { *v } else { default }
    }

    /// A float attribute, or `default` where it is absent or of another kind.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        if let Some(Attribute::Float(v)) = self.attributes.get(name) { *v } else { default }
    }

    /// A list of integers, or `None` where it is absent or of another kind.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        if let Some(Attribute::Ints(v)) = self.attributes.get(name) { Some(v) } else { None }
    }

    /// A string attribute, or `None` where it is absent, of another kind or not UTF-8.
    pub fn string(&self, name: &str) -> Option<&str> {
        if let Some(Attribute::String(v)) = self.attributes.get(name) {
            std::str::from_utf8(v).ok()
        } else {
            None
        }
    }
}
