//! Cholesky factors of damped second moments, in panels of columns.

use slq_engine::Isa;

use super::product::{Factor, Update, multiply};

/// Columns of a panel.
pub(crate) const PANEL: usize = 64;

/// The lower factor L of `H[order][order] = L L^T`. Panel p holds the rows from its first column on, row-major, so that
/// every block below a row is contiguous.
#[derive(Debug, Clone)]
pub(crate) struct Cholesky {
    /// Position in H of each of the factor's rows.
    pub order: Vec<usize>,
    /// (first column, columns, values) of each panel.
    pub panels: Vec<Panel>,
}

/// Columns `first..first + width` of a lower factor, rows from `first` on.
#[derive(Debug, Clone)]
pub(crate) struct Panel {
    pub first: usize,
    pub width: usize,
    pub values: Vec<f32>,
    /// Inverse of the triangle on the diagonal, width x width.
    inverse: Vec<f32>,
}

impl Panel {
    /// Rows from `row` on.
    pub fn rows_from(&self, row: usize) -> &[f32] {
        &self.values[(row - self.first) * self.width..]
    }
}

impl Cholesky {
    /// Factors the symmetric `n x n` matrix `h` with rows and columns taken in `order`; `None` where it is not positive
    /// definite in single precision.
    pub fn new(isa: Isa, h: &[f32], order: Vec<usize>) -> Option<Self> {
        let n = order.len();
        let mut factor = Cholesky { order, panels: Vec::with_capacity(n.div_ceil(PANEL)) };
        for first in (0..n).step_by(PANEL) {
            let width = PANEL.min(n - first);
            let mut values = Vec::with_capacity((n - first) * width);
            for &row in &factor.order[first..] {
                let row = &h[row * n..][..n];
                values.extend(factor.order[first..first + width].iter().map(|&column| row[column]));
            }
            for done in &factor.panels {
                let top = &done.rows_from(first)[..width * done.width];
                let dims = [n - first, width, done.width];
                let (a, b) = (Factor::plain(done.rows_from(first)), Factor::transposed(top));
                multiply(isa, dims, a, b, Update::Subtract, &mut values);
            }
            let inverse = factor_triangle(&mut values[..width * width], width)?;
            let below = values[width * width..].to_vec();
            let dims = [n - first - width, width, width];
            let (a, b) = (Factor::plain(&below), Factor::transposed(&inverse));
            multiply(isa, dims, a, b, Update::Set, &mut values[width * width..]);
            factor.panels.push(Panel { first, width, values, inverse });
        }
        Some(factor)
    }

    /// Solves `H Z = B` for the `n x columns` matrix `b`, which becomes Z. Its rows are in H's order.
    pub fn solve(&self, isa: Isa, b: &mut [f32], columns: usize) {
        let n = self.order.len();
        let mut z = Vec::with_capacity(b.len());
        for &row in &self.order {
            z.extend_from_slice(&b[row * columns..][..columns]);
        }
        let mut top = vec![0.0; PANEL * columns];
        for p in &self.panels {
            let (_, rest) = z.split_at_mut(p.first * columns);
            let (own, below) = rest.split_at_mut(p.width * columns);
            let top = &mut top[..own.len()];
            let dims = [p.width, columns, p.width];
            multiply(isa, dims, Factor::plain(&p.inverse), Factor::plain(own), Update::Set, top);
            own.copy_from_slice(top);
            let under = p.first + p.width;
            let dims = [n - under, columns, p.width];
            multiply(
                isa,
                dims,
                Factor::plain(p.rows_from(under)),
                Factor::plain(top),
                Update::Subtract,
                below,
            );
        }
        for p in self.panels.iter().rev() {
            let (_, rest) = z.split_at_mut(p.first * columns);
            let (own, below) = rest.split_at_mut(p.width * columns);
            let under = p.first + p.width;
            let dims = [p.width, columns, n - under];
            let left = Factor::transposed(p.rows_from(under));
            multiply(isa, dims, left, Factor::plain(below), Update::Subtract, own);
            let top = &mut top[..own.len()];
            let dims = [p.width, columns, p.width];
            multiply(isa, dims, Factor::transposed(&p.inverse), Factor::plain(own), Update::Set, top);
            own.copy_from_slice(top);
        }
        for (row, z) in self.order.iter().zip(z.chunks_exact(columns)) {
            b[row * columns..][..columns].copy_from_slice(z);
        }
    }
}

