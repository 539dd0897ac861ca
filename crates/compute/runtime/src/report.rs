//! What a loaded network holds, and what was expanded.

use std::fmt;

use slq_engine::NotPacked;
use slq_kernels::packed::PackError;

/// Why a palettized weight is floats in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// [`Expand`](crate::Expand) says so.
    Chosen,
    /// A node needs floats.
    Graph(NotPacked),
    /// Its codebooks do not belong to whole rows of its layer's matrix.
    Codebooks(PackError),
    /// It is not of type float.
    Type,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Chosen => f.write_str("it is small, or everything is expanded"),
            Reason::Graph(why) => why.fmt(f),
            Reason::Codebooks(why) => why.fmt(f),
            Reason::Type => f.write_str("it is not of 32-bit floats"),
        }
    }
}

/// A palettized weight that is floats in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// Its name.
    pub name: String,
    /// Bytes as floats.
    pub bytes: usize,
    /// Why.
    pub reason: Reason,
}

/// What a loaded network holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Weights that stay packed, with their bytes in memory.
    pub packed: Vec<(String, usize)>,
    /// Palettized weights that were expanded.
    pub expanded: Vec<Expanded>,
    /// Bytes of the weights without a palette.
    pub float_bytes: usize,
}

impl Report {
    /// Bytes of all packed weights.
    pub fn packed_bytes(&self) -> usize {
        self.packed.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes of all expanded weights.
    pub fn expanded_bytes(&self) -> usize {
        self.expanded.iter().map(|e| e.bytes).sum()
    }
}
