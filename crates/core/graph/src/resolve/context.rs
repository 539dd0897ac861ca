//! A node with its graph, known constants and input shapes, and checked access to its attributes and inputs.

use std::collections::HashMap;

use crate::dtype::DType;
use crate::error::{GraphError, KMEANS_ADVICE};
use crate::graph::Graph;
use crate::node::{Attribute, Node};
use crate::tensor::Tensor;

/// Largest kernel extent, stride, dilation, padding or group count that is accepted.
const LARGEST_SETTING: i64 = 1 << 24;

/// Operator set of a graph that declares none ([`Metadata::opset`](crate::Metadata) is 0).
pub(crate) const DEFAULT_OPSET: i64 = 13;

pub(crate) struct Context<'a> {
    pub graph: &'a Graph,
    /// Values that were computed from shapes and constants.
    pub folded: &'a HashMap<String, Tensor>,
    /// Element types of values, as far as they are known.
    pub types: Option<&'a HashMap<String, DType>>,
    pub node: &'a Node,
    pub shapes: &'a [Option<&'a [usize]>],
}

impl<'a> Context<'a> {
    pub fn opset(&self) -> i64 {
        match self.graph.metadata.opset {
            v if v <= 0 => DEFAULT_OPSET,
            v => v,
        }
    }

    // --- errors ---

    pub fn unsupported(&self, what: impl Into<String>) -> GraphError {
        self.unsupported_but(what, KMEANS_ADVICE)
    }

    pub fn unsupported_but(&self, what: impl Into<String>, advice: &str) -> GraphError {
        GraphError::UnsupportedForm {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            what: what.into(),
            advice: advice.into(),
        }
    }

    pub fn bad_attribute(&self, attribute: &str, reason: impl Into<String>) -> GraphError {
        GraphError::InvalidAttribute {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            attribute: attribute.into(),
            reason: reason.into(),
        }
    }

    pub fn bad_input(&self, index: usize, reason: impl Into<String>) -> GraphError {
        GraphError::InvalidInput {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            value: self.node.input(index).unwrap_or_default().into(),
            reason: reason.into(),
        }
    }

    pub fn mismatch(&self, reason: impl Into<String>) -> GraphError {
        GraphError::ShapeMismatch {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            reason: reason.into(),
            shapes: self.shapes.iter().flatten().map(|s| s.to_vec()).collect(),
        }
    }

    // --- attributes ---

    pub fn has(&self, name: &str) -> bool {
        self.node.attributes.contains_key(name)
    }

