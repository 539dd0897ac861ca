//! Which layer becomes what.

use super::builder::Builder;
use super::{conv, data, dense, pool, simple};
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// What became of a layer.
pub(super) enum Mapped {
    /// Its nodes are in the graph.
    Done,
    /// Nothing was added; it has no counterpart, for this reason.
    Opaque(String),
}

/// Adds all layers in order.
pub(super) fn add_all(b: &mut Builder, layers: &[LayerParameter]) -> Result<(), CaffeError> {
    for layer in layers {
        if data::add(b, layer)? {
            continue;
        }
        if let Mapped::Opaque(reason) = add(b, layer)? {
            return Err(b.bad(layer, "type", reason));
        }
    }
    Ok(())
}

fn add(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    match layer.r#type() {
        "Convolution" => conv::add(b, layer, false),
        "Deconvolution" => conv::add(b, layer, true),
        "InnerProduct" => dense::add(b, layer),
        "Pooling" => pool::add(b, layer),
        "ReLU" => simple::relu(b, layer),
        "Softmax" => simple::softmax(b, layer),
        other => Ok(Mapped::Opaque(format!("layer type `{other}` is not known"))),
    }
}

/// A possibly negative axis as an index below `rank`.
pub(super) fn axis(b: &Builder, layer: &LayerParameter, axis: i32, rank: usize) -> Result<usize, CaffeError> {
    let index = if axis < 0 { i64::from(axis) + rank as i64 } else { axis.into() };
    match usize::try_from(index) {
        Ok(index) if index < rank => Ok(index),
        _ => Err(b.bad(layer, "axis", format!("{axis} does not exist in {rank} axes"))),
    }
}
