//! Errors, one variant each.

use std::path::PathBuf;

use slq_graph::GraphError;

/// A node that has no counterpart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What cannot be expressed.
    pub reason: String,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "'{}' ({}): {}", self.node, self.op, self.reason)
    }
}

/// Why a TensorFlow Lite file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TfliteError {
    /// What is wrong with a file.
    #[error("'{path}': {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<TfliteError>,
    },
    /// Nodes without counterpart; all of them.
    #[error(
        "{} cannot be written to a .tflite file: {}; replace them before the export, or write .onnx or .slq instead",
        if nodes.len() == 1 { "a node".to_string() } else { format!("{} nodes", nodes.len()) },
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    )]
    Unsupported {
        /// The nodes, in the network's order.
        nodes: Vec<Unsupported>,
    },
    /// Weights whose codebooks are larger than the format's tables; all of them.
    #[error(
        "the codebooks of {} have more than {} values, the most that a look-up table of a .tflite file has (7 bits): \
         compress with at most 7 bits, or write float32 weights with --dense",
        weights.join(", "),
        crate::LARGEST_TABLE
    )]
    TooWide {
        /// Names of the weights.
        weights: Vec<String>,
    },
    /// A network without nodes, such as the weights of a bare safetensors file.
    #[error("these are weights without a network, which a .tflite file cannot hold")]
    NoNetwork,
    /// More than the format's offsets reach.
    #[error("the network takes {bytes} bytes; a .tflite file holds less than 2 GiB")]
    TooLarge {
        /// Bytes of all constants.
        bytes: usize,
    },
    /// A value whose range is not known, so that integers cannot cover it.
    #[error(
        "the range of '{value}' is not known, so it cannot be written as integers; write floats (without --int8), or report this"
    )]
    NoRange {
        /// Its name.
        value: String,
    },
    /// The network is not sound, or its shapes cannot be known.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The bytes that were made do not hold the network.
    #[error("the file that was made does not hold the network ({what}); it was not kept: please report this")]
    ReadBack {
        /// The first difference.
        what: String,
    },
    /// The disk refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
