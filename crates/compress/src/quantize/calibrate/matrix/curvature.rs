//! The quadratic form of a layer's output error: H = X X^T / N + delta I, dense or in the span of its samples.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use slq_engine::Isa;

use super::factor::Cholesky;
use super::product::{Factor, Update, multiply};

/// H of one group of a layer: an error e of a weight row costs e H e^T.
#[derive(Debug)]
pub struct Curvature {
    /// Added to the diagonal, column by column.
    damping: Vec<f32>,
    form: Form,
    /// Made when first asked for; `None` inside where H is not positive definite in single precision.
    factor: OnceLock<Option<Cholesky>>,
}

#[derive(Debug)]
enum Form {
    /// H itself, n x n, with the damping on its diagonal.
    Dense(Vec<f32>),
    /// X / sqrt(N), n x k row-major, for fewer samples k than columns n.
    Span { x: Vec<f32>, samples: usize },
}

impl Curvature {
    /// From the symmetric matrix X X^T / N, and what is added to the diagonal of each column.
    pub(crate) fn dense(mut h: Vec<f32>, damping: Vec<f32>) -> Self {
        let n = damping.len();
        damping.iter().enumerate().for_each(|(i, d)| h[i * n + i] += d);
        Self { damping, form: Form::Dense(h), factor: OnceLock::new() }
    }

    /// From samples scaled by 1 / sqrt(N), columns x samples row-major.
    pub(crate) fn span(x: Vec<f32>, damping: Vec<f32>) -> Self {
        let samples = x.len() / damping.len();
        Self { damping, form: Form::Span { x, samples }, factor: OnceLock::new() }
    }

    /// The identity: every weight counts alike, as in plain k-means.
    pub fn identity(columns: usize) -> Self {
        Self::span(Vec::new(), vec![1.0; columns])
    }

    /// Inputs that each weight row meets.
    pub fn columns(&self) -> usize {
        self.damping.len()
    }

    /// What was added to the diagonal of each column.
    pub fn damping(&self) -> &[f32] {
        &self.damping
    }

    /// The diagonal of H.
    pub fn diagonal(&self) -> Vec<f32> {
        let n = self.columns();
        match &self.form {
            Form::Dense(h) => (0..n).map(|i| h[i * n + i]).collect(),
            Form::Span { x, samples } => {
                let square = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() as f32;
                (0..n).map(|i| self.damping[i] + square(&x[i * samples..][..*samples])).collect()
            }
        }
    }

