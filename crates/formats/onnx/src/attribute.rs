//! Nodes and their attributes.

use prost::Message;
use prost::bytes::Bytes;
use slq_graph::{Attribute, Node};

use crate::element;
use crate::error::OnnxError;
use crate::external::External;
use crate::proto::{AttributeProto, GraphProto, NodeProto, TensorProto, kind};

/// Deepest nesting of sub-graphs.
const MAX_DEPTH: usize = 16;

/// Decodes a message, naming the part of the file it stands for.
pub fn decode<M: Message + Default>(bytes: Bytes, what: impl Fn() -> String) -> Result<M, OnnxError> {
    M::decode(bytes).map_err(|source| OnnxError::Decode { what: what(), source })
}

/// The node of a message; `index` is its position, `external` gives the data of tensors stored elsewhere.
pub fn node_from_proto(proto: NodeProto, index: usize, external: &mut External) -> Result<Node, OnnxError> {
    let op = proto.op_type.filter(|op| !op.is_empty()).ok_or(OnnxError::UnnamedOperator { index })?;
    let name = proto.name.unwrap_or_default();
    let label = if name.is_empty() { format!("{op} (number {index})") } else { name.clone() };
    if proto.overload.is_some_and(|o| !o.is_empty()) {
        return Err(OnnxError::Overload { node: label });
    }
    let mut node = Node { name, op, inputs: proto.input, outputs: proto.output, ..Node::default() };
    // ONNX's own domain has two spellings.
    node.domain = proto.domain.filter(|d| d != "ai.onnx").unwrap_or_default();
    for bytes in proto.attribute {
        let (name, value) = attribute_from_proto(bytes, &label, external)?;
        node.attributes.insert(name, value);
    }
    Ok(node)
}

fn attribute_from_proto(
    bytes: Bytes,
    node: &str,
    external: &mut External,
) -> Result<(String, Attribute), OnnxError> {
    let proto: AttributeProto = decode(bytes.clone(), || format!("an attribute of node `{node}`"))?;
    let name = proto.name.clone().unwrap_or_default();
    let code = proto.kind.unwrap_or(0);
    if name.is_empty() || !(1..=kind::TYPE_PROTOS).contains(&code) {
        return Err(OnnxError::AttributeKind { node: node.into(), attribute: name, kind: code });
    }
    let opaque = || Ok(Attribute::Opaque(bytes.to_vec()));
    let value = if proto.ref_attr_name.as_ref().is_some_and(|r| !r.is_empty()) {
        opaque()
    } else {
        match code {
            kind::FLOAT => Ok(Attribute::Float(proto.f.unwrap_or(0.0))),
            kind::INT => Ok(Attribute::Int(proto.i.unwrap_or(0))),
            kind::STRING => Ok(Attribute::String(proto.s.unwrap_or_default().to_vec())),
            kind::FLOATS => Ok(Attribute::Floats(proto.floats)),
            kind::INTS => Ok(Attribute::Ints(proto.ints)),
            kind::STRINGS => Ok(Attribute::Strings(proto.strings.iter().map(|s| s.to_vec()).collect())),
            kind::TENSOR => {
                let tensor = proto.t.unwrap_or_default();
                match element::to_tensor(&tensor, &format!("{node}.{name}"), external) {
                    Ok(tensor) => Ok(Attribute::Tensor(tensor)),
                    Err(OnnxError::ElementType { .. }) if tensor.data_location != Some(1) => opaque(),
                    Err(e) => Err(e),
                }
            }
            _ => {
                refuse_external(&proto, node, 0)?;
                opaque()
            }
        }
    };
    Ok((name, value?))
}

/// Sub-graphs are kept as bytes, which would lose sight of data beside the file.
pub fn refuse_external(proto: &AttributeProto, node: &str, depth: usize) -> Result<(), OnnxError> {
    let what = || format!("a sub-graph of node `{node}`");
    if depth >= MAX_DEPTH {
        return Err(OnnxError::SubgraphDepth { node: node.into(), limit: MAX_DEPTH });
    }
    let check = |t: &TensorProto| {
        let external = t.data_location == Some(1);
        if external { Err(OnnxError::ExternalInSubgraph { node: node.into() }) } else { Ok(()) }
    };
    proto.t.iter().try_for_each(check)?;
    for bytes in &proto.tensors {
        check(&decode(bytes.clone(), what)?)?;
    }
    for bytes in proto.g.iter().chain(&proto.graphs) {
        let graph: GraphProto = decode(bytes.clone(), what)?;
        for bytes in graph.initializer {
            check(&decode(bytes, what)?)?;
        }
        for bytes in graph.node {
            let inner: NodeProto = decode(bytes, what)?;
            for bytes in inner.attribute {
                refuse_external(&decode(bytes, what)?, node, depth + 1)?;
            }
        }
    }
    Ok(())
}

/// The message of a node.
pub fn node_to_proto(node: &Node) -> Result<NodeProto, OnnxError> {
    let some = |s: &str| (!s.is_empty()).then(|| s.to_string());
    let attribute = |(name, value): (&String, &Attribute)| attribute_to_proto(name, value, node);
    Ok(NodeProto {
        input: node.inputs.clone(),
        output: node.outputs.clone(),
        name: some(&node.name),
        op_type: Some(node.op.clone()),
        domain: some(&node.domain).filter(|d| d != "ai.onnx"),
        overload: None,
        attribute: node.attributes.iter().map(attribute).collect::<Result<_, _>>()?,
    })
}

fn attribute_to_proto(name: &str, value: &Attribute, node: &Node) -> Result<Bytes, OnnxError> {
    let mut proto = AttributeProto { name: Some(name.into()), ..AttributeProto::default() };
    let code = match value {
        Attribute::Int(v) => {
            proto.i = Some(*v);
            kind::INT
        }
        Attribute::Float(v) => {
            proto.f = Some(*v);
            kind::FLOAT
        }
        Attribute::String(v) => {
            proto.s = Some(Bytes::copy_from_slice(v));
            kind::STRING
        }
        Attribute::Ints(v) => {
            proto.ints = v.clone();
            kind::INTS
        }
        Attribute::Floats(v) => {
            proto.floats = v.clone();
            kind::FLOATS
        }
        Attribute::Strings(v) => {
            proto.strings = v.iter().map(|s| Bytes::copy_from_slice(s)).collect();
            kind::STRINGS
        }
        Attribute::Tensor(t) => {
            proto.t = Some(element::from_tensor("", t)?);
            kind::TENSOR
        }
        Attribute::Opaque(bytes) => return Ok(Bytes::copy_from_slice(bytes)),
        _ => {
            return Err(OnnxError::AttributeKind {
                node: node.name.clone(),
                attribute: name.into(),
                kind: 0,
            });
        }
    };
    proto.kind = Some(code);
    Ok(Bytes::from(proto.encode_to_vec()))
}

/// A `Constant` node around a tensor whose element type a graph cannot hold (strings, 4-bit integers …).
pub fn opaque_constant(mut tensor: TensorProto, name: &str) -> Node {
    tensor.name = None;
    let proto = AttributeProto {
        name: Some("value".into()),
        t: Some(tensor),
        kind: Some(kind::TENSOR),
        ..AttributeProto::default()
    };
    Node::new("", "Constant", &[], &[name]).with("value", Attribute::Opaque(proto.encode_to_vec()))
}
