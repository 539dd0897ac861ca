//! How models are written.

use std::path::PathBuf;

/// How a model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Store every weight as floats, quantized or not. By default weights whose palette is fully fixed are
    /// stored as codes and codebook.
    pub dense: bool,
    /// Store the weights of dense layers whose codebooks are evenly spaced in blocks of inputs as blocked `DequantizeLinear`, which
    /// onnxruntime keeps packed; for a graph of [`for_onnxruntime`](crate::for_onnxruntime).
    pub blocked: bool,
    /// Where the data of large tensors go.
    pub data: Data,
}

/// Where the data of tensors of more than 1 KiB go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Data {
    /// Into the model; into a file beside it where the model would exceed 2 GiB.
    #[default]
    AsNeeded,
    /// Into the model; one that would exceed 2 GiB is refused.
    Inside,
    /// Into a file beside the model.
    Beside,
}

/// The files that a model was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Bytes of the model and its data file.
    pub bytes: u64,
    /// The file beside the model that holds the data of its large tensors, if there is one.
    pub data: Option<PathBuf>,
    /// Files with names of data files of this model that the new one does not use.
    pub unused: Vec<PathBuf>,
}