    /// H over a range of columns, row-major.
    pub(crate) fn block(&self, isa: Isa, range: Range<usize>) -> Cow<'_, [f32]> {
        let (n, b) = (self.columns(), range.len());
        match &self.form {
            Form::Dense(h) if b == n => Cow::Borrowed(h),
            Form::Dense(h) => {
                range.clone().flat_map(|i| &h[i * n + range.start..i * n + range.end]).copied().collect()
            }
            Form::Span { x, samples } => {
                let rows = &x[range.start * samples..range.end * samples];
                let mut block = vec![0.0; b * b];
                let (left, right) = (Factor::plain(rows), Factor::transposed(rows));
                multiply(isa, [b, b, *samples], left, right, Update::Set, &mut block);
                (0..b).for_each(|i| block[i * b + i] += self.damping[range.start + i]);
                Cow::Owned(block)
            }
        }
    }

    /// What [`products`](Self::products) needs to know of the errors beside themselves: X^T E, samples x width, for the
    /// form that keeps samples; nothing for the dense one. `errors` is columns x width.
    pub(crate) fn carry(&self, isa: Isa, errors: &[f32], width: usize) -> Vec<f32> {
        match &self.form {
            Form::Dense(_) => Vec::new(),
            Form::Span { x, samples } => {
                let mut carry = vec![0.0; samples * width];
                let dims = [*samples, width, self.columns()];
                multiply(isa, dims, Factor::transposed(x), Factor::plain(errors), Update::Set, &mut carry);
                carry
            }
        }
    }

    /// Brings `carry` up to date after the errors of columns `range` changed by `change` (range x width).
    pub(crate) fn advance(
        &self,
        isa: Isa,
        range: Range<usize>,
        change: &[f32],
        width: usize,
        carry: &mut [f32],
    ) {
        if let Form::Span { x, samples } = &self.form {
            let rows = &x[range.start * samples..range.end * samples];
            let dims = [*samples, width, range.len()];
            multiply(isa, dims, Factor::transposed(rows), Factor::plain(change), Update::Add, carry);
        }
    }

    /// Rows `range` of H E, range x width.
    pub(crate) fn products(
        &self,
        isa: Isa,
        range: Range<usize>,
        (errors, carry): (&[f32], &[f32]),
        width: usize,
        out: &mut [f32],
    ) {
        let (n, b) = (self.columns(), range.len());
        match &self.form {
            Form::Dense(h) => {
                let rows = Factor::plain(&h[range.start * n..range.end * n]);
                multiply(isa, [b, width, n], rows, Factor::plain(errors), Update::Set, out);
            }
            Form::Span { x, samples } => {
                let lines =
                    out.chunks_exact_mut(width).zip(errors[range.start * width..].chunks_exact(width));
                for ((o, e), damping) in lines.zip(&self.damping[range.clone()]) {
                    o.iter_mut().zip(e).for_each(|(o, e)| *o = damping * e);
                }
                let rows = Factor::plain(&x[range.start * samples..range.end * samples]);
                multiply(isa, [b, width, *samples], rows, Factor::plain(carry), Update::Add, out);
            }
        }
    }

    /// e H e^T for each of the `width` columns e of `errors`.
    pub(crate) fn energy(&self, isa: Isa, errors: &[f32], width: usize) -> Vec<f64> {
        const ROWS: usize = 256;
        let carry = self.carry(isa, errors, width);
        let mut sums = vec![0.0; width];
        let mut products = vec![0.0; ROWS.min(self.columns()) * width];
        for start in (0..self.columns()).step_by(ROWS) {
            let range = start..self.columns().min(start + ROWS);
            let products = &mut products[..range.len() * width];
            self.products(isa, range, (errors, &carry), width, products);
            let rows = errors[start * width..].chunks_exact(width).zip(products.chunks_exact(width));
            for (e, p) in rows {
                for ((sum, &e), &p) in sums.iter_mut().zip(e).zip(p) {
                    *sum += f64::from(e) * f64::from(p);
                }
            }
        }
        sums
    }

    /// Visits the form: the dense matrix, or samples and their number.
    pub(crate) fn parts(&self) -> Parts<'_> {
        match &self.form {
            Form::Dense(h) => Parts::Dense(h),
            Form::Span { x, samples } => Parts::Span { x, samples: *samples },
        }
    }

    /// Columns by rising diagonal, the smaller index first among equals.
    pub(crate) fn rising(&self) -> Vec<usize> {
        let diagonal = self.diagonal();
        let mut order: Vec<usize> = (0..self.columns()).collect();
        order.sort_by(|&a, &b| diagonal[a].total_cmp(&diagonal[b]).then(a.cmp(&b)));
        order
    }

    /// The Cholesky factor of H by rising diagonal: `None` for the form that keeps samples, and where H is not positive
    /// definite in single precision.
    pub(crate) fn factor(&self, isa: Isa) -> Option<&Cholesky> {
        let Form::Dense(h) = &self.form else { return None };
        self.factor.get_or_init(|| Cholesky::new(isa, h, self.rising())).as_ref()
    }
}

/// How a [`Curvature`] is held.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Parts<'a> {
    /// H, n x n.
    Dense(&'a [f32]),
    /// X / sqrt(N), n x samples.
    Span { x: &'a [f32], samples: usize },
}

#[cfg(test)]
mod tests {
    use super::super::testing::{both, noise};
    use super::*;

    #[test]
    fn both_forms_agree() {
        let isa = Isa::detect();
        let (n, width) = (37, 5);
        let (dense, span) = both(n, 11, 0.05, 1);
        let errors = noise(n * width, 2);
        let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
        assert!(close(&dense.diagonal(), &span.diagonal()));
        assert!(close(&dense.block(isa, 3..20), &span.block(isa, 3..20)));
        let product = |c: &Curvature| {
            let mut out = vec![0.0; 6 * width];
            c.products(isa, 10..16, (&errors, &c.carry(isa, &errors, width)), width, &mut out);
            out
        };
        assert!(close(&product(&dense), &product(&span)));
        for (a, b) in dense.energy(isa, &errors, width).iter().zip(span.energy(isa, &errors, width)) {
            assert!((a - b).abs() < 1e-4 * a.abs());
        }
    }

    #[test]
    fn a_carry_follows_changes() {
        let isa = Isa::detect();
        let (_, span) = both(20, 7, 0.1, 3);
        let mut errors = noise(20 * 4, 4);
        let mut carry = span.carry(isa, &errors, 4);
        let change = noise(5 * 4, 5);
        errors[8 * 4..13 * 4].iter_mut().zip(&change).for_each(|(e, c)| *e += c);
        span.advance(isa, 8..13, &change, 4, &mut carry);
        for (a, b) in carry.iter().zip(span.carry(isa, &errors, 4)) {
            assert!((a - b).abs() < 1e-4);
        }
    }

    #[test]
    fn the_identity_costs_squares() {
        let identity = Curvature::identity(3);
        assert_eq!(identity.energy(Isa::detect(), &[1.0, 2.0, -3.0], 1), [14.0]);
        assert_eq!(identity.diagonal(), [1.0; 3]);
    }
}
