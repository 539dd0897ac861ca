//! What solving gives.

/// An optimal codebook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Solution {
    /// Ascending.
    pub codebook: Vec<f32>,
    /// Which entries were fixed.
    pub fixed: Vec<bool>,
    /// First value of every cluster but the first; infinite if no value follows.
    pub cuts: Vec<f32>,
    /// Lower bound on the squared error of any codebook that keeps the constraints.
    pub lower_bound: f64,
}
