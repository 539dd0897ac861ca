//! Regressions of what outputs lack on the inputs now, from second moments or from kept samples.

use rayon::prelude::*;
use slq_engine::Isa;

use super::curvature::Curvature;
use super::damping::Damping;
use super::factor::Cholesky;
use super::gram::{Folds, Gram, Kept, RowSums, Store};
use super::layout::transposed;
use super::product::{Factor, Update, multiply};

/// What the damping may be multiplied by in the regression. Strong damping keeps only what many inputs agree on.
const MULTIPLES: [f64; 3] = [1.0, 8.0, 64.0];

/// By how much weights would have to change for outputs to be what they should.
#[derive(Debug, Clone, Default)]
pub(super) struct Directions {
    /// Z X'^T / N H^-1, rows x columns; empty where nothing is asked for.
    pub all: Vec<f32>,
    /// Groups without a solution: their rows are zero.
    pub unsolved: usize,
    /// How far to go along them.
    pub strength: f64,
}

/// How a regression is damped and how far its result is followed.
#[derive(Debug, Clone, Copy)]
struct Choice {
    damping: Damping,
    strength: f64,
}

/// For each row: the fall of the squared error on one half of the samples for a small step along what the other half says,
/// and the square of that step's outputs; both ways together.
type Compared = Vec<[f64; 2]>;

/// The multiple of the damping whose best step makes the error fall most, and that step: carried over from half the
/// samples to all of them, in which chance has half the weight.
fn best(damping: &Damping, compared: &[Compared], row_weights: &[f32]) -> Choice {
    let mut best = (0.0, Choice { damping: *damping, strength: 0.0 });
    for (multiple, compared) in MULTIPLES.iter().zip(compared) {
        let weighted =
            |i: usize| -> f64 { compared.iter().zip(row_weights).map(|(c, &w)| c[i] * f64::from(w)).sum() };
        let (fall, square) = (weighted(0), weighted(1));
        let half = (fall / square).min(1.0);
        let gain = 2.0 * half * fall - half * half * square;
        if half > 0.0 && gain > best.0 {
            let strength = 2.0 * half / (1.0 + half);
            best = (gain, Choice { damping: damping.times(*multiple), strength });
        }
    }
    best.1
}

