//! Which operators are evaluated for tensors of any size, and what counts as small.

use crate::error::GraphError;
use crate::resolve::Context;
use crate::tensor::element_count;

/// Most elements of the result of an operator that is not among those of [`is_unlimited`]: shape arithmetic is small.
pub(crate) const LARGEST_SMALL: usize = 1 << 12;

/// Operators that are evaluated whatever the size of the result: it never has more elements than the inputs hold
/// together or broadcast to.
pub(crate) fn is_unlimited(op: &str) -> bool {
    is_reshaping(op)
        || matches!(op, "Transpose" | "Slice" | "Concat" | "Cast")
        || matches!(op, "Add" | "Sub" | "Mul" | "Div" | "Pow")
        || matches!(op, "Neg" | "Abs" | "Sqrt" | "Reciprocal" | "Exp" | "Log")
}

/// Operators that give their first input's elements in the same order under another shape.
pub(crate) fn is_reshaping(op: &str) -> bool {
    matches!(op, "Identity" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten")
}

/// The shape of a result if it is small.
pub(super) fn small(cx: &Context, shape: Vec<usize>) -> Result<Vec<usize>, GraphError> {
    match element_count(&shape) {
        Some(n) if n <= LARGEST_SMALL => Ok(shape),
        _ => Err(cx.mismatch("the constant becomes too large")),
    }
}
