//! One layer of a job.

use slq_codebook::{HALF, SINGLE, stored_bytes};

/// One weight tensor that a run moves onto codebooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Name of the weight.
    pub weight: String,
    /// Name of the node that reads it.
    pub node: String,
    /// Weights in the tensor.
    pub count: usize,
    /// Codebooks: equal, contiguous runs of weights.
    pub groups: usize,
    /// Codebooks that the granularity asks for; more than `groups` where so many would cost more than they save.
    pub asked: usize,
    /// Centroids of each codebook (K).
    pub size: usize,
    /// Whether the method rounds centroids to 16-bit floats: where there are several codebooks, they are stored so.
    pub half: bool,
}

impl Layer {
    /// Bytes of codes and codebooks.
    pub fn stored_bytes(&self) -> usize {
        stored_bytes(self.count, self.groups, self.size, centroid_bytes(self.half, self.groups))
    }
}

/// Bytes of a centroid in a file.
pub(crate) fn centroid_bytes(half: bool, groups: usize) -> usize {
    if half && groups > 1 { HALF } else { SINGLE }
}
