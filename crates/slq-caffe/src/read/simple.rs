//! Layers that look at each element by itself, and softmax.

use slq_graph::{Attribute, Node};

use super::builder::Builder;
use super::layers::{Mapped, axis};
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// A layer with one input, one output of the same shape and no settings but `attributes`.
pub(super) fn unary(
    b: &mut Builder,
    layer: &LayerParameter,
    op: &str,
    attributes: &[(&str, Attribute)],
) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    let output = b.top(layer, 0, input.shape)?;
    let mut node = Node::new(layer.name(), op, &[&input.name], &[&output]);
    for (name, value) in attributes {
        node = node.with(name, value.clone());
    }
    b.push(node);
    Ok(Mapped::Done)
}

/// `ReLU`, with a slope for negative values if it has one.
pub(super) fn relu(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    match layer.relu_param.unwrap_or_default().negative_slope() {
        0.0 => unary(b, layer, "Relu", &[]),
        slope => unary(b, layer, "LeakyRelu", &[("alpha", Attribute::Float(slope))]),
    }
}

/// `Softmax` along one axis.
pub(super) fn softmax(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let wanted = layer.softmax_param.unwrap_or_default().axis();
    let along = match b.bottom(layer, 0)?.shape {
        Some(shape) => axis(b, layer, wanted, shape.len())? as i64,
        None => wanted.into(),
    };
    unary(b, layer, "Softmax", &[("axis", Attribute::Int(along))])
}
