//! Resampling.

/// How `Resize` makes its output.
#[derive(Debug, Clone, PartialEq)]
pub struct Resize {
    /// Shape of the output.
    pub shape: Vec<usize>,
    /// Factor of each axis, as the node gives it or as the extents do; above 0.
    pub scales: Vec<f32>,
    /// What is computed from neighbouring elements.
    pub interpolation: Interpolation,
    /// Where an element of the output lies in the input.
    pub coordinates: Coordinates,
    /// Whether a filter that is as wide as the step between elements is used where the output is smaller.
    pub antialias: bool,
    /// Whether elements outside the input have no weight; else the border repeats.
    pub exclude_outside: bool,
}

/// What is computed from neighbouring elements.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Interpolation {
    /// The nearest one.
    Nearest(Rounding),
    /// The two neighbours along each axis, by their distance.
    Linear,
    /// Four neighbours along each axis.
    Cubic {
        /// The coefficient a of the cubic.
        a: f32,
    },
}

/// How a coordinate becomes an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Rounding {
    /// To the nearest; halves down.
    PreferFloor,
    /// To the nearest; halves up.
    PreferCeil,
    Floor,
    Ceil,
}

/// Where an element of the output lies in the input, along each axis (x of the output, s the scale).
#[derive(Debug, Clone, PartialEq)]
pub enum Coordinates {
    /// (x + 1/2) / s - 1/2.
    HalfPixel,
    /// As `HalfPixel`, but 0 where the output has one element.
    PytorchHalfPixel,
    /// As `HalfPixel`, about the middle of the input where the output's extent had to be rounded.
    HalfPixelSymmetric,
    /// The first and last elements of input and output lie on each other.
    AlignCorners,
    /// x / s.
    Asymmetric,
    /// (x + 1/2) / s (operator set 11).
    TfHalfPixel,
    /// A box of the input, which may reach beyond it.
    Crop {
        /// Start and end along each axis, in units of the extent.
        roi: Vec<[f32; 2]>,
        /// The value outside the input.
        outside: f32,
    },
}
