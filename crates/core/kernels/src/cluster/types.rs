//! What the clustering kernels share with their callers.

/// Running sums of the squared error; value `i` of a block goes to sum `i % LANES`.
pub const LANES: usize = 16;

/// Bins on one side of the pivot of a [`Spread`].
pub const SIDE: i32 = 1 << 15;

/// How values are spread over bins: evenly in `1 - s / (|x - pivot| + s)` on either side of the pivot, which is
/// fine near the pivot and reaches any distance. Every step rounds monotonically, so bins are intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The value between the two sides.
    pub pivot: f32,
    /// Distance from the pivot that half of a side's bins cover.
    pub s: f32,
}

/// Running sum, sum of squares, least and largest value of each lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extent {
    /// Sums of the values.
    pub sums: [f64; LANES],
    /// Sums of their squares.
    pub squares: [f64; LANES],
    /// Least values; `f32::MAX` in a lane without any.
    pub lows: [f32; LANES],
    /// Largest values; `f32::MIN` in a lane without any.
    pub highs: [f32; LANES],
}
