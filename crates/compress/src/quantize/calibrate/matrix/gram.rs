//! Second moments of a layer's inputs, gathered block by block.

use rayon::prelude::*;
use slq_engine::Isa;

use super::product::{Factor, Update, multiply};
use crate::error::CalibrateError;

/// Rows of a panel of the second moment: only the panels on and right of the diagonal are computed.
pub(super) const PANEL: usize = 256;

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

/// What is known before samples are gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathering {
    /// Samples that will be given. Where they are less than half the columns of a layer of one group, they are kept
    /// instead of their second moment.
    pub expected: usize,
    /// Take moments about the mean: for layers whose outputs' means are put right behind them (by batch-norm or bias), so
    /// that a constant error costs nothing.
    pub centred: bool,
}

/// One block of samples, each matrix row-major with the samples as columns.
#[derive(Debug, Clone, Copy)]
pub struct Block<'a> {
    /// Samples in the block.
    pub samples: usize,
    /// X', the inputs of the network as it is: groups x columns x samples.
    pub now: &'a [f32],
    /// X, those of the float network in the same places; `None` where they are the same.
    pub float: Option<&'a [f32]>,
    /// R, what the outputs are asked for beside W X: rows x samples. It makes up for errors elsewhere, as in the other
    /// summand of a residual sum.
    pub extra: Option<&'a [f32]>,
}

/// Sums over all blocks, and over every other block: what one half of the samples says can be checked on the other.
#[derive(Debug, Clone, Default)]
pub(super) struct Folds {
    pub all: Vec<f64>,
    pub even: Vec<f32>,
}

impl Folds {
    pub(super) fn zeros(len: usize) -> Self {
        Self { all: vec![0.0; len], even: vec![0.0; len] }
    }
}

/// Sums of rows, over all blocks and over the even ones.
#[derive(Debug, Clone, Default)]
pub(super) struct RowSums {
    pub all: Vec<f64>,
    pub even: Vec<f64>,
}

impl RowSums {
    fn zeros(len: usize) -> Self {
        Self { all: vec![0.0; len], even: vec![0.0; len] }
    }

    /// Adds the sum of each row of samples.
    fn add(&mut self, values: &[f32], samples: usize, even: bool) {
        let sum = |row: &[f32]| row.iter().map(|&v| f64::from(v)).sum::<f64>();
        let rows = self.all.par_iter_mut().zip(&mut self.even).zip(values.par_chunks_exact(samples));
        rows.for_each(|((all, half), row)| {
            let sum = sum(row);
            *all += sum;
            *half += if even { sum } else { 0.0 };
        });
    }
}

/// A block that is kept: X' (shifted) and Z = W (X - X') + R, if that is not zero.
pub(super) struct Kept {
    /// Number of the block.
    pub number: usize,
    pub now: Vec<f32>,
    pub wish: Option<Vec<f32>>,
    pub samples: usize,
}

/// What is kept of the inputs.
pub(super) enum Store {
    /// Sums of X' X'^T of each group (upper panels) and of Z X'^T (rows x columns; empty while Z is zero).
    Dense { h: Folds, wish: Option<Folds>, spread: Spread },
    /// The samples themselves. For one group only.
    Span(Vec<Kept>),
}

/// How much the second moments of single blocks differ, for the estimate of how far the whole can be trusted. Moments are
/// taken as correlations, in the unit of the first block's deviations.
#[derive(Debug, Default)]
pub(super) struct Spread {
    /// One over the deviation of each input in the first block.
    pub units: Vec<f32>,
    /// Sum over blocks of samples times the squares of the correlations off the diagonal.
    pub squares: f64,
}

/// Gathers samples of a layer's inputs and turns them into targets and curvature.
///
/// Products are computed in single precision over a block and summed over blocks in double precision. The result does
/// not depend on the number of threads.
pub struct Gram<'a> {
    pub(super) isa: Isa,
    pub(super) shape: LayerShape,
    pub(super) weights: &'a [f32],
    pub(super) centred: bool,
    pub(super) blocks: usize,
    /// Number of the next block among those of all processes.
    pub(super) next: usize,
    /// Whether shift and units are known.
    pub(super) begun: bool,
    /// Samples of all blocks and of the even ones.
    pub(super) samples: [usize; 2],
    pub(super) store: Store,
    /// Subtracted from each input: the first block's means where moments are about the mean, so that little cancels.
    pub(super) shift: Vec<f32>,
    /// X', shifted.
    pub(super) inputs: RowSums,
    /// Z.
    pub(super) wishes: RowSums,
    /// Sum and sum of squares of each row of W X, and the sum of R.
    pub(super) outputs: Vec<[f64; 3]>,
}

