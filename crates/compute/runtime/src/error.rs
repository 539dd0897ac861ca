//! Errors of loading a network.

use std::path::PathBuf;

use slq_engine::EngineError;
use slq_graph::GraphError;
use slq_kernels::packed::PackError;
use slq_pack::SlqError;

/// Why a network cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A `.slq` container.
    #[error(transparent)]
    Slq(#[from] SlqError),
    /// A palettized ONNX file.
    #[cfg(feature = "onnx")]
    #[error(transparent)]
    Onnx(#[from] slq_onnx::OnnxError),
    /// The network.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Planning or running.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Codes or codebooks of a weight that do not fit each other.
    #[error("weight `{name}`: {source}")]
    Codes {
        /// The weight.
        name: String,
        /// What is wrong.
        source: PackError,
    },
    /// A file that is no `.slq` container, read by a build without the feature `onnx`.
    #[error("'{path}' is not a .slq file, and this build reads no other format")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// A file that cannot be read.
    #[error("'{path}': {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}
