//! What is asked of a codebook, and the optimal one.

/// Constraints on the codebook.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constraints<'a> {
    /// Entries of the codebook, fixed ones included.
    pub k: usize,
    /// Fixed centroids, ascending and distinct.
    pub fixed: &'a [f32],
    /// Smallest number of values in a free cluster.
    pub min_size: usize,
}

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
