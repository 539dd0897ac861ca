//! Singular value decompositions and what is built from them.

use faer::{Mat, MatRef};

use crate::error::LowRankError;
use crate::randomised;

/// The leading part of a matrix's singular value decomposition, A = U diag(s) V^T, in 64-bit floats.
///
/// Matrices are row-major lists of values.
#[derive(Debug, Clone)]
pub struct Svd {
    rows: usize,
    cols: usize,
    /// `rows` x k and `cols` x k.
    u: Mat<f64>,
    v: Mat<f64>,
    /// k values, largest first.
    singular: Vec<f64>,
    energy: f64,
}

impl Svd {
    /// The whole decomposition of a `rows` x `cols` matrix.
    ///
    /// # Errors
    /// [`LowRankError::Shape`], [`LowRankError::NotFinite`], [`LowRankError::NoConvergence`].
    pub fn exact(values: &[f32], rows: usize, cols: usize) -> Result<Self, LowRankError> {
        let (matrix, energy) = matrix(values, rows, cols)?;
        Self::of(matrix.as_ref(), None, energy)
    }

    /// At least the `rank` leading singular values and vectors, nearly exact, by a randomised method where the
    /// rank is small against the matrix (Halko, Martinsson and Tropp 2011, algorithms 4.4 and 5.1).
    ///
    /// # Errors
    /// As [`Svd::exact`].
    pub fn leading(
        values: &[f32],
        rows: usize,
        cols: usize,
        rank: usize,
        seed: u64,
    ) -> Result<Self, LowRankError> {
        let Some(width) = randomised::width(rows, cols, rank) else { return Self::exact(values, rows, cols) };
        let (matrix, energy) = matrix(values, rows, cols)?;
        let (basis, coordinates) = randomised::project(matrix.as_ref(), width, seed);
        Self::of(coordinates.as_ref(), Some(basis), energy)
    }

    /// The decomposition of `matrix`, or of `basis * matrix` for an orthonormal basis.
    fn of(matrix: MatRef<'_, f64>, basis: Option<Mat<f64>>, energy: f64) -> Result<Self, LowRankError> {
        let svd = matrix.thin_svd().map_err(|_| LowRankError::NoConvergence)?;
        let singular: Vec<f64> = svd.S().column_vector().iter().copied().collect();
        let u = match &basis {
            Some(basis) => crate::product::product(basis.as_ref(), svd.U()),
            None => svd.U().to_owned(),
        };
        let v = svd.V().to_owned();
        Ok(Self { rows: u.nrows(), cols: v.nrows(), u, v, singular, energy })
    }

    /// Rows of the matrix.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of the matrix.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The largest rank the matrix can have.
    pub fn full_rank(&self) -> usize {
        self.rows.min(self.cols)
    }

    /// The singular values found, largest first: all of them, or the leading ones.
    pub fn singular_values(&self) -> &[f64] {
        &self.singular
    }

    /// The sum of all squared singular values: the squared Frobenius norm of the matrix.
    pub fn energy(&self) -> f64 {
        self.energy
    }

    /// The squared Frobenius distance between the matrix and its approximation of `rank`.
    pub fn squared_error(&self, rank: usize) -> f64 {
        if self.singular.len() == self.full_rank() {
            // Summed from the small end: differences of large sums would lose small errors.
            return self.singular.iter().skip(rank).rev().map(|s| s * s).sum();
        }
        (self.energy - self.singular.iter().take(rank).map(|s| s * s).sum::<f64>()).max(0.0)
    }

    /// The two thin factors of the approximation of `rank` (at most the number of singular values found): L of
    /// `rows` x `rank` and R of `cols` x `rank` with A = L R^T, each with the square roots of the singular values.
    pub fn factors(&self, rank: usize) -> (Vec<f32>, Vec<f32>) {
        let rank = rank.min(self.singular.len());
        let factor = |m: &Mat<f64>| {
            let mut out = Vec::with_capacity(m.nrows() * rank);
            for i in 0..m.nrows() {
                out.extend((0..rank).map(|k| (m[(i, k)] * self.singular[k].sqrt()) as f32));
            }
            out
        };
        (factor(&self.u), factor(&self.v))
    }

