//! The span of the leading singular vectors from random combinations of the columns (randomised SVD).

use faer::{Mat, MatRef};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::product::product;

/// Power iterations: passes over the matrix and its transpose after the first. Weights of networks have slowly falling singular
/// values: five passes bring the error within a per cent of the optimum (tests/large.rs), two within five.
const PASSES: usize = 5;

/// Number of columns of the sketch, or `None` where the exact method costs no more.
pub(crate) fn width(rows: usize, cols: usize, rank: usize) -> Option<usize> {
    let full = rows.min(cols);
    let width = rank.checked_add((rank / 4).max(16))?;
    (full >= 256 && width.checked_mul(3)? <= full).then_some(width)
}

/// An orthonormal basis Q (rows x width) that nearly spans the leading left singular vectors of `matrix`, and
/// Q^T `matrix`.
pub(crate) fn project(matrix: MatRef<'_, f64>, width: usize, seed: u64) -> (Mat<f64>, Mat<f64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Random signs sketch as well as normal numbers do and need no transcendental functions.
    let signs =
        Mat::from_fn(matrix.ncols(), width, |_, _| if random.next_u32() & 1 == 0 { 1.0 } else { -1.0 });
    let mut basis = orthonormal(product(matrix, signs.as_ref()));
    for _ in 0..PASSES {
        let back = orthonormal(product(matrix.transpose(), basis.as_ref()));
        basis = orthonormal(product(matrix, back.as_ref()));
    }
    let coordinates = product(basis.as_ref().transpose(), matrix);
    (basis, coordinates)
}

fn orthonormal(columns: Mat<f64>) -> Mat<f64> {
    columns.qr().compute_thin_Q()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Svd;

    /// `rows` x `cols` values with singular values that fall like 1 / k^`decay`.
    fn weights(rows: usize, cols: usize, decay: f64) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let mut normal = |n: usize, k: usize| {
            orthonormal(Mat::from_fn(n, k, |_, _| f64::from(random.next_u32()) / 4e9 - 0.5))
        };
        let full = rows.min(cols);
        let (u, v) = (normal(rows, full), normal(cols, full));
        let scaled = Mat::from_fn(rows, full, |i, k| u[(i, k)] / ((k + 1) as f64).powf(decay));
        let all = product(scaled.as_ref(), v.as_ref().transpose());
        (0..rows * cols).map(|at| all[(at / cols, at % cols)] as f32).collect()
    }

    #[test]
    fn the_error_is_within_a_per_cent_of_the_optimum() {
        for (rows, cols, decay) in [(300, 500, 0.5), (500, 300, 0.2), (300, 500, 2.0)] {
            let values = weights(rows, cols, decay);
            let (exact, leading) =
                (Svd::exact(&values, rows, cols).unwrap(), Svd::leading(&values, rows, cols, 64, 1).unwrap());
            assert!(leading.singular_values().len() < exact.singular_values().len(), "not randomised");
            let (best, found) = (exact.squared_error(64), leading.squared_error(64));
            assert!(found >= best * 0.999_99 && found <= best * 1.01, "{decay}: {found} for {best}");
            let (left, right) = leading.factors(64);
            let entry = |at: usize| {
                let (i, j) = (at / cols, at % cols);
                (0..64).map(|k| f64::from(left[i * 64 + k]) * f64::from(right[j * 64 + k])).sum::<f64>()
            };
            let true_error: f64 =
                values.iter().enumerate().map(|(at, &v)| (entry(at) - f64::from(v)).powi(2)).sum();
            assert!((true_error - found).abs() < 1e-3 * found, "reported {found}, true {true_error}");
        }
    }

    #[test]
    fn threads_and_repetition_change_no_bit() {
        let values = weights(300, 400, 0.5);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Svd::leading(&values, 300, 400, 40, 3).unwrap().factors(40))
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn small_or_nearly_full_problems_are_solved_exactly() {
        assert_eq!(width(4096, 9216, 512), Some(640));
        assert_eq!(width(100, 9216, 10), None);
        assert_eq!(width(4096, 9216, 2000), None);
        assert_eq!(width(4096, 9216, usize::MAX), None);
    }
}
