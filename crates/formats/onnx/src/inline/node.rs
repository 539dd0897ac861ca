//! Nodes and the bodies that they hold, decoded as far as inlining has to look into them.

use prost::bytes::Bytes;

use crate::attribute::decode;
use crate::error::OnnxError;
use crate::proto::{AttributeHead, AttributeProto, Body, Named, NodeProto, TensorProto, kind};

/// Deepest nesting of bodies.
pub const MAX_BODIES: usize = 16;

/// A node with its attributes told apart.
pub struct Parts {
    /// The node without its attributes.
    pub node: NodeProto,
    pub attributes: Vec<Part>,
}

/// An attribute.
pub enum Part {
    /// One that is the same wherever the node stands.
    Plain(Bytes),
    /// One whose value is that of attribute `to` of the function.
    Reference { name: String, to: String, kind: i32 },
    /// One that holds bodies.
    Bodies(Box<AttributeProto>),
}

impl Parts {
    /// The parts of an encoded node.
    pub fn decode(bytes: &Bytes) -> Result<Self, OnnxError> {
        let mut node: NodeProto = decode(bytes.clone(), || "a node".into())?;
        let attributes = std::mem::take(&mut node.attribute).into_iter().map(|bytes| {
            let head: AttributeHead = decode(bytes.clone(), || "an attribute".into())?;
            let kind = head.kind.unwrap_or(0);
            if let Some(to) = head.ref_attr_name.filter(|r| !r.is_empty()) {
                return Ok(Part::Reference { name: head.name.unwrap_or_default(), to, kind });
            }
            match kind {
                kind::GRAPH | kind::GRAPHS => {
                    Ok(Part::Bodies(Box::new(decode(bytes, || "an attribute with bodies".into())?)))
                }
                _ => Ok(Part::Plain(bytes)),
            }
        });
        let attributes = attributes.collect::<Result<_, OnnxError>>()?;
        Ok(Self { node, attributes })
    }

    /// Whether this is a `Constant` that is the same in every call of its function.
    pub fn is_constant(&self) -> bool {
        let NodeProto { op_type, input, output, .. } = &self.node;
        op_type.as_deref() == Some("Constant")
            && domain(&self.node.domain).is_empty()
            && self.node.overload.as_ref().is_none_or(String::is_empty)
            && input.is_empty()
            && matches!(output.as_slice(), [name] if !name.is_empty())
            && matches!(self.attributes.as_slice(), [Part::Plain(_)])
    }
}

/// A domain in the spelling that is used here: ONNX's own is empty.
pub fn domain(domain: &Option<String>) -> &str {
    domain.as_deref().filter(|d| *d != "ai.onnx").unwrap_or_default()
}

/// What is met in a network.
pub enum Seen<'a> {
    Node(&'a NodeProto),
    /// A name that a body defines otherwise than by a node.
    Name(&'a str),
}

/// Shows `visit` all `nodes`, those of bodies included, and what bodies define.
pub fn walk(nodes: &[Bytes], visit: &mut dyn FnMut(Seen)) -> Result<(), OnnxError> {
    walk_from(nodes, 0, visit)
}

fn walk_from(nodes: &[Bytes], depth: usize, visit: &mut dyn FnMut(Seen)) -> Result<(), OnnxError> {
    for bytes in nodes {
        let parts = Parts::decode(bytes)?;
        visit(Seen::Node(&parts.node));
        for part in &parts.attributes {
            let Part::Bodies(attribute) = part else { continue };
            check_depth(&parts.node, depth)?;
            for bytes in attribute.g.iter().chain(&attribute.graphs) {
                let body = body(bytes)?;
                names_of_body(&body)?.iter().for_each(|name| visit(Seen::Name(name)));
                walk_from(&body.node, depth + 1, visit)?;
            }
        }
    }
    Ok(())
}

/// Checks that the bodies of `node`, itself `depth` bodies deep, are not too deep.
pub fn check_depth(node: &NodeProto, depth: usize) -> Result<(), OnnxError> {
    if depth < MAX_BODIES {
        return Ok(());
    }
    let label = node.name.as_ref().or(node.op_type.as_ref()).cloned().unwrap_or_default();
    Err(OnnxError::SubgraphDepth { node: label, limit: MAX_BODIES })
}

pub fn body(bytes: &Bytes) -> Result<Body, OnnxError> {
    decode(bytes.clone(), || "a body".into())
}

pub fn initializer(bytes: &Bytes) -> Result<TensorProto, OnnxError> {
    decode(bytes.clone(), || "an initializer of a body".into())
}

pub fn named(bytes: &Bytes) -> Result<Named, OnnxError> {
    decode(bytes.clone(), || "an input or output of a body".into())
}

/// The names of a body's inputs and initializers; one that is both counts once.
pub fn names_of_body(body: &Body) -> Result<Vec<String>, OnnxError> {
    let inputs = body.input.iter().map(|i| Ok(named(i)?.name));
    let tensors = body.initializer.iter().map(|t| Ok(initializer(t)?.name));
    let names = inputs.chain(tensors).collect::<Result<Vec<_>, OnnxError>>()?;
    let mut names: Vec<String> = names.into_iter().flatten().filter(|n| !n.is_empty()).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