impl Gram<'_> {
    /// Curvature alone.
    pub(super) fn curvatures(self, damping: &Damping) -> Vec<Curvature> {
        match self.store {
            Store::Dense { h, .. } => {
                let sums = Half::all(&h, None, (&self.inputs, &self.wishes), self.samples);
                let n = self.shape.columns;
                let groups = (0..self.shape.groups).into_par_iter();
                groups.map(|g| sums.curvature(g, n, self.centred, damping)).collect()
            }
            Store::Span(blocks) => {
                let samples = Samples::of(blocks.iter(), self.shape.rows, self.shape.columns, self.centred);
                let damping = damping.of(&samples.diagonal());
                vec![Curvature::span(samples.x, damping)]
            }
        }
    }

    /// Directions with a strength of 1, or, where `row_weights` are given, with the damping and the strength that one half
    /// of the samples finds best for what the other half says.
    pub(super) fn directions(&self, damping: &Damping, row_weights: Option<&[f32]>) -> Directions {
        let plain = Choice { damping: *damping, strength: 1.0 };
        match &self.store {
            Store::Dense { h, wish: Some(wish), .. } => {
                let all = Half::all(h, Some(wish), (&self.inputs, &self.wishes), self.samples);
                let choice =
                    row_weights.map_or(plain, |w| best(damping, &self.compare_dense(&all, damping), w));
                self.solve_dense(&all, &choice)
            }
            Store::Span(blocks) if blocks.iter().any(|b| b.wish.is_some()) => {
                let choice =
                    row_weights.map_or(plain, |w| best(damping, &self.compare_span(blocks, damping), w));
                self.solve_span(blocks, &choice)
            }
            _ => Directions { strength: 1.0, ..Directions::default() },
        }
    }

    fn solve_dense(&self, all: &Half<'_>, choice: &Choice) -> Directions {
        let strength = choice.strength;
        if strength == 0.0 {
            return Directions { strength, ..Directions::default() };
        }
        let (isa, n, rows) = (self.isa, self.shape.columns, self.shape.group_rows());
        let group = |g: usize| {
            let curvature = all.curvature(g, n, self.centred, &choice.damping);
            let wish = all.wish(g, (rows, n), self.centred);
            curvature.factor(isa).map(|f| solve(isa, f, &wish, rows))
        };
        let found: Vec<_> = (0..self.shape.groups).into_par_iter().map(group).collect();
        let unsolved = found.iter().filter(|d| d.is_none()).count();
        let all = found.into_iter().flat_map(|d| d.unwrap_or_else(|| vec![0.0; rows * n])).collect();
        Directions { all, unsolved, strength }
    }

    /// For each multiple of the damping, what halves say of each other.
    fn compare_dense(&self, all: &Half<'_>, damping: &Damping) -> Vec<Compared> {
        let (isa, n, rows) = (self.isa, self.shape.columns, self.shape.group_rows());
        let halves = [Fold::Even, Fold::Odd].map(|fold| Half { fold, ..*all });
        let group = |g: usize| -> Vec<Compared> {
            let wishes = halves.map(|half| half.wish(g, (rows, n), self.centred));
            let none = Damping::none();
            let squares = halves.map(|half| half.curvature(g, n, self.centred, &none));
            let one = |multiple: &f64| {
                let mut sums = vec![[0.0; 2]; rows];
                for (own, other) in [(0, 1), (1, 0)] {
                    let damping = damping.of_half().times(*multiple);
                    let curvature = halves[own].curvature(g, n, self.centred, &damping);
                    let Some(factor) = curvature.factor(isa) else { continue };
                    let step = solve(isa, factor, &wishes[own], rows);
                    let square = squares[other].energy(isa, &transposed(&step, rows, n), rows);
                    let lines = step.chunks_exact(n).zip(wishes[other].chunks_exact(n)).zip(square);
                    for (sum, ((step, wish), square)) in sums.iter_mut().zip(lines) {
                        sum[0] += dot(step, wish);
                        sum[1] += square;
                    }
                }
                sums
            };
            MULTIPLES.iter().map(one).collect()
        };
        let groups: Vec<Vec<Compared>> = (0..self.shape.groups).into_par_iter().map(group).collect();
        (0..MULTIPLES.len()).map(|m| groups.iter().flat_map(|g| &g[m]).copied().collect()).collect()
    }

    fn solve_span(&self, blocks: &[Kept], choice: &Choice) -> Directions {
        let strength = choice.strength;
        if strength == 0.0 {
            return Directions { strength, ..Directions::default() };
        }
        let (n, rows) = (self.shape.columns, self.shape.rows);
        let all = Samples::of(blocks.iter(), rows, n, self.centred);
        let direction = all.direction(self.isa, (rows, n), &choice.damping);
        let unsolved = usize::from(direction.is_none());
        Directions { all: direction.unwrap_or_default(), unsolved, strength }
    }

    fn compare_span(&self, blocks: &[Kept], damping: &Damping) -> Vec<Compared> {
        let (isa, n, rows) = (self.isa, self.shape.columns, self.shape.rows);
        let half = |odd: usize| Samples::of(blocks.iter().skip(odd).step_by(2), rows, n, self.centred);
        let halves = [half(0), half(1)];
        let one = |multiple: &f64| {
            let mut sums = vec![[0.0; 2]; rows];
            for (one, other) in [(&halves[0], &halves[1]), (&halves[1], &halves[0])] {
                let damping = damping.of_half().times(*multiple);
                let Some(step) = one.direction(isa, (rows, n), &damping) else { continue };
                let mut out = vec![0.0; rows * other.count];
                let (a, b) = (Factor::plain(&step), Factor::plain(&other.x));
                multiply(isa, [rows, other.count, n], a, b, Update::Set, &mut out);
                let lines = out.chunks_exact(other.count).zip(other.wish.chunks_exact(other.count));
                for (sum, (out, wish)) in sums.iter_mut().zip(lines) {
                    sum[0] += dot(out, wish);
                    sum[1] += dot(out, out);
                }
            }
            sums
        };
        MULTIPLES.iter().map(one).collect()
    }
}

/// Which blocks sums are over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fold {
    All,
    Even,
    Odd,
}

/// Sums over some of the blocks.
#[derive(Clone, Copy)]
struct Half<'a> {
    fold: Fold,
    h: &'a Folds,
    wish: Option<&'a Folds>,
    inputs: &'a RowSums,
    wishes: &'a RowSums,
    samples: [usize; 2],
}

impl<'a> Half<'a> {
    fn all(
        h: &'a Folds,
        wish: Option<&'a Folds>,
        (inputs, wishes): (&'a RowSums, &'a RowSums),
        samples: [usize; 2],
    ) -> Self {
        Self { fold: Fold::All, h, wish, inputs, wishes, samples }
    }

    fn count(&self) -> f64 {
        let [all, even] = self.samples;
        let count = match self.fold {
            Fold::All => all,
            Fold::Even => even,
            Fold::Odd => all - even,
        };
        count as f64
    }

    fn pick(&self, all: f64, even: f64) -> f64 {
        match self.fold {
            Fold::All => all,
            Fold::Even => even,
            Fold::Odd => all - even,
        }
    }

    /// Means of some inputs, or of some wishes.
    fn means(&self, sums: &RowSums, range: std::ops::Range<usize>) -> Vec<f64> {
        let pairs = sums.all[range.clone()].iter().zip(&sums.even[range]);
        pairs.map(|(&all, &even)| self.pick(all, even) / self.count()).collect()
    }

