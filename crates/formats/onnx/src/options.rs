//! How models are written.

/// How a model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Store every weight as floats, quantized or not. By default weights whose palette is fully fixed are
    /// stored as codes and codebook.
    pub dense: bool,
}
