//! From gathered samples to what a layer's weights should be: damped curvature and output-aware targets.

use rayon::prelude::*;
use slq_engine::Isa;

use super::super::error::CalibrateError;
use super::curvature::Curvature;
use super::factor::Cholesky;
use super::gram::{Drift, Gram, LayerShape, Moments, Store};
use super::product::{Factor, Update, multiply};

/// How samples become targets and curvature.
///
/// Defaults: damping 1 % of the mean diagonal plus 1e-8, targets followed in full, moments about zero.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TargetOptions {
    /// Share of the mean diagonal of X' X'^T / N that is added to the diagonal.
    pub damping: f64,
    /// Added to the diagonal beside it, since all inputs may be dead.
    pub absolute_damping: f64,
    /// How far targets go from the float weights (0) to the ridge regression on the float outputs (1).
    pub strength: f64,
    /// Take moments about the mean: for layers whose outputs' means are put right behind them (by batch-norm or bias), so
    /// that a constant error costs nothing.
    pub centred: bool,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { damping: 0.01, absolute_damping: 1e-8, strength: 1.0, centred: false }
    }
}

impl TargetOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`CalibrateError::Setting`].
    pub fn check(&self) -> Result<(), CalibrateError> {
        let range = |name, value: f64, low: f64, high: f64, expected| {
            let inside = value >= low && value <= high;
            if inside { Ok(()) } else { Err(CalibrateError::Setting { name, value, expected }) }
        };
        range("damping", self.damping, 1e-6, 1e3, "between 1e-6 and 1000")?;
        range("absolute damping", self.absolute_damping, 1e-30, 1e30, "a positive number")?;
        range("target strength", self.strength, 0.0, 1.0, "between 0 and 1")
    }
}

/// What a layer's weights are to be moved onto, and what an error costs.
pub struct Prepared {
    /// Shape of the layer.
    pub shape: LayerShape,
    /// One for each group.
    pub curvatures: Vec<Curvature>,
    /// T, rows x columns.
    pub targets: Vec<f32>,
    /// Samples behind it.
    pub samples: usize,
    /// Groups that keep their float weights as targets because H was not positive definite in single precision; more
    /// damping helps.
    pub unsolved_groups: usize,
    /// Moments of the float network's outputs W X.
    pub float: Moments,
    /// Mean of each input of each group, as the network is now.
    pub input_mean: Vec<f64>,
}

impl Gram<'_> {
    /// Targets and curvature from the samples given.
    ///
    /// T = W + strength W (X - X') X'^T / N H^-1 with H = X' X'^T / N + delta I: the ridge regression of the float outputs
    /// W X on the inputs now, damped towards W (method: step 1); with an intercept where moments are about the mean.
    ///
    /// # Errors
    /// [`CalibrateError::NoSamples`]; [`CalibrateError::Setting`] for options out of range; [`CalibrateError::NotFinite`]
    /// where inputs were so large that sums overflowed.
    pub fn finish(self, options: &TargetOptions) -> Result<Prepared, CalibrateError> {
        options.check()?;
        if self.samples == 0 {
            return Err(CalibrateError::NoSamples);
        }
        let (isa, shape, samples) = (self.isa, self.shape, self.samples);
        let count = samples as f64;
        let mean: Vec<f64> = self.output_sums.iter().map(|s| s[0] / count).collect();
        let squares = self.output_sums.iter().zip(&mean);
        let variance = squares.map(|(s, m)| (s[1] / count - m * m).max(0.0)).collect();
        let float = Moments { mean, variance };
        let input_mean: Vec<f64> = self.input_sums.iter().map(|s| s / count).collect();
        let (curvatures, (targets, unsolved_groups)) = match self.store {
            Store::Dense { mut h, mut drift } => {
                if options.centred {
                    let drift_mean: Vec<f64> = self.drift_sums.iter().map(|s| s / count).collect();
                    centre(&mut h, &input_mean, &input_mean, shape.columns, count);
                    match &mut drift {
                        Drift::None => {}
                        Drift::Inputs(sums) => centre(sums, &drift_mean, &input_mean, shape.columns, count),
                        Drift::Outputs(sums) => {
                            let left = output_means(shape, self.weights, &drift_mean);
                            centre(sums, &left, &input_mean, shape.columns, count);
                        }
                    }
                }
                let curvatures = dense_curvatures(shape, h, count, options);
                let drift = (drift, options.strength / count);
                let targets = dense_targets(isa, shape, self.weights, &curvatures, drift);
                (curvatures, targets)
            }
            Store::Span(batches) => span(isa, shape, self.weights, batches, options),
        };
        if !targets.iter().all(|t| t.is_finite()) || !curvatures.iter().all(|c| c.damping().is_finite()) {
            return Err(CalibrateError::NotFinite { what: "a target (inputs of the layer are too large)" });
        }
        Ok(Prepared { shape, curvatures, targets, samples, unsolved_groups, float, input_mean })
    }
}

