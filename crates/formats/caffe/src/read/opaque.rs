//! Layers without a counterpart: kept whole, so that their weights and settings survive.

use prost::Message as _;
use slq_graph::{Attribute, Node};

use super::builder::Builder;
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// Layer types of Caffe and its well-known forks that are kept; any other name is taken for a mistake.
const KEPT: [&str; 17] = [
    "ArgMax",
    "Axpy",
    "BatchReindex",
    "DetectionOutput",
    "Embed",
    "Filter",
    "Im2col",
    "LSTM",
    "MVN",
    "Normalize",
    "Parameter",
    "PriorBox",
    "Python",
    "RNN",
    "SPP",
    "Threshold",
    "Tile",
];

/// Adds a node of the domain `caffe` whose inputs are the bottoms and the blobs, and whose attribute `layer`
/// is the encoded layer without its blobs.
pub(super) fn add(b: &mut Builder, layer: &LayerParameter, reason: String) -> Result<(), CaffeError> {
    let kind = layer.r#type();
    let mapped = super::mapped::MAPPED.contains(&kind);
    if !mapped && !KEPT.contains(&kind) || layer.bottom.is_empty() || layer.top.is_empty() {
        return Err(b.bad(layer, "type", reason));
    }
    let mut inputs = Vec::new();
    for i in 0..layer.bottom.len() {
        inputs.push(b.bottom(layer, i)?.name);
    }
    for i in 0..b.blobs.count(layer).unwrap_or(0) {
        inputs.push(b.raw_blob(layer, i)?);
    }
    let mut outputs = Vec::new();
    for i in 0..layer.top.len() {
        outputs.push(b.top(layer, i, None)?);
    }
    let mut node = Node::new(layer.name(), kind, &[], &[]);
    node.domain = "caffe".into();
    node.inputs = inputs;
    node.outputs = outputs;
    let settings = LayerParameter { blobs: Vec::new(), ..layer.clone() };
    b.push(node.with("layer", Attribute::String(settings.encode_to_vec())));
    b.info.opaque.push((layer.name().into(), reason));
    Ok(())
}