    /// H of group `g`.
    fn curvature(&self, g: usize, n: usize, centred: bool, damping: &Damping) -> Curvature {
        let (count, at) = (self.count(), g * n * n);
        let mean = if centred { self.means(self.inputs, g * n..(g + 1) * n) } else { vec![0.0; n] };
        let value = |i: usize, j: usize| {
            let at = at + i * n + j;
            self.pick(self.h.all[at], f64::from(self.h.even[at])) / count - mean[i] * mean[j]
        };
        let mut h = vec![0.0f32; n * n];
        for i in 0..n {
            for j in i..n {
                let value = value(i, j) as f32;
                (h[i * n + j], h[j * n + i]) = (value, value);
            }
        }
        let diagonal: Vec<f64> = (0..n).map(|i| value(i, i).max(0.0)).collect();
        Curvature::dense(h, damping.of(&diagonal))
    }

    /// Z X'^T / N of group `g`, rows x n.
    fn wish(&self, g: usize, (rows, n): (usize, usize), centred: bool) -> Vec<f32> {
        let Some(wish) = self.wish else { return vec![0.0; rows * n] };
        let (count, range) = (self.count(), g * rows * n..(g + 1) * rows * n);
        let (mut left, mut right) = (vec![0.0; rows], vec![0.0; n]);
        if centred {
            left = self.means(self.wishes, g * rows..(g + 1) * rows);
            right = self.means(self.inputs, g * n..(g + 1) * n);
        }
        let pairs = wish.all[range.clone()].iter().zip(&wish.even[range]).enumerate();
        pairs
            .map(|(at, (&all, &even))| {
                (self.pick(all, even.into()) / count - left[at / n] * right[at % n]) as f32
            })
            .collect()
    }
}

fn solve(isa: Isa, factor: &Cholesky, wish: &[f32], rows: usize) -> Vec<f32> {
    let n = wish.len() / rows;
    let mut right = transposed(wish, rows, n);
    factor.solve(isa, &mut right, rows);
    transposed(&right, n, rows)
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// Kept samples side by side, scaled by one over the root of their number.
struct Samples {
    count: usize,
    /// X', columns x count.
    x: Vec<f32>,
    /// Z, rows x count.
    wish: Vec<f32>,
}

impl Samples {
    fn of<'a>(blocks: impl Iterator<Item = &'a Kept> + Clone, rows: usize, n: usize, centred: bool) -> Self {
        let count: usize = blocks.clone().map(|b| b.samples).sum();
        let scale = (count as f64).sqrt().recip() as f32;
        let (mut x, mut wish) = (vec![0.0; n * count], vec![0.0; rows * count]);
        let mut first = 0;
        for block in blocks {
            let width = block.samples;
            let place = |from: &[f32], to: &mut [f32]| {
                for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(count)) {
                    to[first..first + width].iter_mut().zip(from).for_each(|(t, f)| *t = f * scale);
                }
            };
            place(&block.now, &mut x);
            if let Some(own) = &block.wish {
                place(own, &mut wish);
            }
            first += width;
        }
        if centred {
            centre_rows(&mut x, count);
            centre_rows(&mut wish, count);
        }
        Self { count, x, wish }
    }

    fn diagonal(&self) -> Vec<f64> {
        self.x.chunks_exact(self.count).map(|row| dot(row, row)).collect()
    }

    /// Z (I + X'^T D^-1 X')^-1 X'^T D^-1 for the damping D: a system of samples instead of columns.
    fn direction(&self, isa: Isa, (rows, n): (usize, usize), damping: &Damping) -> Option<Vec<f32>> {
        let (k, damping) = (self.count, damping.of(&self.diagonal()));
        let mut divided = self.x.clone();
        let lines = divided.chunks_exact_mut(k).zip(&damping);
        lines.for_each(|(row, d)| row.iter_mut().for_each(|v| *v /= d));
        let mut inner = vec![0.0; k * k];
        multiply(
            isa,
            [k, k, n],
            Factor::transposed(&self.x),
            Factor::plain(&divided),
            Update::Set,
            &mut inner,
        );
        (0..k).for_each(|i| inner[i * k + i] += 1.0);
        let factor = Cholesky::new(isa, &inner, (0..k).collect())?;
        let mut solved = transposed(&self.wish, rows, k);
        factor.solve(isa, &mut solved, rows);
        let mut out = vec![0.0; rows * n];
        let (a, b) = (Factor::transposed(&solved), Factor::transposed(&divided));
        multiply(isa, [rows, n, k], a, b, Update::Set, &mut out);
        Some(out)
    }
}

/// Subtracts the mean of each row.
fn centre_rows(values: &mut [f32], count: usize) {
    values.par_chunks_exact_mut(count).for_each(|row| {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / count as f64;
        row.iter_mut().for_each(|v| *v = (f64::from(*v) - mean) as f32);
    });
}
