//! The network section: metadata, inputs and outputs, declarations of weights, nodes.
//!
//! A compact binary form ([`encode()`], [`decode()`]) that is then deflated ([`deflate`]) with a dictionary of words
//! that networks are made of ([`words`]).

mod decode;
mod deflate;
mod encode;
#[cfg(test)]
mod tests;
mod words;

use slq_graph::{DType, Graph, TrainingRates};

pub(crate) use decode::decode;
pub(crate) use encode::encode;

/// How the values of a weight are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Form {
    /// As values, in a section that may hold several small weights.
    Values,
    /// As a palette: `groups` codebooks of `k` values, and a code for each value.
    Palette {
        /// Values of one codebook.
        k: usize,
        /// Number of codebooks.
        groups: usize,
    },
    /// As codes of a dictionary of its `k` different values; the weight has no palette.
    Dictionary {
        /// Number of different values.
        k: usize,
    },
}

/// What is known of a weight before it is decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightInfo {
    /// Name of the value.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub shape: Vec<usize>,
    /// How it is trained.
    pub rates: TrainingRates,
    /// How its values are stored.
    pub form: Form,
    /// Number of the section that holds them.
    pub section: usize,
}

impl WeightInfo {
    /// Number of values.
    pub fn count(&self) -> usize {
        // The reader has checked that the product does not overflow.
        self.shape.iter().product()
    }
}

/// The decoded section: the graph without its weights, and what they are.
#[derive(Debug, Clone)]
pub(crate) struct Network {
    pub graph: Graph,
    pub weights: Vec<WeightInfo>,
    /// Bytes of memory that the section and all weights take, at most.
    pub memory: u64,
}

/// Bytes of memory that parts of a network are counted with.
pub(crate) mod cost {
    /// A node, beside its texts.
    pub const NODE: u64 = 512;
    /// An input or output of the network, a weight, a property.
    pub const ENTRY: u64 = 256;
    /// An attribute, beside its values.
    pub const ATTRIBUTE: u64 = 192;
    /// A text, beside its bytes; a dimension; an item of a list.
    pub const ITEM: u64 = 64;
}

/// Bits of a weight's first byte.
mod flag {
    pub const DTYPE: u8 = 0x0f;
    pub const RATES: u8 = 0x10;
    pub const PALETTE: u8 = 0x20;
    pub const DICTIONARY: u8 = 0x40;
}