/// Subtracts `count` times the product of means from sums of products: rows of all groups (one for each mean in `left`) by
/// `columns`.
fn centre(sums: &mut [f64], left: &[f64], right: &[f64], columns: usize, count: f64) {
    let height = left.len() * columns / right.len();
    sums.par_chunks_mut(columns).enumerate().for_each(|(row, sums)| {
        let right = &right[row / height * columns..][..columns];
        sums.iter_mut().zip(right).for_each(|(s, r)| *s -= count * left[row] * r);
    });
}

/// W times the means of its inputs.
fn output_means(shape: LayerShape, weights: &[f32], means: &[f64]) -> Vec<f64> {
    let group = |row: usize| row / shape.group_rows() * shape.columns;
    let rows = weights.chunks_exact(shape.columns).enumerate();
    rows.map(|(row, w)| w.iter().zip(&means[group(row)..]).map(|(&w, m)| f64::from(w) * m).sum()).collect()
}

/// Subtracts the mean of each row.
fn centre_rows(values: &mut [f32], samples: usize) {
    values.par_chunks_exact_mut(samples).for_each(|row| {
        let mean = row.iter().map(|&v| f64::from(v)).sum::<f64>() / samples as f64;
        row.iter_mut().for_each(|v| *v = (f64::from(*v) - mean) as f32);
    });
}

fn dense_curvatures(shape: LayerShape, h: Vec<f64>, count: f64, options: &TargetOptions) -> Vec<Curvature> {
    let n = shape.columns;
    let one = |sums: &[f64]| {
        let mut h = vec![0.0f32; n * n];
        for i in 0..n {
            for j in i..n {
                let value = (sums[i * n + j] / count) as f32;
                (h[i * n + j], h[j * n + i]) = (value, value);
            }
        }
        let mean = (0..n).map(|i| sums[i * n + i] / count).sum::<f64>() / n as f64;
        Curvature::dense(h, n, delta(mean, options))
    };
    h.par_chunks(n * n).map(one).collect()
}

fn delta(mean_diagonal: f64, options: &TargetOptions) -> f32 {
    (options.damping * mean_diagonal + options.absolute_damping) as f32
}

