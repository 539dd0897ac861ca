//! The error-carrying pass: columns by falling diagonal, each weight's error taken up by the weights that follow
//! (method: step 4; GPTQ, Frantar et al., arXiv 2210.17323, in the form of Chee et al., QuIP, arXiv 2307.13304, section 3,
//! with a free codebook).
//!
//! Column j asks for `t_j + sum over the columns k before it of e_k M_kj`, where H = M D M^T with M unit upper triangular
//! in the order of the pass: the values that minimise the error of the columns done so far if those to come were free.
//! With the factor L of H by *rising* diagonal, M_kj = L_kj / L_jj, and the pass runs through L from the end.

use rayon::prelude::*;
use slq_engine::Isa;

use super::chunk::{Choice, Chunk, ROWS, Rate};
use super::curvature::{Curvature, Parts};
use super::factor::{Cholesky, PANEL};
use super::layout::Layout;
use super::product::{Factor, Update, multiply};

/// What carries errors on: a factor of H, or its counterpart in the span of the samples.
pub(crate) enum Carrier<'a> {
    Dense(&'a Cholesky),
    Span(Span<'a>),
}

/// For H = x x^T + D with D diagonal: the wish of column j is `t_j + (sum of e_k x_k) . v_j / d_j` with v_j = S_j x_j,
/// d_j = D_j + x_j . v_j and S_j = (I + sum over the columns k after j of x_k x_k^T / D_k)^-1.
pub(crate) struct Span<'a> {
    x: &'a [f32],
    samples: usize,
    /// Columns in the order of the pass.
    order: Vec<usize>,
    /// v_j / d_j, columns x samples, in the order of the pass.
    v: Vec<f32>,
    /// d_j.
    d: Vec<f32>,
}

impl<'a> Carrier<'a> {
    /// `None` where H is not positive definite in single precision.
    pub fn new(isa: Isa, curvature: &'a Curvature) -> Option<Self> {
        match curvature.parts() {
            Parts::Dense(_) => curvature.factor(isa).map(Carrier::Dense),
            Parts::Span { x, samples } => {
                let mut order = curvature.rising();
                order.reverse();
                Some(Carrier::Span(Span::new(isa, x, samples, order, curvature.damping())))
            }
        }
    }
}

impl<'a> Span<'a> {
    fn new(isa: Isa, x: &'a [f32], samples: usize, order: Vec<usize>, damping: &[f32]) -> Self {
        let n = order.len();
        let mut s = vec![0.0f32; samples * samples];
        (0..samples).for_each(|i| s[i * samples + i] = 1.0);
        let (mut v, mut d) = (vec![0.0; n * samples], vec![0.0; n]);
        let mut start = n;
        while start > 0 {
            let end = start;
            start = start.saturating_sub(PANEL);
            let width = end - start;
            let rows: Vec<f32> = gathered(x, samples, &order[start..end]);
            let own = &mut v[start * samples..end * samples];
            let dims = [width, samples, samples];
            multiply(isa, dims, Factor::plain(&rows), Factor::plain(&s), Update::Set, own);
            // Unscaled v of the columns of this block that are done, and each over its d.
            let mut plain = vec![0.0f32; width * samples];
            for i in (0..width).rev() {
                let (before, after) = own.split_at_mut((i + 1) * samples);
                let (own, x) = (&mut before[i * samples..], &rows[i * samples..][..samples]);
                for (plain, scaled) in
                    plain[(i + 1) * samples..].chunks_exact(samples).zip(after.chunks_exact(samples))
                {
                    let share = dot(plain, x);
                    own.iter_mut().zip(scaled).for_each(|(o, s)| *o -= share * s);
                }
                let pivot = damping[order[start + i]] + dot(own, x).max(0.0);
                plain[i * samples..][..samples].copy_from_slice(own);
                own.iter_mut().for_each(|o| *o /= pivot);
                d[start + i] = pivot;
            }
            let (a, b) = (Factor::transposed(&plain), Factor::plain(&*own));
            multiply(isa, [samples, samples, width], a, b, Update::Subtract, &mut s);
        }
        Self { x, samples, order, v, d }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn gathered(x: &[f32], samples: usize, order: &[usize]) -> Vec<f32> {
    order.iter().flat_map(|&i| &x[i * samples..][..samples]).copied().collect()
}

/// Codebooks of a pass.
pub(crate) struct Pass<'a> {
    pub isa: Isa,
    pub layout: &'a Layout,
    pub values: &'a [f32],
    pub size: usize,
    pub rate: &'a Rate,
}

impl Pass<'_> {
    /// Runs the pass over a copy of each chunk; `None` where one of the groups has no carrier.
    pub fn run(&self, chunks: &[Chunk], curvatures: &[Curvature]) -> Option<Vec<Chunk>> {
        let isa = self.isa;
        let carriers: Option<Vec<_>> = curvatures.par_iter().map(|c| Carrier::new(isa, c)).collect();
        let carriers = carriers?;
        let pass = |chunk: &Chunk| {
            let mut chunk = chunk.clone();
            match &carriers[chunk.group] {
                Carrier::Dense(factor) => self.dense(factor, &mut chunk),
                Carrier::Span(span) => self.span(span, &mut chunk),
            }
            chunk
        };
        Some(chunks.par_iter().map(pass).collect())
    }

