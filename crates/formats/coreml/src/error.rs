//! The errors of this crate, one variant per failure.

use std::path::PathBuf;

/// A node that Core ML has no counterpart for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// Name of the node.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What has no counterpart.
    pub what: String,
}

/// A network that cannot be written as a Core ML package, or a package that cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CoremlError {
    /// Nodes without a counterpart, all of them.
    #[error(
        "Core ML has no counterpart for {}; write .onnx or .slq instead, or export the network without them",
        show_nodes(.nodes)
    )]
    Operators {
        /// The nodes, in execution order.
        nodes: Vec<Unsupported>,
    },
    /// Weights whose codes have a width that Core ML lacks, all of them.
    #[error(
        "Core ML holds codes of 1, 2, 3, 4, 6 or 8 bits, not those of {}; choose another width, or let each take the next \
         one that there is (--round-up-widths: 5 bits as 6, 7 as 8)",
        show_widths(.weights)
    )]
    Widths {
        /// Names and bits.
        weights: Vec<(String, u8)>,
    },
    /// An input whose shape is open beyond the batch.
    #[error(
        "input '{input}' leaves an extent open, and a package has fixed shapes: export the network with a fixed input shape"
    )]
    OpenShape {
        /// The input.
        input: String,
    },
    /// An input or output that Core ML cannot take.
    #[error("'{value}' {what}, which no input or output of a Core ML package can be")]
    Feature {
        /// The input or output.
        value: String,
        /// What it is.
        what: String,
    },
    /// A graph without nodes.
    #[error("there is no network to write, weights alone make no Core ML package")]
    NoNetwork,
    /// A network that is not sound or cannot be typed.
    #[error(transparent)]
    Network(#[from] slq_graph::GraphError),
    /// A palette that cannot be packed.
    #[error("weight '{weight}': {source}")]
    Pack {
        /// The weight.
        weight: String,
        /// What is wrong.
        source: slq_codebook::PackError,
    },
    /// Something at the package's place that must not be replaced.
    #[error("'{path}': {what}")]
    Place {
        /// The path.
        path: PathBuf,
        /// Why not, and what to do.
        what: String,
    },
    /// A disk that refuses.
    #[error("'{path}': {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A package that was read back and is not what was to be written.
    #[error("'{path}' was written, but read back {what}; it was discarded, please report this")]
    Verify {
        /// The path.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
}

fn show_nodes(nodes: &[Unsupported]) -> String {
    let one = |n: &Unsupported| format!("'{}' ({}: {})", n.node, n.op, n.what);
    nodes.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn show_widths(weights: &[(String, u8)]) -> String {
    let one = |(name, bits): &(String, u8)| format!("'{name}' ({bits} bits)");
    weights.iter().map(one).collect::<Vec<_>>().join(", ")
}
