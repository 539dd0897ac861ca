//! One layer of a job.

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
}
