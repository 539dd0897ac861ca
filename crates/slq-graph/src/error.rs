//! What can be wrong with a graph.

/// A graph, tensor or palette that cannot be what it claims to be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// Shape and number of elements disagree.
    #[error("{elements} elements do not fill the shape {shape:?}")]
    ElementCount {
        /// Elements present.
        elements: usize,
        /// Shape declared.
        shape: Vec<usize>,
    },
    /// A palette that does not describe a tensor.
    #[error("invalid palette: {reason}")]
    Palette {
        /// What does not fit.
        reason: String,
    },
}
