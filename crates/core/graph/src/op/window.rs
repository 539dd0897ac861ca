//! Windows of convolution and pooling.

/// How a window slides over the two spatial axes. Arrays are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Extent of the kernel.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Dilation of the kernel.
    pub dilations: [usize; 2],
    /// Padding: explicit, or to be derived from the input's extent.
    pub padding: Padding,
}

/// Padding of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
    /// `auto_pad = SAME_UPPER`: output = ceil(input / stride), the odd element at the end.
    SameUpper,
    /// `auto_pad = SAME_LOWER`: the odd element at the beginning.
    SameLower,
}
