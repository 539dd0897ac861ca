//! Weights out of the bodies of `If`, `Loop` and `Scan`, so that they can be quantized like any other.
//!
//! A body may read every value of the graphs around it, so a constant means the same inside and outside. Float constants of
//! two and more axes become weights of the graph; the body keeps everything else, byte for byte.

use std::collections::{HashMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;
use slq_graph::{Attribute, Graph, Tensor, Weight};

use crate::attribute::decode;
use crate::element;
use crate::error::OnnxError;
use crate::external::External;
use crate::proto::{AttributeProto, Body, Named, NodeProto, TensorProto, kind};

/// Deepest nesting of bodies; the reader has refused deeper ones.
const MAX_DEPTH: usize = 16;

/// Moves the float constants of two and more axes from the bodies of all nodes to the weights of `graph`. A name that is
/// defined once stays; others (the branches of an `If` often use the same) get the node's name in front.
pub fn weights_of_bodies(graph: &mut Graph) -> Result<(), OnnxError> {
    let holders: Vec<usize> =
        (0..graph.nodes.len()).filter(|&i| graph.nodes[i].may_hold_subgraph()).collect();
    if holders.is_empty() {
        return Ok(());
    }
    let mut lift = Lift { defined: HashMap::new(), found: Vec::new(), holder: String::new() };
    let values = graph.nodes.iter().flat_map(|n| &n.outputs).chain(graph.weights.keys());
    let values = values.chain(graph.inputs.iter().map(|i| &i.name));
    values.for_each(|name| lift.define(name));
    for &i in &holders {
        for (_, proto) in attributes(&graph.nodes[i].attributes)? {
            lift.count(&proto, 0)?;
        }
    }
    for i in holders {
        let node = &mut graph.nodes[i];
        lift.holder = if node.name.is_empty() { format!("{}_{i}", node.op) } else { node.name.clone() };
        for (name, mut proto) in attributes(&node.attributes)? {
            if lift.attribute(&mut proto, &HashMap::new(), 0)? {
                node.attributes.insert(name, Attribute::Opaque(proto.encode_to_vec()));
            }
        }
    }
    for (name, tensor) in lift.found {
        if graph.weights.insert(name.clone(), Weight::from(tensor)).is_some() {
            return Err(OnnxError::DuplicateWeight { name });
        }
    }
    Ok(())
}

/// The attributes that hold bodies.
fn attributes(
    all: &std::collections::BTreeMap<String, Attribute>,
) -> Result<Vec<(String, AttributeProto)>, OnnxError> {
    let mut found = Vec::new();
    for (name, value) in all {
        let Attribute::Opaque(bytes) = value else { continue };
        let proto: AttributeProto = decode(Bytes::copy_from_slice(bytes), || format!("attribute `{name}`"))?;
        if holds_bodies(&proto) {
            found.push((name.clone(), proto));
        }
    }
    Ok(found)
}

fn holds_bodies(proto: &AttributeProto) -> bool {
    matches!(proto.kind, Some(kind::GRAPH | kind::GRAPHS))
}

struct Lift {
    /// How often each name is defined in the model.
    defined: HashMap<String, usize>,
    /// The weights so far.
    found: Vec<(String, Tensor)>,
    /// Name of the node whose bodies are read.
    holder: String,
}

impl Lift {
    fn define(&mut self, name: &str) {
        if !name.is_empty() {
            *self.defined.entry(name.into()).or_default() += 1;
        }
    }

    /// Counts the names that bodies define.
    fn count(&mut self, proto: &AttributeProto, depth: usize) -> Result<(), OnnxError> {
        self.check(depth)?;
        for bytes in proto.g.iter().chain(&proto.graphs) {
            let body: Body = decode(bytes.clone(), || "a body".into())?;
            for bytes in &body.initializer {
                let tensor: TensorProto = decode(bytes.clone(), || "an initializer of a body".into())?;
                self.define(&tensor.name.unwrap_or_default());
            }
            for input in names_of(&body.input)? {
                self.define(&input);
            }
            for bytes in &body.node {
                let node: NodeProto = decode(bytes.clone(), || "a node of a body".into())?;
                node.output.iter().for_each(|o| self.define(o));
                for bytes in &node.attribute {
                    let nested: AttributeProto = decode(bytes.clone(), || "an attribute of a body".into())?;
                    if holds_bodies(&nested) {
                        self.count(&nested, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn check(&self, depth: usize) -> Result<(), OnnxError> {
        if depth < MAX_DEPTH {
            return Ok(());
        }
        Err(OnnxError::SubgraphDepth { node: self.holder.clone(), limit: MAX_DEPTH })
    }

    /// Lifts what the bodies in `proto` hold and renames what they read; whether anything changed.
    fn attribute(
        &mut self,
        proto: &mut AttributeProto,
        renamed: &HashMap<String, String>,
        depth: usize,
    ) -> Result<bool, OnnxError> {
        self.check(depth)?;
        let mut changed = false;
        for bytes in proto.g.iter_mut().chain(&mut proto.graphs) {
            let mut body: Body = decode(bytes.clone(), || "a body".into())?;
            if self.body(&mut body, renamed, depth)? {
                *bytes = body.encode_to_vec().into();
                changed = true;
            }
        }
        Ok(changed)
    }

    fn body(
        &mut self,
        body: &mut Body,
        outer: &HashMap<String, String>,
        depth: usize,
    ) -> Result<bool, OnnxError> {
        let kept: HashSet<String> =
            names_of(&body.output)?.into_iter().chain(names_of(&body.input)?).collect();
        let (before, mut renamed) = (self.found.len(), outer.clone());
        let mut initializers = Vec::with_capacity(body.initializer.len());
        for bytes in std::mem::take(&mut body.initializer) {
            let tensor: TensorProto = decode(bytes.clone(), || "an initializer of a body".into())?;
            let name = tensor.name.clone().unwrap_or_default();
            if kept.contains(&name) || !self.take(&tensor, &name, &mut renamed)? {
                // A name of its own hides that of an outer weight.
                renamed.remove(&name);
                initializers.push(bytes);
            }
        }
        body.initializer = initializers;
        let mut nodes = Vec::with_capacity(body.node.len());
        for bytes in std::mem::take(&mut body.node) {
            let node: NodeProto = decode(bytes.clone(), || "a node of a body".into())?;
            match constant(&node)? {
                Some((name, tensor))
                    if !kept.contains(&name) && self.take(&tensor, &name, &mut renamed)? => {}
                _ => nodes.push((bytes, node)),
            }
        }
        let mut changed = self.found.len() != before;
        for (bytes, mut node) in nodes {
            let mut own = false;
            for input in &mut node.input {
                if let Some(new) = renamed.get(input) {
                    (*input, own) = (new.clone(), true);
                }
            }
            for bytes in &mut node.attribute {
                let mut nested: AttributeProto = decode(bytes.clone(), || "an attribute of a body".into())?;
                if holds_bodies(&nested) && self.attribute(&mut nested, &renamed, depth + 1)? {
                    (*bytes, own) = (nested.encode_to_vec().into(), true);
                }
            }
            body.node.push(if own { node.encode_to_vec().into() } else { bytes });
            changed |= own;
        }
        Ok(changed)
    }

    /// Takes a constant out of a body if it is a float of two and more axes that its file holds in full.
    fn take(
        &mut self,
        proto: &TensorProto,
        name: &str,
        renamed: &mut HashMap<String, String>,
    ) -> Result<bool, OnnxError> {
        let float = proto.data_type.and_then(element::dtype).is_some_and(slq_graph::DType::is_float);
        if !float || proto.dims.len() < 2 || name.is_empty() {
            return Ok(false);
        }
        let tensor = element::to_tensor(proto, name, &mut External::default())?;
        if tensor.is_empty() {
            return Ok(false);
        }
        let mut new = name.to_string();
        if self.defined.get(name).is_some_and(|&n| n > 1) {
            let candidates = (0usize..).map(|i| match i {
                0 => format!("{}.{name}", self.holder),
                i => format!("{}.{name}.{i}", self.holder),
            });
            new = candidates.into_iter().find(|c| !self.defined.contains_key(c)).unwrap_or_default();
            self.define(&new);
            renamed.insert(name.into(), new.clone());
        }
        self.found.push((new, tensor));
        Ok(true)
    }
}

fn names_of(infos: &[Bytes]) -> Result<Vec<String>, OnnxError> {
    let name = |bytes: &Bytes| {
        let info: Named = decode(bytes.clone(), || "an input or output of a body".into())?;
        Ok(info.name.unwrap_or_default())
    };
    infos.iter().map(name).collect()
}

/// Name and tensor of a `Constant` node.
fn constant(node: &NodeProto) -> Result<Option<(String, TensorProto)>, OnnxError> {
    let standard = node.domain.as_deref().is_none_or(|d| d.is_empty() || d == "ai.onnx");
    let ([output], [bytes], true) = (node.output.as_slice(), node.attribute.as_slice(), standard) else {
        return Ok(None);
    };
    if node.op_type.as_deref() != Some("Constant") {
        return Ok(None);
    }
    let proto: AttributeProto = decode(bytes.clone(), || "an attribute of a body".into())?;
    let referred = proto.ref_attr_name.as_ref().is_some_and(|r| !r.is_empty());
    let tensor = proto.t.filter(|_| proto.name.as_deref() == Some("value") && !referred);
    Ok(tensor.map(|t| (output.clone(), t)))
}