impl<'a> Gram<'a> {
    /// For a layer with `weights` (rows x columns).
    ///
    /// # Errors
    /// [`CalibrateError::Length`] where the weights do not fit the shape, [`CalibrateError::NotFinite`] for what is no
    /// number among them.
    pub fn new(
        isa: Isa,
        shape: LayerShape,
        weights: &'a [f32],
        gathering: Gathering,
    ) -> Result<Self, CalibrateError> {
        check_len("the weight", shape.weights(), weights.len())?;
        if !weights.iter().all(|w| w.is_finite()) {
            return Err(CalibrateError::NotFinite { what: "a weight" });
        }
        let inputs = shape.groups * shape.columns;
        let store = if shape.groups == 1 && gathering.expected.saturating_mul(2) <= shape.columns {
            Store::Span(Vec::new())
        } else {
            Store::Dense { h: Folds::zeros(inputs * shape.columns), wish: None, spread: Spread::default() }
        };
        Ok(Self {
            isa,
            shape,
            weights,
            centred: gathering.centred,
            blocks: 0,
            next: 0,
            begun: false,
            samples: [0; 2],
            store,
            shift: vec![0.0; inputs],
            inputs: RowSums::zeros(inputs),
            wishes: RowSums::zeros(shape.rows),
            outputs: vec![[0.0; 3]; shape.rows],
        })
    }

    /// Adds a block of samples. Blocks should be of about the same size, and of different images: the estimate of how far
    /// they can be trusted compares one block with another.
    ///
    /// # Errors
    /// [`CalibrateError::Length`], [`CalibrateError::NotFinite`].
    pub fn add(&mut self, block: Block<'_>) -> Result<(), CalibrateError> {
        let (inputs, samples) = (self.shape.groups * self.shape.columns, block.samples);
        check(block.now, "inputs of the layer", inputs * samples)?;
        block.float.map_or(Ok(()), |x| check(x, "float inputs of the layer", inputs * samples))?;
        block.extra.map_or(Ok(()), |r| check(r, "outputs asked of the layer", self.shape.rows * samples))?;
        if samples == 0 {
            return Ok(());
        }
        let (number, even) = (self.next, self.next.is_multiple_of(2));
        self.next += 1;
        self.blocks += 1;
        self.samples[0] += samples;
        self.samples[1] += if even { samples } else { 0 };
        let wish = self.wish(&block);
        let mut now = block.now.to_vec();
        if self.centred {
            if !self.begun {
                self.shift = means(&now, samples);
            }
            now.par_chunks_mut(samples)
                .zip(&self.shift)
                .for_each(|(row, s)| row.iter_mut().for_each(|v| *v -= s));
        }
        self.inputs.add(&now, samples, even);
        if let Some(wish) = &wish {
            self.wishes.add(wish, samples, even);
        }
        self.add_moments(now, wish, samples, (number, even));
        self.begun = true;
        Ok(())
    }

    /// Adds the moments of W X, and returns Z = W (X - X') + R unless it is zero.
    fn wish(&mut self, block: &Block<'_>) -> Option<Vec<f32>> {
        let (isa, shape, samples) = (self.isa, self.shape, block.samples);
        let mut float = outputs(isa, shape, self.weights, block.float.unwrap_or(block.now), samples);
        let rows = self.outputs.par_iter_mut().zip(float.par_chunks_exact(samples));
        rows.for_each(|(total, row)| {
            total[0] += row.iter().map(|&v| f64::from(v)).sum::<f64>();
            total[1] += row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        });
        if let Some(extra) = block.extra {
            let rows = self.outputs.par_iter_mut().zip(extra.par_chunks_exact(samples));
            rows.for_each(|(total, row)| total[2] += row.iter().map(|&v| f64::from(v)).sum::<f64>());
        }
        if block.float.is_none() && block.extra.is_none() {
            return None;
        }
        let now = outputs(isa, shape, self.weights, block.now, samples);
        float.par_iter_mut().zip(now).for_each(|(f, n)| *f -= n);
        if let Some(extra) = block.extra {
            float.par_iter_mut().zip(extra).for_each(|(f, r)| *f += r);
        }
        Some(float)
    }

