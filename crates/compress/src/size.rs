//! Sizes of a network.

use serde::{Deserialize, Serialize};
use slq_graph::Graph;

/// Sizes of a network, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Four bytes for every parameter.
    pub dense_bytes: u64,
    /// Codes, codebooks and float parameters.
    pub stored_bytes: u64,
    /// The same with the codes at their entropy.
    pub entropy_bytes: u64,
    /// `dense_bytes / stored_bytes`.
    pub ratio: f64,
}

impl Size {
    /// The sizes of a network.
    pub fn of(graph: &Graph) -> Self {
        let total = slq_graph::stats::summary(graph).total;
        Self {
            dense_bytes: total.dense_bytes,
            stored_bytes: total.stored_bytes,
            entropy_bytes: total.entropy_bytes,
            ratio: total.ratio(),
        }
    }
}