    pub fn int(&self, name: &str, default: i64) -> Result<i64, GraphError> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Int(v)) => Ok(*v),
            Some(_) => Err(self.bad_attribute(name, "is not an integer")),
        }
    }

    pub fn flag(&self, name: &str, default: bool) -> Result<bool, GraphError> {
        Ok(self.int(name, default.into())? != 0)
    }

    pub fn float(&self, name: &str, default: f32) -> Result<f32, GraphError> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::Float(v)) if v.is_finite() => Ok(*v),
            Some(Attribute::Float(v)) => Err(self.bad_attribute(name, format!("is {v}"))),
            Some(_) => Err(self.bad_attribute(name, "is not a float")),
        }
    }

    pub fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, GraphError> {
        match self.node.attributes.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(v)) => Ok(Some(v)),
            Some(_) => Err(self.bad_attribute(name, "is not a list of integers")),
        }
    }

    pub fn string(&self, name: &str, default: &'a str) -> Result<&'a str, GraphError> {
        match self.node.attributes.get(name) {
            None => Ok(default),
            Some(Attribute::String(v)) => {
                std::str::from_utf8(v).map_err(|_| self.bad_attribute(name, "is not UTF-8"))
            }
            Some(_) => Err(self.bad_attribute(name, "is not a string")),
        }
    }

    /// One setting of a window or group: within `smallest ..= 2^24`.
    pub fn setting(&self, name: &str, value: i64, smallest: i64) -> Result<usize, GraphError> {
        if !(smallest..=LARGEST_SETTING).contains(&value) {
            return Err(
                self.bad_attribute(name, format!("is {value}, outside {smallest}..={LARGEST_SETTING}"))
            );
        }
        usize::try_from(value).map_err(|_| self.bad_attribute(name, format!("is {value}")))
    }

    /// `count` settings, or `None` where the attribute is absent.
    pub fn settings(
        &self,
        name: &str,
        count: usize,
        smallest: i64,
    ) -> Result<Option<Vec<usize>>, GraphError> {
        let Some(values) = self.ints(name)? else { return Ok(None) };
        if values.len() != count {
            let reason = format!("has {} entries where {count} are needed", values.len());
            return Err(self.bad_attribute(name, reason));
        }
        values.iter().map(|&v| self.setting(name, v, smallest)).collect::<Result<_, _>>().map(Some)
    }

    // --- inputs ---

    /// Element type of input `index`, if it is known.
    pub fn dtype(&self, index: usize) -> Option<DType> {
        let name = self.node.input(index)?;
        self.types
            .and_then(|types| types.get(name))
            .copied()
            .or_else(|| self.folded.get(name).map(Tensor::dtype))
    }

    pub fn require_inputs(&self, count: usize) -> Result<(), GraphError> {
        match (0..count).find(|&i| self.node.input(i).is_none()) {
            None => Ok(()),
            Some(index) => Err(GraphError::MissingInput {
                op: self.node.op.clone(),
                node: self.node.name.clone(),
                index,
            }),
        }
    }

    pub fn shape(&self, index: usize) -> Result<&'a [usize], GraphError> {
        self.require_inputs(index + 1)
            .or_else(|e| if self.node.input(index).is_some() { Ok(()) } else { Err(e) })?;
        let known = self.shapes.get(index).copied().flatten();
        let name = self.node.input(index).unwrap_or_default();
        known.or_else(|| self.graph.weights.get(name).map(|w| w.tensor.shape())).ok_or_else(|| {
            GraphError::UnknownShape {
                op: self.node.op.clone(),
                node: self.node.name.clone(),
                value: name.into(),
            }
        })
    }

    pub fn rank(&self, index: usize) -> Result<usize, GraphError> {
        Ok(self.shape(index)?.len())
    }

    /// The constant behind input `index`; `None` where the input is omitted.
    pub fn constant(&self, index: usize) -> Result<Option<&'a Tensor>, GraphError> {
        let Some(name) = self.node.input(index) else { return Ok(None) };
        let weight = self.graph.weights.get(name).map(|w| &w.tensor);
        match weight.or_else(|| self.folded.get(name)) {
            Some(tensor) => Ok(Some(tensor)),
            None => Err(GraphError::NotConstant {
                op: self.node.op.clone(),
                node: self.node.name.clone(),
                value: name.into(),
                advice: KMEANS_ADVICE.into(),
            }),
        }
    }

    /// A constant list of integers; `None` where the input is omitted.
    pub fn constant_ints(&self, index: usize) -> Result<Option<Vec<i64>>, GraphError> {
        let Some(tensor) = self.constant(index)? else { return Ok(None) };
        if tensor.shape().len() > 1 {
            return Err(self.bad_input(index, format!("has shape {:?}, a list is needed", tensor.shape())));
        }
        tensor.to_i64().map(Some).ok_or_else(|| self.bad_input(index, "does not hold integers"))
    }

    /// A constant single float; `None` where the input is omitted.
    pub fn constant_float(&self, index: usize) -> Result<Option<f32>, GraphError> {
        let Some(tensor) = self.constant(index)? else { return Ok(None) };
        match tensor.as_f32() {
            Some([v]) if !v.is_nan() => Ok(Some(*v)),
            Some([_]) => Err(self.bad_input(index, "is NaN")),
            Some(_) => {
                Err(self.bad_input(index, format!("has shape {:?}, not a single value", tensor.shape())))
            }
            None => Err(self.bad_input(index, "is not a 32-bit float")),
        }
    }

    /// Integers from an attribute or, in later operator sets, from a constant input.
    pub fn ints_of(&self, attribute: &str, index: usize) -> Result<Option<Vec<i64>>, GraphError> {
        match self.ints(attribute)? {
            Some(values) => Ok(Some(values.to_vec())),
            None => self.constant_ints(index),
        }
    }

    /// `axis` counted from the front, for tensors of `rank` axes.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize, GraphError> {
        let from_front = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        from_front
            .and_then(|a| usize::try_from(a).ok())
            .filter(|&a| a < rank)
            .ok_or_else(|| self.mismatch(format!("axis {axis} does not exist among {rank}")))
    }

    /// Distinct axes counted from the front, ascending.
    pub fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>, GraphError> {
        let mut found = Vec::new();
        for &a in axes {
            let axis = self.axis(a, rank)?;
            if found.contains(&axis) {
                return Err(self.mismatch(format!("axis {axis} is given twice")));
            }
            found.push(axis);
        }
        found.sort_unstable();
        Ok(found)
    }
}
