//! The layers while they are being made: blobs, names, constants.

use std::collections::{HashMap, HashSet};

use slq_graph::op::Op;
use slq_graph::{Graph, Node, Shapes, TensorData, TrainingRates, element_count};

use crate::error::CaffeError;
use crate::names::Names;
use crate::proto::{BlobProto, BlobShape, LayerParameter, ParamSpec};

/// A blob, or `None` where shape and values disagree.
pub(super) fn blob(shape: Vec<usize>, values: Vec<f32>) -> Option<BlobProto> {
    if element_count(&shape) != Some(values.len()) {
        return None;
    }
    let dim = shape.iter().map(|&d| d as i64).collect();
    Some(BlobProto { shape: Some(BlobShape { dim }), data: values, ..BlobProto::default() })
}

/// Multipliers of the solver's rates; those of 1 are the default and left out.
pub(super) fn training(rates: TrainingRates) -> ParamSpec {
    ParamSpec {
        lr_mult: Some(rates.lr_mult).filter(|&m| m != 1.0),
        decay_mult: Some(rates.decay_mult).filter(|&m| m != 1.0),
        ..ParamSpec::default()
    }
}

pub(super) struct Writer<'g> {
    pub graph: &'g Graph,
    pub shapes: &'g Shapes,
    pub layers: Vec<LayerParameter>,
    /// Positions (in `shapes.ops()`) of nodes that an earlier layer has taken in.
    pub merged: HashSet<usize>,
    /// Values that are another value under Caffe's layers.
    aliases: HashMap<String, String>,
    /// Positions of the nodes that read each value.
    readers: HashMap<&'g str, Vec<usize>>,
    names: Names,
}

impl<'g> Writer<'g> {
    pub(super) fn new(graph: &'g Graph, shapes: &'g Shapes) -> Self {
        let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
        for (position, (index, _)) in shapes.ops().iter().enumerate() {
            for input in &graph.nodes[*index].inputs {
                readers.entry(input).or_default().push(position);
            }
        }
        Self {
            graph,
            shapes,
            layers: Vec::new(),
            merged: HashSet::new(),
            aliases: HashMap::new(),
            readers,
            names: Names::default(),
        }
    }

    /// An error about `node`.
    pub(super) fn no(&self, node: &Node, reason: impl Into<String>) -> CaffeError {
        CaffeError::NoLayer { node: node.name.clone(), op: node.op.clone(), reason: reason.into() }
    }

    /// The shape of input `i` of `node`.
    pub(super) fn shape(&self, node: &Node, i: usize) -> Result<&'g [usize], CaffeError> {
        let shape = node.input(i).and_then(|name| self.shapes.get(name));
        shape.ok_or_else(|| self.no(node, format!("the shape of input {i} is not known")))
    }

    /// The shape of output `i` of `node`.
    pub(super) fn out_shape(&self, node: &Node, i: usize) -> Result<&'g [usize], CaffeError> {
        let shape = node.outputs.get(i).and_then(|name| self.shapes.get(name));
        shape.ok_or_else(|| self.no(node, format!("the shape of output {i} is not known")))
    }

    /// The values of input `i` of `node` if it is a constant of floats.
    pub(super) fn constant(&self, node: &Node, i: usize) -> Option<&'g [f32]> {
        let name = node.input(i)?;
        let tensor = match self.graph.weights.get(name) {
            Some(weight) => &weight.tensor,
            None => self.shapes.constant(name)?,
        };
        match tensor.data() {
            TensorData::F32(values) => Some(values),
            _ => None,
        }
    }

    /// The blob name of input `i` of `node`, which must be an activation.
    pub(super) fn bottom(&self, node: &Node, i: usize) -> Result<String, CaffeError> {
        let name = node.input(i).ok_or_else(|| self.no(node, format!("input {i} is missing")))?;
        if self.graph.weights.contains_key(name) || self.shapes.constant(name).is_some() {
            return Err(self.no(node, format!("input {i} (`{name}`) is a constant")));
        }
        Ok(self.aliases.get(name).cloned().unwrap_or_else(|| name.into()))
    }

    /// Makes `value` another name of what blob `blob` holds.
    pub(super) fn alias(&mut self, value: &str, blob: String) {
        self.aliases.insert(value.into(), blob);
    }

    /// The position of the only node that reads `value`, unless the value is an output of the graph.
    pub(super) fn only_reader(&self, value: &str) -> Option<usize> {
        match self.readers.get(value)?.as_slice() {
            [one] if !self.graph.outputs.iter().any(|o| o.name == value) => Some(*one),
            _ => None,
        }
    }

    /// Whether nothing reads `value` and it is no output of the graph: in Caffe's nets it would be one.
    pub(super) fn is_idle(&self, value: &str) -> bool {
        !self.readers.contains_key(value) && !self.graph.outputs.iter().any(|o| o.name == value)
    }

    /// The node and operator at a position.
    pub(super) fn at(&self, position: usize) -> (&'g Node, &'g Op) {
        let (index, op) = &self.shapes.ops()[position];
        (&self.graph.nodes[*index], op)
    }

    /// A layer name that no other layer has.
    pub(super) fn name(&mut self, base: &str) -> String {
        self.names.unique(base)
    }

    /// Adds a layer of `kind` between blobs, changed by `set`.
    pub(super) fn layer(
        &mut self,
        name: &str,
        kind: &str,
        bottom: &[&str],
        top: &[&str],
        set: impl FnOnce(&mut LayerParameter),
    ) {
        let owned = |names: &[&str]| names.iter().map(|s| s.to_string()).collect();
        let mut layer = LayerParameter {
            name: Some(self.name(name)),
            r#type: Some(kind.into()),
            bottom: owned(bottom),
            top: owned(top),
            ..LayerParameter::default()
        };
        set(&mut layer);
        if layer.param.iter().all(|p| *p == ParamSpec::default()) {
            layer.param.clear();
        }
        self.layers.push(layer);
    }

    /// The blob of a weight, and how it is trained; weights that several nodes read are shared by name.
    pub(super) fn weight(
        &self,
        node: &Node,
        i: usize,
        shape: Vec<usize>,
    ) -> Result<(BlobProto, ParamSpec), CaffeError> {
        let name = node.input(i).unwrap_or_default();
        let not_constant = || self.no(node, format!("input {i} (`{name}`) is not a float constant"));
        let values = self.constant(node, i).ok_or_else(not_constant)?;
        let mut spec = ParamSpec::default();
        if let Some(weight) = self.graph.weights.get(name) {
            spec = training(weight.rates);
        }
        if self.readers.get(name).is_some_and(|r| r.len() > 1) {
            spec.name = Some(name.into());
        }
        let found = self.shape(node, i)?.to_vec();
        let blob = blob(shape.clone(), values.to_vec());
        let reason = || self.no(node, format!("input {i} has the shape {found:?}, not {shape:?}"));
        Ok((blob.ok_or_else(reason)?, spec))
    }

    /// A layer with one activation in and one out.
    pub(super) fn simple(
        &mut self,
        node: &Node,
        kind: &str,
        set: impl FnOnce(&mut LayerParameter),
    ) -> Result<(), CaffeError> {
        let bottom = self.bottom(node, 0)?;
        self.layer(&node.name, kind, &[&bottom], &[&node.outputs[0]], set);
        Ok(())
    }
}
