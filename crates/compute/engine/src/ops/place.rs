//! Where the tensors of a plan are stored.

use slq_graph::Graph;
use slq_kernels::Buffer;

/// Where a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// An omitted optional input.
    Absent,
    /// The first `len` values of a buffer.
    Slot { slot: usize, len: usize },
    /// A parameter, by its position among the graph's weights.
    Weight(usize),
}

/// The values of parameter `index`; empty where it is not of floats (which planning has ruled out).
pub(crate) fn weight(weights: &Graph, index: usize) -> &[f32] {
    weights.weights.get_index(index).and_then(|(_, w)| w.tensor.as_f32()).unwrap_or(&[])
}

/// The values at `place`; `buffers` are the plan's slots.
pub(crate) fn read<'a>(buffers: &'a [Buffer], weights: &'a Graph, place: Place) -> &'a [f32] {
    match place {
        Place::Absent => &[],
        Place::Slot { slot, len } => &buffers[slot][..len],
        Place::Weight(index) => weight(weights, index),
    }
}
