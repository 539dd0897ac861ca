//! The errors of this crate, one variant per failure.

/// Why a matrix could not be approximated or ranks could not be chosen.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LowRankError {
    /// Extents that the values do not fill, or that are zero.
    #[error("{values} values are no matrix of {rows} x {cols}")]
    Shape {
        /// Values given.
        values: usize,
        /// Rows asked for.
        rows: usize,
        /// Columns asked for.
        cols: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {index} is {value}, only finite matrices have singular values")]
    NotFinite {
        /// Position of the first such value, row-major.
        index: usize,
        /// The value found.
        value: f32,
    },
    /// The iteration for the singular values did not converge.
    #[error("the singular value decomposition did not converge")]
    NoConvergence,
    /// A rule whose number is out of range.
    #[error("{rule} {value} is out of range: {expected}")]
    Rule {
        /// The rule: energy, threshold, rank or rate.
        rule: &'static str,
        /// Its number.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
}