/// T of every group, and the number of groups that keep their float weights for want of a factor.
fn dense_targets(
    isa: Isa,
    shape: LayerShape,
    weights: &[f32],
    curvatures: &[Curvature],
    (drift, scale): (Drift, f64),
) -> (Vec<f32>, usize) {
    let (rows, n) = (shape.group_rows(), shape.columns);
    let mut targets = weights.to_vec();
    let (sums, height) = match &drift {
        _ if scale == 0.0 => return (targets, 0),
        Drift::None => return (targets, 0),
        Drift::Inputs(sums) => (sums, n),
        Drift::Outputs(sums) => (sums, rows),
    };
    let groups = targets.par_chunks_mut(rows * n).zip(weights.par_chunks(rows * n));
    let groups = groups.zip(curvatures.par_iter().zip(sums.par_chunks(height * n)));
    let unsolved = groups.map(|((targets, weights), (curvature, sums))| {
        let Some(factor) = curvature.factor(isa) else { return 1 };
        let sums: Vec<f32> = sums.iter().map(|&s| (s * scale) as f32).collect();
        // The transposed right-hand side, columns x rows.
        let right = match drift {
            Drift::Inputs(_) => {
                let mut right = vec![0.0; n * rows];
                let (a, b) = (Factor::transposed(&sums), Factor::transposed(weights));
                multiply(isa, [n, rows, n], a, b, Update::Set, &mut right);
                right
            }
            _ => transposed(&sums, rows, n),
        };
        add_solved(isa, factor, right, targets, rows);
        0
    });
    let unsolved = unsolved.sum();
    (targets, unsolved)
}

/// `targets += (H^-1 right)^T`.
fn add_solved(isa: Isa, factor: &Cholesky, mut right: Vec<f32>, targets: &mut [f32], rows: usize) {
    factor.solve(isa, &mut right, rows);
    let n = targets.len() / rows;
    for (r, target) in targets.chunks_exact_mut(n).enumerate() {
        for (t, z) in target.iter_mut().zip(right.chunks_exact(rows)) {
            *t += z[r];
        }
    }
}

pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (r, row) in values.chunks_exact(columns).enumerate() {
        for (c, &v) in row.iter().enumerate() {
            out[c * rows + r] = v;
        }
    }
    out
}

/// The same from kept samples: X'^T H^-1 = (X'^T X' / N + delta I)^-1 X'^T, a system of samples instead of columns.
fn span(
    isa: Isa,
    shape: LayerShape,
    weights: &[f32],
    batches: Vec<(Vec<f32>, Option<Vec<f32>>)>,
    options: &TargetOptions,
) -> (Vec<Curvature>, (Vec<f32>, usize)) {
    let (rows, n) = (shape.rows, shape.columns);
    let samples: usize = batches.iter().map(|(now, _)| now.len() / n).sum();
    let scale = (samples as f64).sqrt().recip() as f32;
    let (mut x, mut drift) = (vec![0.0; n * samples], vec![0.0; rows * samples]);
    let mut any = false;
    let mut first = 0;
    for (now, moved) in batches {
        let width = now.len() / n;
        let place = |from: &[f32], to: &mut [f32]| {
            for (from, to) in from.chunks_exact(width).zip(to.chunks_exact_mut(samples)) {
                to[first..first + width].iter_mut().zip(from).for_each(|(t, f)| *t = f * scale);
            }
        };
        place(&now, &mut x);
        if let Some(moved) = moved {
            place(&moved, &mut drift);
            any = true;
        }
        first += width;
    }
    if options.centred {
        centre_rows(&mut x, samples);
        centre_rows(&mut drift, samples);
    }
    let square: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let damping = delta(square / n as f64, options);
    let (mut targets, mut unsolved) = (weights.to_vec(), 0);
    if any && options.strength > 0.0 {
        let mut inner = vec![0.0; samples * samples];
        let (a, b) = (Factor::transposed(&x), Factor::plain(&x));
        multiply(isa, [samples, samples, n], a, b, Update::Set, &mut inner);
        (0..samples).for_each(|i| inner[i * samples + i] += damping);
        if let Some(factor) = Cholesky::new(isa, &inner, (0..samples).collect()) {
            drift.iter_mut().for_each(|v| *v *= options.strength as f32);
            let mut solved = transposed(&drift, rows, samples);
            factor.solve(isa, &mut solved, rows);
            let (a, b) = (Factor::transposed(&solved), Factor::transposed(&x));
            multiply(isa, [rows, n, samples], a, b, Update::Add, &mut targets);
        } else {
            unsolved = 1;
        }
    }
    (vec![Curvature::span(x, n, damping)], (targets, unsolved))
}
