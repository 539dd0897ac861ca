//! Parallel matrix products whose bits do not depend on the number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatMut, MatRef, Par};
use rayon::prelude::*;

/// Panels that a product is cut into: enough for the threads of a large machine, few enough that each is a
/// sizeable product.
const PANELS: usize = 32;

/// `lhs * rhs`. Each panel of columns is one task, and the cut depends on the shape alone.
pub(crate) fn product(lhs: MatRef<'_, f64>, rhs: MatRef<'_, f64>) -> Mat<f64> {
    let (rows, cols) = (lhs.nrows(), rhs.ncols());
    let mut out = Mat::zeros(rows, cols);
    let width = cols.div_ceil(PANELS).max(8);
    let mut panels: Vec<(usize, MatMut<'_, f64>)> = Vec::with_capacity(cols.div_ceil(width));
    let mut rest = out.as_mut();
    let mut start = 0;
    while start < cols {
        let take = width.min(cols - start);
        let (panel, others) = rest.split_at_col_mut(take);
        panels.push((start, panel));
        rest = others;
        start += take;
    }
    panels.into_par_iter().for_each(|(start, mut panel)| {
        let width = panel.ncols();
        matmul(panel.as_mut(), Accum::Replace, lhs, rhs.subcols(start, width), 1.0, Par::Seq);
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_make_the_whole_product() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 7), (4, 9, 300), (40, 3, 257)] {
            let a = Mat::from_fn(m, k, |i, j| (i * 7 + j * 3) as f64 % 5.0 - 2.0);
            let b = Mat::from_fn(k, n, |i, j| (i * 5 + j * 2) as f64 % 7.0 - 3.0);
            let c = product(a.as_ref(), b.as_ref());
            for i in 0..m {
                for j in 0..n {
                    let want: f64 = (0..k).map(|p| a[(i, p)] * b[(p, j)]).sum();
                    assert_eq!(c[(i, j)], want, "{m} {k} {n}: ({i}, {j})"); // small integers: exact
                }
            }
        }
    }
}
