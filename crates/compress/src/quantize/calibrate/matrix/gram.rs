//! Second moments of a layer's inputs, gathered batch by batch.

use rayon::prelude::*;
use slq_engine::Isa;

use super::super::error::CalibrateError;
use super::product::{Factor, Update, multiply};

/// Rows of a panel of the second moment: only the panels on and right of the diagonal are computed.
const PANEL: usize = 256;

/// A layer as a matrix: `groups` blocks of `rows / groups` output channels, each block over `columns` inputs of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerShape {
    /// Groups of the layer; 1 for a dense one, the number of channels for a depthwise one.
    pub groups: usize,
    /// Output channels of all groups.
    pub rows: usize,
    /// Inputs of one group (channels times kernel).
    pub columns: usize,
}

impl LayerShape {
    /// Checks that the groups divide the rows.
    ///
    /// # Errors
    /// [`CalibrateError::Shape`].
    pub fn new(groups: usize, rows: usize, columns: usize) -> Result<Self, CalibrateError> {
        let fits = groups > 0 && rows > 0 && columns > 0 && rows.is_multiple_of(groups);
        if fits {
            Ok(Self { groups, rows, columns })
        } else {
            Err(CalibrateError::Shape { rows, groups, columns })
        }
    }

    /// Output channels of one group.
    pub fn group_rows(&self) -> usize {
        self.rows / self.groups
    }

    /// Weights of the layer.
    pub fn weights(&self) -> usize {
        self.rows * self.columns
    }
}

/// Mean and variance of each output channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Moments {
    /// Means.
    pub mean: Vec<f64>,
    /// Variances.
    pub variance: Vec<f64>,
}

/// What is kept of the inputs.
pub(super) enum Store {
    /// X' X'^T of each group (upper panels), and how X differs.
    Dense { h: Vec<f64>, drift: Drift },
    /// The samples themselves, batch by batch: X' (columns x samples), and W (X - X') (rows x samples) or nothing where
    /// they are equal. For one group only.
    Span(Vec<(Vec<f32>, Option<Vec<f32>>)>),
}

/// How the float network's inputs X differ from X', the inputs now.
pub(super) enum Drift {
    /// They are the same so far.
    None,
    /// (X - X') X'^T of each group, columns x columns.
    Inputs(Vec<f64>),
    /// W (X - X') X'^T, rows x columns: less work where there are few rows.
    Outputs(Vec<f64>),
}

/// Gathers samples of a layer's inputs and turns them into targets and curvature.
///
/// Products are computed in single precision over a batch and summed over batches in double precision. The result does
/// not depend on the number of threads.
pub struct Gram<'a> {
    pub(super) isa: Isa,
    pub(super) shape: LayerShape,
    pub(super) weights: &'a [f32],
    pub(super) samples: usize,
    pub(super) store: Store,
    /// Sum of each column of X'.
    pub(super) input_sums: Vec<f64>,
    /// Sum of each column of X - X'.
    pub(super) drift_sums: Vec<f64>,
    /// Sum and sum of squares of each row of W X.
    pub(super) output_sums: Vec<[f64; 2]>,
}

