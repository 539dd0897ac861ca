//! How models are written.

/// How a model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Store every weight as floats, quantized or not. By default weights whose palette is fully fixed are
    /// stored as codes and codebook.
    pub dense: bool,
    /// Store the weights of dense layers whose codebooks are evenly spaced in blocks of inputs as blocked `DequantizeLinear`, which
    /// onnxruntime keeps packed; for a graph of [`for_onnxruntime`](crate::for_onnxruntime).
    pub blocked: bool,
}