    fn add_moments(
        &mut self,
        now: Vec<f32>,
        wish: Option<Vec<f32>>,
        samples: usize,
        (number, even): (usize, bool),
    ) {
        let (isa, shape) = (self.isa, self.shape);
        let (n, rows) = (shape.columns, shape.group_rows());
        let (h, kept, spread) = match &mut self.store {
            Store::Span(blocks) => return blocks.push(Kept { number, now, wish, samples }),
            Store::Dense { h, wish, spread } => (h, wish, spread),
        };
        if spread.units.is_empty() {
            spread.units = units(&now, samples);
        }
        let groups = h.all.par_chunks_mut(n * n).zip(h.even.par_chunks_mut(n * n));
        let groups = groups.zip(now.par_chunks(n * samples).zip(spread.units.par_chunks(n)));
        let squares: Vec<f64> = groups
            .map(|((all, half), (x, units))| add_square(isa, (all, even.then_some(half)), x, samples, units))
            .collect();
        spread.squares += squares.iter().sum::<f64>() / samples as f64;
        if let Some(wish) = wish {
            let sums = kept.get_or_insert_with(|| Folds::zeros(shape.rows * n));
            let groups = sums.all.par_chunks_mut(rows * n).zip(sums.even.par_chunks_mut(rows * n));
            let blocks = wish.par_chunks(rows * samples).zip(now.par_chunks(n * samples));
            groups.zip(blocks).for_each(|((all, half), (z, x))| {
                let mut product = vec![0.0; rows * n];
                let dims = [rows, n, samples];
                multiply(isa, dims, Factor::plain(z), Factor::transposed(x), Update::Set, &mut product);
                add_to(all, even.then_some(half), &product);
            });
        }
    }
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

/// Adds the panels of X X^T on and right of the diagonal; returns the sum of squares off the diagonal in the given units.
fn add_square(
    isa: Isa,
    (all, mut half): (&mut [f64], Option<&mut [f32]>),
    x: &[f32],
    samples: usize,
    units: &[f32],
) -> f64 {
    let n = units.len();
    let mut product = vec![0.0; PANEL.min(n) * n];
    let mut squares = 0.0;
    for first in (0..n).step_by(PANEL) {
        let (high, wide) = (PANEL.min(n - first), n - first);
        let right = &x[first * samples..];
        let product = &mut product[..high * wide];
        let (a, b) = (Factor::plain(&right[..high * samples]), Factor::transposed(right));
        multiply(isa, [high, wide, samples], a, b, Update::Set, product);
        for (i, p) in product.chunks_exact(wide).enumerate() {
            let row = (first + i) * n;
            let half = half.as_deref_mut().map(|h| &mut h[row + first..row + n]);
            add_to(&mut all[row + first..row + n], half, p);
            let above = p[i + 1..].iter().zip(&units[first + i + 1..]);
            let square: f32 = above.map(|(p, u)| (p * u) * (p * u)).sum();
            squares += 2.0 * f64::from(square) * f64::from(units[first + i]).powi(2);
        }
    }
    squares
}

fn add_to(all: &mut [f64], half: Option<&mut [f32]>, values: &[f32]) {
    all.iter_mut().zip(values).for_each(|(s, &v)| *s += f64::from(v));
    if let Some(half) = half {
        half.iter_mut().zip(values).for_each(|(s, &v)| *s += v);
    }
}

fn means(values: &[f32], samples: usize) -> Vec<f32> {
    let mean = |row: &[f32]| (row.iter().map(|&v| f64::from(v)).sum::<f64>() / samples as f64) as f32;
    values.par_chunks_exact(samples).map(mean).collect()
}

/// One over the root mean square of each row; 0 for rows of zeros.
pub(super) fn units(values: &[f32], samples: usize) -> Vec<f32> {
    let unit = |row: &[f32]| {
        let square = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / samples as f64;
        let unit = square.sqrt().recip() as f32;
        if unit.is_normal() { unit } else { 0.0 }
    };
    values.par_chunks_exact(samples).map(unit).collect()
}

fn check(values: &[f32], what: &'static str, expected: usize) -> Result<(), CalibrateError> {
    check_len(what, expected, values.len())?;
    // One that is not finite makes the sum so.
    let sum: f32 = values.iter().map(|v| v * 0.0).sum();
    if sum == 0.0 { Ok(()) } else { Err(CalibrateError::NotFinite { what }) }
}

pub(super) fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), CalibrateError> {
    if expected == found { Ok(()) } else { Err(CalibrateError::Length { what, expected, found }) }
}
