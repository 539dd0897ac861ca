//! What can go wrong in a call.

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebError {
    /// No call has this number.
    #[error("there is no call {0}")]
    Call(u32),
    /// No choice has this number.
    #[error("{0} does not say what to expand: 0 is small layers, 1 all, 2 none")]
    Expand(u32),
    /// No open network has this number.
    #[error("there is no open network {0}; open its file first")]
    Network(u32),
    /// The last compression left no such part.
    #[error("there is no part {0}; compress a file first")]
    Part(u32),
    /// The argument of a run is not rank, extents and values.
    #[error("the input of a run is {bytes} bytes, which are not rank, extents and values")]
    Input {
        /// Length of the argument.
        bytes: usize,
    },
    /// A network without inputs or with several.
    #[error("the network has {0} inputs; the page runs networks with one")]
    Inputs(usize),
    /// The network has no output of floats.
    #[error("the network has no output of 32-bit floats")]
    Output,
    /// Widths outside 1 to 8.
    #[error("{0} bits are not between 1 and 8")]
    Bits(u32),
    /// Nothing to compress.
    #[error("the network has no weight that could get a codebook")]
    NoWeights,
    /// Neither format.
    #[error("the file is neither a .slq container nor an ONNX model: {0}")]
    Onnx(#[from] slq_onnx::OnnxError),
    /// The container.
    #[error(transparent)]
    Slq(#[from] slq_pack::SlqError),
    /// The runtime.
    #[error(transparent)]
    Runtime(#[from] slq_runtime::RuntimeError),
    /// A run.
    #[error(transparent)]
    Run(#[from] slq_runtime::EngineError),
    /// A tensor whose shape and values disagree.
    #[error(transparent)]
    Graph(#[from] slq_graph::GraphError),
    /// Clustering a weight.
    #[error("weight `{weight}`: {source}")]
    Cluster {
        /// Its name.
        weight: String,
        /// What is wrong.
        source: slq_codebook::ClusterError,
    },
    /// Codes and codebooks that disagree.
    #[error("weight `{weight}`: {source}")]
    Palette {
        /// Its name.
        weight: String,
        /// What is wrong.
        source: slq_codebook::PaletteError,
    },
}
