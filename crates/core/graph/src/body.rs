//! Nodes inside the bodies of `If`, `Loop` and `Scan`, which a graph keeps as encoded bytes.

use std::collections::{BTreeMap, HashSet};

use prost::Message;
use prost::bytes::Bytes;

use crate::node::{Attribute, Node};

/// Deepest nesting of bodies that is looked into.
const MAX_DEPTH: usize = 16;
/// Attribute kinds of ONNX that are decoded here.
const INT: i32 = 2;
const STRING: i32 = 3;
const INTS: i32 = 7;

/// The fields of `AttributeProto` that are read here.
#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(int64, optional, tag = "3")]
    i: Option<i64>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    s: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    g: Option<Bytes>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    graphs: Vec<Bytes>,
    #[prost(int32, optional, tag = "20")]
    kind: Option<i32>,
}

/// The fields of `GraphProto` that are read here.
#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    node: Vec<Bytes>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<NamedProto>,
}

/// The name of a `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
struct NamedProto {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
}

/// The fields of `NodeProto` that are read here.
#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    name: Option<String>,
    #[prost(string, optional, tag = "4")]
    op_type: Option<String>,
    #[prost(bytes = "bytes", repeated, tag = "5")]
    attribute: Vec<Bytes>,
    #[prost(string, optional, tag = "7")]
    domain: Option<String>,
}

/// What the bodies of one node contain.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bodies {
    /// The nodes, those of nested bodies included, with their integer and string attributes.
    pub nodes: Vec<Node>,
    /// Names that the bodies read or hand out and do not write themselves, their own inputs and initializers included.
    pub reads: HashSet<String>,
}

impl Node {
    /// What the bodies of this node contain; empty for a node without bodies. `None` where an attribute that may be a
    /// body cannot be decoded, or nests too deeply.
    pub fn bodies(&self) -> Option<Bodies> {
        let mut found = Bodies::default();
        if !self.may_hold_subgraph() {
            return Some(found);
        }
        for attribute in self.attributes.values() {
            if let Attribute::Opaque(bytes) = attribute {
                let proto = AttributeProto::decode(bytes.as_slice()).ok()?;
                collect(proto, &mut found, 0)?;
            }
        }
        for output in found.nodes.iter().flat_map(|n| &n.outputs) {
            found.reads.remove(output);
        }
        Some(found)
    }
}

/// Adds the nodes of the graphs in `proto` to `found`.
fn collect(proto: AttributeProto, found: &mut Bodies, depth: usize) -> Option<()> {
    if depth >= MAX_DEPTH {
        return None;
    }
    for bytes in proto.g.into_iter().chain(proto.graphs) {
        let graph = GraphProto::decode(bytes).ok()?;
        found.reads.extend(graph.output.into_iter().filter_map(|o| o.name));
        for bytes in graph.node {
            let inner = NodeProto::decode(bytes).ok()?;
            let mut attributes = BTreeMap::new();
            let mut nested = Vec::new();
            for bytes in inner.attribute {
                let attribute = AttributeProto::decode(bytes).ok()?;
                if attribute.g.is_some() || !attribute.graphs.is_empty() {
                    nested.push(attribute);
                } else if let Some((name, value)) = plain(attribute) {
                    attributes.insert(name, value);
                }
            }
            found.reads.extend(inner.input.iter().filter(|i| !i.is_empty()).cloned());
            found.nodes.push(Node {
                name: inner.name.unwrap_or_default(),
                op: inner.op_type.unwrap_or_default(),
                domain: inner.domain.filter(|d| d != "ai.onnx").unwrap_or_default(),
                inputs: inner.input,
                outputs: inner.output,
                attributes,
            });
            for attribute in nested {
                collect(attribute, found, depth + 1)?;
            }
        }
    }
    Some(())
}

/// An integer or string attribute.
fn plain(proto: AttributeProto) -> Option<(String, Attribute)> {
    let value = match proto.kind? {
        INT => Attribute::Int(proto.i.unwrap_or(0)),
        STRING => Attribute::String(proto.s.unwrap_or_default().to_vec()),
        INTS => Attribute::Ints(proto.ints),
        _ => return None,
    };
    Some((proto.name?, value))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An encoded attribute `name` that holds a body of `nodes` (name, operator, inputs, output).
    pub(crate) fn body(name: &str, nodes: &[(&str, &str, &[&str], &str)], output: &str) -> Attribute {
        let node = |&(name, op, inputs, output): &(&str, &str, &[&str], &str)| {
            let proto = NodeProto {
                input: inputs.iter().map(|s| s.to_string()).collect(),
                output: vec![output.into()],
                name: Some(name.into()),
                op_type: Some(op.into()),
                ..NodeProto::default()
            };
            Bytes::from(proto.encode_to_vec())
        };
        let output = vec![NamedProto { name: Some(output.into()) }];
        let graph = GraphProto { node: nodes.iter().map(node).collect(), output };
        let proto = AttributeProto {
            name: Some(name.into()),
            g: Some(graph.encode_to_vec().into()),
            kind: Some(5),
            ..AttributeProto::default()
        };
        Attribute::Opaque(proto.encode_to_vec())
    }

    #[test]
    fn nodes_of_bodies_and_what_they_read_from_outside() {
        let inner: &[(&str, &str, &[&str], &str)] =
            &[("mm", "MatMul", &["x", "w"], "h"), ("add", "Add", &["h", "b"], "y")];
        let node = Node::new("if", "If", &["c"], &["z"]).with("then_branch", body("then_branch", inner, "y"));
        let bodies = node.bodies().unwrap();
        let names: Vec<&str> = bodies.nodes.iter().map(|n| n.name.as_str()).collect();
        assert_eq!(names, ["mm", "add"]);
        assert_eq!(bodies.reads, ["x", "w", "b"].map(String::from).into());
        assert_eq!(Node::new("r", "Relu", &["x"], &["y"]).bodies(), Some(Bodies::default()));
    }

    #[test]
    fn bytes_that_are_no_body_are_not_guessed_at() {
        let node =
            Node::new("if", "If", &["c"], &["z"]).with("then_branch", Attribute::Opaque(vec![0x32, 9]));
        assert_eq!(node.bodies(), None);
    }
}