impl<'a> Gram<'a> {
    /// For a layer with `weights` (rows x columns). `expected` is the number of samples that will be given: where it is
    /// less than half the columns of a layer of one group, the samples are kept instead of their second moment.
    ///
    /// # Errors
    /// [`CalibrateError::Length`] where the weights do not fit the shape, [`CalibrateError::NotFinite`] for what is no
    /// number among them.
    pub fn new(
        isa: Isa,
        shape: LayerShape,
        weights: &'a [f32],
        expected: usize,
    ) -> Result<Self, CalibrateError> {
        check_len("the weight", shape.weights(), weights.len())?;
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(CalibrateError::NotFinite { what: "a weight" });
        }
        let store = if shape.groups == 1 && expected.saturating_mul(2) <= shape.columns {
            Store::Span(Vec::new())
        } else {
            let h = vec![0.0; shape.groups * shape.columns * shape.columns];
            Store::Dense { h, drift: Drift::None }
        };
        let (inputs, rows) = (shape.groups * shape.columns, shape.rows);
        Ok(Self {
            isa,
            shape,
            weights,
            samples: 0,
            store,
            input_sums: vec![0.0; inputs],
            drift_sums: vec![0.0; inputs],
            output_sums: vec![[0.0; 2]; rows],
        })
    }

    /// Bytes that the sums (or kept samples) of a layer take.
    pub fn bytes(shape: LayerShape, expected: usize) -> usize {
        let square = shape.groups * shape.columns * shape.columns;
        if shape.groups == 1 && expected.saturating_mul(2) <= shape.columns {
            4 * expected * (shape.columns + shape.rows)
        } else {
            8 * (square + square.min(shape.weights()))
        }
    }

    /// Adds `samples` samples: `now` holds those of the network as it is (groups x columns x samples, row-major), `float`
    /// those of the float network in the same places, or `None` where they are the same.
    ///
    /// # Errors
    /// [`CalibrateError::Length`], [`CalibrateError::NotFinite`].
    pub fn add(&mut self, now: &[f32], float: Option<&[f32]>, samples: usize) -> Result<(), CalibrateError> {
        let expected = self.shape.groups * self.shape.columns * samples;
        check_len("a batch of inputs", expected, now.len())?;
        check_len("a batch of float inputs", expected, float.map_or(expected, <[f32]>::len))?;
        if !finite(now) || !float.is_none_or(finite) {
            return Err(CalibrateError::NotFinite { what: "an input of the layer" });
        }
        if samples == 0 {
            return Ok(());
        }
        self.samples += samples;
        add_sums(&mut self.input_sums, now, samples);
        self.add_outputs(float.unwrap_or(now), samples);
        match float {
            Some(float) => {
                let mut drift = float.to_vec();
                drift.par_iter_mut().zip(now).for_each(|(d, n)| *d -= n);
                add_sums(&mut self.drift_sums, &drift, samples);
                self.add_moments(now, Some(drift), samples);
            }
            None => self.add_moments(now, None, samples),
        }
        Ok(())
    }

    fn add_outputs(&mut self, float: &[f32], samples: usize) {
        let outputs = outputs(self.isa, self.shape, self.weights, float, samples);
        let sums = self.output_sums.par_iter_mut().zip(outputs.par_chunks_exact(samples));
        sums.for_each(|(total, row)| {
            total[0] += row.iter().map(|&v| f64::from(v)).sum::<f64>();
            total[1] += row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        });
    }

    fn add_moments(&mut self, now: &[f32], drift: Option<Vec<f32>>, samples: usize) {
        let (isa, shape, weights) = (self.isa, self.shape, self.weights);
        let n = shape.columns;
        let (h, kept) = match &mut self.store {
            Store::Span(batches) => {
                let drift = drift.map(|d| outputs(isa, shape, weights, &d, samples));
                batches.push((now.to_vec(), drift));
                return;
            }
            Store::Dense { h, drift } => (h, drift),
        };
        let groups = h.par_chunks_mut(n * n).zip(now.par_chunks(n * samples));
        groups.for_each(|(h, x)| add_square(isa, h, x, samples));
        let Some(drift) = drift else { return };
        if matches!(kept, Drift::None) {
            let by_rows = shape.group_rows().saturating_mul(2) <= n;
            let zeros = |rows: usize| vec![0.0; rows * n];
            *kept = match by_rows {
                true => Drift::Outputs(zeros(shape.rows)),
                false => Drift::Inputs(zeros(shape.groups * n)),
            };
        }
        let (left, rows, sums) = match kept {
            Drift::Inputs(sums) => (drift, n, sums),
            Drift::Outputs(sums) => (outputs(isa, shape, weights, &drift, samples), shape.group_rows(), sums),
            Drift::None => return,
        };
        let groups = sums.par_chunks_mut(rows * n).zip(left.par_chunks(rows * samples));
        groups.zip(now.par_chunks(n * samples)).for_each(|((sums, left), x)| {
            let mut product = vec![0.0; rows * n];
            let dims = [rows, n, samples];
            multiply(isa, dims, Factor::plain(left), Factor::transposed(x), Update::Set, &mut product);
            add_to(sums, &product);
        });
    }
}

/// Adds the sum of each row of samples.
fn add_sums(sums: &mut [f64], values: &[f32], samples: usize) {
    let rows = sums.par_iter_mut().zip(values.par_chunks_exact(samples));
    rows.for_each(|(total, row)| *total += row.iter().map(|&v| f64::from(v)).sum::<f64>());
}

/// W X of every group, rows x samples.
pub(super) fn outputs(isa: Isa, shape: LayerShape, weights: &[f32], x: &[f32], samples: usize) -> Vec<f32> {
    let (rows, n) = (shape.group_rows(), shape.columns);
    let mut out = vec![0.0; shape.rows * samples];
    let groups = out.par_chunks_mut(rows * samples).zip(weights.par_chunks(rows * n));
    groups.zip(x.par_chunks(n * samples)).for_each(|((out, w), x)| {
        multiply(isa, [rows, samples, n], Factor::plain(w), Factor::plain(x), Update::Set, out);
    });
    out
}

/// Adds the panels of X X^T on and right of the diagonal.
fn add_square(isa: Isa, h: &mut [f64], x: &[f32], samples: usize) {
    let n = x.len() / samples;
    let mut product = vec![0.0; PANEL.min(n) * n];
    for first in (0..n).step_by(PANEL) {
        let (high, wide) = (PANEL.min(n - first), n - first);
        let right = &x[first * samples..];
        let product = &mut product[..high * wide];
        let (a, b) = (Factor::plain(&right[..high * samples]), Factor::transposed(right));
        multiply(isa, [high, wide, samples], a, b, Update::Set, product);
        let rows = h[first * n..(first + high) * n].par_chunks_mut(n).with_min_len(8);
        rows.zip(product.par_chunks(wide)).for_each(|(h, p)| add_to(&mut h[first..], p));
    }
}

fn add_to(sums: &mut [f64], values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
}

fn finite(values: &[f32]) -> bool {
    // One not finite makes the sum so, and so may an overflow: only then look at each.
    let sum: f32 = values.iter().map(|v| v * 0.0).sum();
    sum == 0.0
}

pub(super) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), CalibrateError> {
    if expected == found { Ok(()) } else { Err(CalibrateError::Length { what, expected, found }) }
}
