//! Attention, rotary positions and sampling by a grid.

/// Settings of `Attention`.
#[derive(Debug, Clone, PartialEq)]
pub struct Attention {
    /// Heads of Q where it is of three axes; `None` where Q, K and V are `[batch, heads, length, size]`.
    pub heads: Option<[usize; 2]>,
    /// Factor of the products of Q and K; 1 / sqrt(size of a head) where absent.
    pub scale: Option<f32>,
    /// Each position sees itself and those before it.
    pub causal: bool,
    /// The products become c tanh(products / c); 0 for none.
    pub softcap: f32,
    /// Which state of the products the fourth output is: 0 and 1 after the cap, 2 with the mask, 3 after the softmax.
    pub products: u8,
    /// How many keys before and after its own position a query sees; all where absent.
    pub window: [Option<usize>; 2],
    /// Keys of each batch that are no padding; empty where all are.
    pub lengths: Vec<usize>,
}

/// Settings of `RotaryEmbedding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotary {
    /// Heads where the data have three axes.
    pub heads: Option<usize>,
    /// Leading elements of each head that are turned; all where it is 0.
    pub turned: usize,
    /// Neighbours form a pair, else elements of the two halves do.
    pub interleaved: bool,
}

/// Settings of `GridSample`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// Nearest, linear or cubic (a = -0.75).
    pub interpolation: super::Interpolation,
    /// What lies outside.
    pub padding: GridPadding,
    /// -1 and 1 are the middles of the outermost elements, else their outer edges.
    pub align_corners: bool,
}

/// What lies outside the data of `GridSample`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GridPadding {
    Zeros,
    Border,
    Reflection,
}