    /// The approximation of `rank` with every singular value lowered by `shrink`, but not below zero; row-major.
    pub fn approximation(&self, rank: usize, shrink: f64) -> Vec<f32> {
        let rank = rank.min(self.singular.len());
        let scaled =
            Mat::from_fn(self.rows, rank, |i, k| self.u[(i, k)] * (self.singular[k] - shrink).max(0.0));
        // The transpose: its columns are the rows that are handed out.
        let product = crate::product::product(self.v.as_ref().subcols(0, rank), scaled.as_ref().transpose());
        (0..self.rows).flat_map(|i| product.col(i).iter().map(|&v| v as f32).collect::<Vec<_>>()).collect()
    }
}

/// The matrix in 64-bit floats and its squared Frobenius norm.
fn matrix(values: &[f32], rows: usize, cols: usize) -> Result<(Mat<f64>, f64), LowRankError> {
    if rows.checked_mul(cols) != Some(values.len()) || values.is_empty() {
        return Err(LowRankError::Shape { values: values.len(), rows, cols });
    }
    if let Some(index) = values.iter().position(|v| !v.is_finite()) {
        return Err(LowRankError::NotFinite { index, value: values[index] });
    }
    let energy = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    Ok((Mat::from_fn(rows, cols, |i, j| f64::from(values[i * cols + j])), energy))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn times(left: &[f32], right: &[f32], rows: usize, cols: usize, rank: usize) -> Vec<f64> {
        let entry = |i: usize, j: usize| {
            (0..rank).map(|k| f64::from(left[i * rank + k]) * f64::from(right[j * rank + k])).sum()
        };
        (0..rows * cols).map(|at| entry(at / cols, at % cols)).collect()
    }

    fn distance(a: &[f64], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(a, &b)| (a - f64::from(b)).powi(2)).sum()
    }

    #[test]
    fn a_known_decomposition() {
        // Rows orthogonal: the singular values are their lengths.
        let svd = Svd::exact(&[3.0, 4.0, 0.0, -0.8, 0.6, 0.0], 2, 3).unwrap();
        assert_eq!((svd.rows(), svd.cols(), svd.full_rank()), (2, 3, 2));
        let s = svd.singular_values();
        assert!((s[0] - 5.0).abs() < 1e-6 && (s[1] - 1.0).abs() < 1e-6, "{s:?}");
        assert!((svd.energy() - 26.0).abs() < 1e-5 && (svd.squared_error(1) - 1.0).abs() < 1e-5);
        let shrunk = svd.approximation(2, 1.0);
        let want = [2.4, 3.2, 0.0, 0.0, 0.0, 0.0];
        assert!(shrunk.iter().zip(want).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{shrunk:?}");
    }

    #[test]
    fn matrices_that_are_none_are_refused() {
        assert!(matches!(Svd::exact(&[], 0, 3), Err(LowRankError::Shape { .. })));
        assert!(matches!(Svd::exact(&[1.0; 5], 2, 3), Err(LowRankError::Shape { values: 5, .. })));
        assert!(matches!(Svd::exact(&[1.0], usize::MAX, 2), Err(LowRankError::Shape { .. })));
        let nan = Svd::leading(&[1.0, f32::NAN], 1, 2, 1, 0);
        assert!(matches!(nan, Err(LowRankError::NotFinite { index: 1, .. })));
    }

    #[test]
    fn a_zero_matrix_has_zero_factors() {
        let svd = Svd::exact(&[0.0; 12], 3, 4).unwrap();
        assert_eq!(svd.factors(1), (vec![0.0; 3], vec![0.0; 4]));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn factors_and_errors_agree_at_every_rank(
            rows in 1usize..9, cols in 1usize..9, seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
            };
            let values: Vec<f32> = (0..rows * cols).map(|_| next()).collect();
            let svd = Svd::exact(&values, rows, cols).unwrap();
            for rank in 1..=svd.full_rank() {
                let (left, right) = svd.factors(rank);
                let error = distance(&times(&left, &right, rows, cols, rank), &values);
                prop_assert!((error - svd.squared_error(rank)).abs() < 1e-5 * (1.0 + svd.energy()));
                let product = times(&left, &right, rows, cols, rank);
                let same = distance(&product, &svd.approximation(rank, 0.0));
                prop_assert!(same < 1e-9, "{same}");
            }
            prop_assert!(svd.squared_error(svd.full_rank()) == 0.0);
        }
    }
}
