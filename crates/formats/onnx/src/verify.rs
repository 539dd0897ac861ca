//! Comparison of a graph with what its file gives back.

use prost::Message;
use slq_graph::{Graph, Node, Weight};

use crate::attribute::node_to_proto;
use crate::error::OnnxError;
use crate::options::WriteOptions;
use crate::palettize::Entry;
use crate::proto::NodeProto;
use crate::{extras, restore};

/// Whether `back` has the nodes of `graph` and all its weights, bit for bit.
pub fn same(graph: &Graph, back: &Graph, options: &WriteOptions) -> Result<(), OnnxError> {
    let fail = |reason: String| Err(OnnxError::ReadBack { reason });
    for (name, weight) in &graph.weights {
        let Some(read) = back.weights.get(name) else {
            return fail(format!("weight `{name}` is missing"));
        };
        if let Some(reason) = difference(name, weight, read, options) {
            return fail(format!("weight `{name}` {reason}"));
        }
    }
    // `Constant` nodes come back as weights.
    let kept = |g: &'_ Graph| g.nodes.iter().filter(|n| n.op != "Constant").count();
    let order = slq_graph::execution_order(graph)?;
    let pairs = order.into_iter().map(|i| &graph.nodes[i]).filter(|n| n.op != "Constant");
    let pairs = pairs.zip(back.nodes.iter().filter(|n| n.op != "Constant"));
    let changed = |(a, b): &(&Node, &Node)| encoded(a) != encoded(b);
    if let Some((node, _)) = pairs.into_iter().find(changed) {
        return fail(format!("node `{}` ({}) has changed", node.name, node.op));
    }
    let inputs = graph.free_inputs();
    if kept(graph) != kept(back) || !inputs.eq(&back.inputs) || graph.outputs != back.outputs {
        return fail("nodes, inputs or outputs are not the same".into());
    }
    let own = |key: &str| key == restore::PROPERTY || key.starts_with(extras::PREFIX);
    let properties = |g: &Graph| {
        let kept = g.metadata.properties.iter().filter(|(k, _)| !own(k));
        kept.map(|(k, v)| (k.clone(), v.clone())).collect::<Vec<_>>()
    };
    let (meta, read) = (&graph.metadata, &back.metadata);
    if properties(graph) != properties(back) || meta.opset != read.opset || meta.domains != read.domains {
        return fail("properties or operator sets are not the same".into());
    }
    Ok(())
}

/// A node without its name, which the reader may have given. Encoded, since NaN differs from itself.
fn encoded(node: &Node) -> Option<Vec<u8>> {
    let proto = node_to_proto(node).ok()?;
    Some(NodeProto { name: None, ..proto }.encode_to_vec())
}

fn difference(name: &str, weight: &Weight, read: &Weight, options: &WriteOptions) -> Option<&'static str> {
    if weight.tensor.shape() != read.tensor.shape() {
        return Some("has another shape");
    }
    if !weight.tensor.data().is_identical(read.tensor.data()) {
        return Some(if read.palette.is_some() {
            "has values that are not those of its palette"
        } else {
            "has other values"
        });
    }
    let stored = if options.dense { None } else { Entry::of(name, weight).and(weight.palette.as_ref()) };
    let same = match (stored, &read.palette) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is_identical(b),
        _ => false,
    };
    (!same).then_some("has another palette")
}
