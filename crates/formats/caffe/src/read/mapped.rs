//! What all layer types share: the outcome of mapping one, the types that are mapped, axes.

use super::builder::Builder;
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// What became of a layer.
pub(super) enum Mapped {
    /// Its nodes are in the graph.
    Done,
    /// Nothing was added; it has no counterpart, for this reason.
    Opaque(String),
}

/// Layer types with a counterpart; some of their settings have none.
pub(super) const MAPPED: [&str; 35] = [
    "AbsVal",
    "BNLL",
    "BatchNorm",
    "Bias",
    "Clip",
    "Concat",
    "Convolution",
    "ConvolutionDepthwise",
    "Crop",
    "Deconvolution",
    "DepthwiseConvolution",
    "Dropout",
    "ELU",
    "Eltwise",
    "Exp",
    "Flatten",
    "InnerProduct",
    "LRN",
    "Log",
    "PReLU",
    "Permute",
    "Pooling",
    "Power",
    "ReLU",
    "ReLU6",
    "Reduction",
    "Reshape",
    "Scale",
    "ShuffleChannel",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Split",
    "Swish",
    "TanH",
];

/// A possibly negative axis as an index below `rank`.
pub(super) fn axis(b: &Builder, layer: &LayerParameter, axis: i32, rank: usize) -> Result<usize, CaffeError> {
    let index = if axis < 0 { i64::from(axis) + rank as i64 } else { axis.into() };
    match usize::try_from(index) {
        Ok(index) if index < rank => Ok(index),
        _ => Err(b.bad(layer, "axis", format!("{axis} does not exist in {rank} axes"))),
    }
}