/// Factors the `n x n` matrix at the head of `values` in place (zeros above the diagonal) and returns the factor's
/// inverse; `None` where it is not positive definite.
fn factor_triangle(values: &mut [f32], n: usize) -> Option<Vec<f32>> {
    let mut l: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    // Below this a pivot is rounding, not information.
    let floor: Vec<f64> = (0..n).map(|i| 1e-7 * l[i * n + i].abs()).collect();
    for j in 0..n {
        let pivot = l[j * n + j] - (0..j).map(|k| l[j * n + k] * l[j * n + k]).sum::<f64>();
        if pivot.is_nan() || pivot <= floor[j] {
            return None;
        }
        let root = pivot.sqrt();
        l[j * n + j] = root;
        for i in j + 1..n {
            let dot: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            l[i * n + j] = (l[i * n + j] - dot) / root;
        }
    }
    let mut inverse = vec![0.0f64; n * n];
    for j in 0..n {
        inverse[j * n + j] = 1.0 / l[j * n + j];
        for i in j + 1..n {
            let dot: f64 = (j..i).map(|k| l[i * n + k] * inverse[k * n + j]).sum();
            inverse[i * n + j] = -dot / l[i * n + i];
        }
    }
    for i in 0..n {
        for j in 0..n {
            values[i * n + j] = if j <= i { l[i * n + j] as f32 } else { 0.0 };
        }
    }
    Some(inverse.into_iter().map(|v| v as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{gram, noise};
    use super::*;

    fn order(n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&i| (i * 7919) % 1013);
        order
    }

    #[test]
    fn the_factor_times_its_transpose_is_the_matrix() {
        for n in [1, 5, 64, 65, 150] {
            let h = gram(n, 2 * n, 3);
            let factor = Cholesky::new(Isa::detect(), &h, order(n)).unwrap();
            let at = |i: usize, j: usize| {
                let p = &factor.panels[j / PANEL];
                if i < j { 0.0 } else { f64::from(p.rows_from(i)[j - p.first]) }
            };
            for i in 0..n {
                for j in 0..=i {
                    let product: f64 = (0..=j).map(|k| at(i, k) * at(j, k)).sum();
                    let want = f64::from(h[factor.order[i] * n + factor.order[j]]);
                    assert!((product - want).abs() < 2e-6 * n as f64, "{n}: {i} {j} {product} {want}");
                }
            }
        }
    }

    #[test]
    fn solving_undoes_multiplying() {
        for n in [1, 9, 70, 130] {
            let h = gram(n, 3 * n, 5);
            let want = noise(n * 3, 6);
            let mut b = vec![0.0; n * 3];
            let isa = Isa::detect();
            multiply(isa, [n, 3, n], Factor::plain(&h), Factor::plain(&want), Update::Set, &mut b);
            Cholesky::new(isa, &h, order(n)).unwrap().solve(isa, &mut b, 3);
            for (got, want) in b.iter().zip(&want) {
                assert!((got - want).abs() < 2e-3, "{n}: {got} {want}");
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::new(Isa::detect(), &[1.0, 2.0, 2.0, 1.0], vec![0, 1]).is_none());
        assert!(Cholesky::new(Isa::detect(), &[1.0, 1.0, 1.0, 1.0], vec![0, 1]).is_none());
        assert!(Cholesky::new(Isa::detect(), &[f32::NAN], vec![0]).is_none());
    }
}
