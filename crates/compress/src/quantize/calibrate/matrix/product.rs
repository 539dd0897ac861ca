//! The one place that calls the matrix product.

use slq_kernels::Isa;
pub(crate) use slq_kernels::gemm::Factor;
use slq_kernels::gemm::gemm;

/// What happens to the result's old content.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Update {
    /// Overwritten by the product.
    Set,
    /// The product is added.
    Add,
    /// The product is subtracted.
    Subtract,
}

/// `c = a b`, `c += a b` or `c -= a b` for `a` of m x k, `b` of k x n and `c` of m x n, all contiguous and row-major.
///
/// Runs on the current rayon pool; the bits do not depend on its number of threads.
pub(crate) fn multiply(
    isa: Isa,
    dims: [usize; 3],
    a: Factor<'_>,
    b: Factor<'_>,
    into: Update,
    c: &mut [f32],
) {
    let (alpha, beta) = match into {
        Update::Set => (1.0, 0.0),
        Update::Add => (1.0, 1.0),
        Update::Subtract => (-1.0, 1.0),
    };
    gemm(isa, dims, alpha, a, b, beta, c);
}
