//! What a writer tells about its file.

use crate::rounding::{FloatStorage, RoundingError};

/// Sizes of a file's parts, and what is not stored as it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Bytes of the file.
    pub bytes: u64,
    /// Header and sections, in the order of the file; their bytes add up to the file's.
    pub sections: Vec<SectionReport>,
    /// Binary decisions of adaptive coding that reading all weights takes.
    pub decisions: u64,
    /// What is not stored as it was given.
    pub notes: Vec<Note>,
}

/// One part of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SectionReport {
    /// `header`, `network`, `codes`, `values` or `padding`.
    pub kind: &'static str,
    /// The weights in it.
    pub weights: Vec<String>,
    /// Their number of values.
    pub values: u64,
    /// Bytes it takes.
    pub bytes: u64,
    /// Bytes at the order-0 entropy of the codes of each weight, with 4 bytes for each value of a codebook; plain
    /// bytes for values.
    pub order0_bytes: f64,
}

impl SectionReport {
    pub(crate) fn new(kind: &'static str, bytes: usize) -> Self {
        Self { kind, weights: Vec::new(), values: 0, bytes: bytes as u64, order0_bytes: 0.0 }
    }
}

/// Something that is not stored as it was given.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// A palette that is not fully fixed: the weight is stored as values, without it.
    PartlyFixed {
        /// The weight.
        weight: String,
        /// Values that are fixed.
        fixed: usize,
        /// All values.
        of: usize,
    },
    /// Values in fewer bits, as asked.
    Rounded {
        /// The weight.
        weight: String,
        /// How it is stored.
        storage: FloatStorage,
        /// How far the stored values are from the given ones.
        error: RoundingError,
    },
    /// Values that were to be stored in fewer bits and cannot be.
    KeptExact {
        /// The weight.
        weight: String,
        /// How it was to be stored.
        storage: FloatStorage,
    },
    /// Zeros at the end of the file, which would otherwise be too small for what it unpacks to.
    Padded {
        /// How many.
        bytes: u64,
    },
}

impl std::fmt::Display for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Note::PartlyFixed { weight, fixed, of } => write!(
                f,
                "`{weight}` is stored as values without its palette: {fixed} of {of} values are fixed"
            ),
            Note::Rounded { weight, storage, error } => {
                let bits = if *storage == FloatStorage::Half { 16 } else { 8 };
                let RoundingError { max_abs, max_relative } = error;
                write!(
                    f,
                    "`{weight}` is stored in {bits} bits: off by at most {max_abs:e}, relative {max_relative:e}"
                )
            }
            Note::KeptExact { weight, storage: FloatStorage::Half } => {
                write!(f, "`{weight}` is stored exactly: 16-bit floats cannot hold all of its values")
            }
            Note::KeptExact { weight, .. } => {
                write!(f, "`{weight}` is stored exactly: its values do not span 256 even steps")
            }
            Note::Padded { bytes } => {
                write!(f, "{bytes} zeros are added, since the network is almost constant")
            }
        }
    }
}