    fn tables(&self, chunk: &Chunk) -> Vec<Vec<f32>> {
        let starts = (0..self.layout.columns).step_by(self.layout.book_columns);
        starts.map(|column| chunk.table(self.layout, self.values, self.size, column)).collect()
    }

    /// Gives column `j` the values nearest to `targets + carried * factor` and returns the new errors.
    fn settle(&self, chunk: &mut Chunk, j: usize, table: &[f32], wish: (&[f32], f32, f32)) -> [f32; ROWS] {
        let (carried, factor, curvature) = wish;
        let width = chunk.width();
        let own = j * width..(j + 1) * width;
        let mut want = [0.0f32; ROWS];
        let rows = want.iter_mut().zip(&chunk.targets[own.clone()]).zip(carried);
        rows.for_each(|((w, t), s)| *w = t + s * factor);
        let choice = Choice { table, curvature, rate: self.rate, weights: &chunk.weights };
        choice.nearest(&want[..width], &mut chunk.codes[own.clone()]);
        let mut errors = [0.0f32; ROWS];
        for (r, (at, error)) in own.zip(&mut errors).enumerate() {
            *error = chunk.targets[at] - table[usize::from(chunk.codes[at]) * width + r];
            chunk.errors[at] = *error;
        }
        errors
    }

    fn dense(&self, factor: &Cholesky, chunk: &mut Chunk) {
        let (width, n) = (chunk.width(), self.layout.columns);
        let tables = self.tables(chunk);
        // Errors in the order of the factor.
        let mut errors = vec![0.0f32; n * width];
        for panel in factor.panels.iter().rev() {
            let (first, b) = (panel.first, panel.width);
            let (_, below) = errors.split_at_mut((first + b) * width);
            let mut sums = vec![0.0f32; b * width];
            let dims = [b, width, n - first - b];
            let left = Factor::transposed(panel.rows_from(first + b));
            multiply(self.isa, dims, left, Factor::plain(below), Update::Set, &mut sums);
            for i in (0..b).rev() {
                let row = &panel.values[i * b..][..=i];
                let (j, pivot) = (factor.order[first + i], row[i]);
                let (before, own) = sums.split_at_mut(i * width);
                let table = &tables[j / self.layout.book_columns];
                let new = self.settle(chunk, j, table, (&own[..width], 1.0 / pivot, pivot * pivot));
                let new = &new[..width];
                errors[(first + i) * width..][..width].copy_from_slice(new);
                for (sum, &l) in before.chunks_exact_mut(width).zip(row) {
                    sum.iter_mut().zip(new).for_each(|(s, e)| *s += l * e);
                }
            }
        }
    }

    fn span(&self, span: &Span<'_>, chunk: &mut Chunk) {
        let (width, samples) = (chunk.width(), span.samples);
        let tables = self.tables(chunk);
        let mut carry = vec![0.0f32; samples * width];
        for start in (0..self.layout.columns).step_by(PANEL) {
            let order = &span.order[start..self.layout.columns.min(start + PANEL)];
            let b = order.len();
            let (x, v) = (gathered(span.x, samples, order), &span.v[start * samples..][..b * samples]);
            let mut sums = vec![0.0f32; b * width];
            let dims = [b, width, samples];
            multiply(self.isa, dims, Factor::plain(v), Factor::plain(&carry), Update::Set, &mut sums);
            // How an error at one column of the block shifts the wish of another.
            let mut shares = vec![0.0f32; b * b];
            let dims = [b, b, samples];
            multiply(self.isa, dims, Factor::plain(&x), Factor::transposed(v), Update::Set, &mut shares);
            let mut errors = vec![0.0f32; b * width];
            for (i, &j) in order.iter().enumerate() {
                let (before, later) = sums.split_at_mut((i + 1) * width);
                let table = &tables[j / self.layout.book_columns];
                let new = self.settle(chunk, j, table, (&before[i * width..], 1.0, span.d[start + i]));
                let new = &new[..width];
                errors[i * width..][..width].copy_from_slice(new);
                for (sum, &share) in later.chunks_exact_mut(width).zip(&shares[i * b + i + 1..]) {
                    sum.iter_mut().zip(new).for_each(|(s, e)| *s += share * e);
                }
            }
            let dims = [samples, width, b];
            multiply(self.isa, dims, Factor::transposed(&x), Factor::plain(&errors), Update::Add, &mut carry);
        }
    }
}
