//! One layer: start, error-carrying pass, then codebook and codes in turns.

use std::borrow::Cow;

use rayon::prelude::*;
use slq_engine::Isa;

use super::chunk::{Chunk, Rate, chunks, counts};
use super::codebook::{Values, fit};
use super::curvature::Curvature;
use super::descent::{Sweep, column_blocks};
use super::error_pass::Pass;
use super::gram::check_len;
use super::layout::{Books, Layout};
use super::scale::{refit_scales, starting_scales};
use super::start::{importance, start};
use crate::error::CalibrateError;

/// Which parts of the method run, so that each can be measured alone.
///
/// Defaults: every part on, at most 20 rounds of codebook and codes, until the objective falls by less than 1e-4 of
/// itself, no rate term, free values.
#[allow(clippy::struct_excessive_bools)] // parts that are measured one by one
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SolveOptions {
    /// Weigh the start's k-means by s_r H_jj; without it, every weight counts alike.
    pub weighted_start: bool,
    /// Most error-carrying passes. The first runs from the start's codebooks, others after refitting them; each is kept
    /// where it lowers the objective, and none follows one that does not.
    pub error_passes: usize,
    /// Let rows that share a codebook have scales of their own, which the caller applies behind the layer. Off by
    /// default.
    pub scale_rows: bool,
    /// Refit codebooks in closed form.
    pub fit_codebooks: bool,
    /// Descend on codes.
    pub descend: bool,
    /// Most rounds of codebook and codes.
    pub rounds: usize,
    /// The rounds end once one lowers the objective by less than this share of it.
    pub tolerance: f64,
    /// Price of a bit of code in units of the objective; 0 for codes of fixed width.
    pub rate: f64,
    /// What values codebooks may hold.
    pub values: Values,
}

impl Default for SolveOptions {
    fn default() -> Self {
        Self {
            weighted_start: true,
            error_passes: 3,
            scale_rows: false,
            fit_codebooks: true,
            descend: true,
            rounds: 20,
            tolerance: 1e-4,
            rate: 0.0,
            values: Values::Free,
        }
    }
}

impl SolveOptions {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`CalibrateError::Setting`].
    pub fn check(&self) -> Result<(), CalibrateError> {
        let refuse = |name, value, expected| Err(CalibrateError::Setting { name, value, expected });
        if !(0.0..1.0).contains(&self.tolerance) {
            return refuse("tolerance", self.tolerance, "between 0 and 1");
        }
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            return refuse("rate", self.rate, "0 or more");
        }
        Ok(())
    }
}

/// What is to be quantized.
#[derive(Debug, Clone, Copy)]
pub struct Problem<'a> {
    /// What each row should be, rows x columns.
    pub targets: &'a [f32],
    /// What an error costs: one for each of equal runs of rows.
    pub curvatures: &'a [Curvature],
    /// s_r, the factor of each row in the objective; positive.
    pub row_weights: &'a [f32],
    /// Which weights share a codebook.
    pub books: Books,
    /// Values of a codebook (K).
    pub size: usize,
}

/// Codebooks and codes found.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// All codebooks, `size` values each: by row first, then by block of inputs.
    pub codebooks: Vec<f32>,
    /// The code of every weight, rows x columns.
    pub codes: Vec<u8>,
    /// The factor of each row; 1 where rows have no scales of their own.
    pub scales: Vec<f32>,
    /// How the objective fell.
    pub progress: Progress,
}

/// The objective along the way: sum over rows of s_r (t - q) H (t - q)^T, plus the rate term where there is one.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// After the start.
    pub start: f64,
    /// After each error-carrying pass, kept or not; none where they did not run, or could not because H is not positive
    /// definite in single precision.
    pub error_passes: Vec<f64>,
    /// After each fit of codebooks (and scales) and each sweep over the codes, in turn.
    pub rounds: Vec<f64>,
    /// At the end, computed anew.
    pub end: f64,
}

impl Solution {
    /// The values that the codes name, rows x columns, without the rows' scales.
    pub fn decode(&self, columns: usize, books: Books, size: usize) -> Result<Vec<f32>, CalibrateError> {
        let layout = Layout::new(self.codes.len() / columns.max(1), columns, books)?;
        let value = |(at, &code): (usize, &u8)| {
            self.codebooks[layout.book(at / columns, at % columns) * size + usize::from(code)]
        };
        Ok(self.codes.iter().enumerate().map(value).collect())
    }
}

/// Finds codebooks and codes for one layer. The bits do not depend on the number of threads.
///
/// # Errors
/// [`CalibrateError::Length`], [`CalibrateError::Shape`], [`CalibrateError::CodebookSize`] and
/// [`CalibrateError::Setting`] for a problem that is none; [`CalibrateError::NotFinite`] for targets or row weights that
/// are no positive numbers; [`CalibrateError::Cluster`].
pub fn quantize(isa: Isa, problem: &Problem<'_>, options: &SolveOptions) -> Result<Solution, CalibrateError> {
    let layout = check(problem, options)?;
    // Where rows have codebooks of their own, those hold the scale.
    let scales = (options.scale_rows && layout.book_rows > 1)
        .then(|| starting_scales(&layout, problem.curvatures, problem.targets));
    let (targets, weights) = scaled(&layout, problem, scales.as_deref());
    let importance = options.weighted_start.then(|| importance(problem.curvatures, &weights));
    let (values, codes) = start(&layout, &targets, importance.as_deref(), (problem.size, options.values))?;
    drop(importance);
    let group_rows = layout.rows / problem.curvatures.len();
    let mut chunks = chunks(&layout, group_rows, &targets, &weights, scales.as_deref());
    drop(targets);
    chunks.par_iter_mut().for_each(|c| c.assign(&layout, &values, problem.size, &codes));
    let mut work =
        Work { isa, layout, problem: *problem, options, chunks, values, rate: Rate::new(0.0, &[]) };
    let mut progress = work.begin();
    work.alternate(&mut progress);
    Ok(work.finish(progress))
}

/// Targets and row weights in the unit of the codebooks.
fn scaled<'a>(
    layout: &Layout,
    problem: &Problem<'a>,
    scales: Option<&[f32]>,
) -> (Cow<'a, [f32]>, Cow<'a, [f32]>) {
    let Some(scales) = scales else { return (problem.targets.into(), problem.row_weights.into()) };
    let targets = problem.targets.iter().enumerate().map(|(at, t)| t / scales[at / layout.columns]).collect();
    let weights = problem.row_weights.iter().zip(scales).map(|(w, s)| w * s * s).collect();
    (Cow::Owned(targets), Cow::Owned(weights))
}

fn check(problem: &Problem<'_>, options: &SolveOptions) -> Result<Layout, CalibrateError> {
    options.check()?;
    if problem.size == 0 || problem.size > 256 {
        return Err(CalibrateError::CodebookSize { size: problem.size });
    }
    let (rows, groups) = (problem.row_weights.len(), problem.curvatures.len());
    let columns = problem.curvatures.first().map_or(0, Curvature::columns);
    if groups == 0
        || !rows.is_multiple_of(groups)
        || problem.curvatures.iter().any(|c| c.columns() != columns)
    {
        return Err(CalibrateError::Shape { rows, groups, columns });
    }
    let layout = Layout::new(rows, columns, problem.books)?;
    check_len("the targets", rows * columns, problem.targets.len())?;
    if !problem.targets.iter().all(|t| t.is_finite()) {
        return Err(CalibrateError::NotFinite { what: "a target" });
    }
    if !problem.row_weights.iter().all(|&s| s > 0.0 && s.is_finite()) {
        return Err(CalibrateError::NotFinite { what: "a row weight (they have to be positive)" });
    }
    Ok(layout)
}

/// A layer on the way.
struct Work<'a> {
    isa: Isa,
    layout: Layout,
    problem: Problem<'a>,
    options: &'a SolveOptions,
    chunks: Vec<Chunk>,
    values: Vec<f32>,
    rate: Rate,
}

impl Work<'_> {
    /// Error of some chunks, without rate.
    fn error(&self, chunks: &[Chunk]) -> f64 {
        let one = |chunk: &Chunk| {
            let curvature = &self.problem.curvatures[chunk.group];
            let energies = curvature.energy(self.isa, &chunk.errors, chunk.width());
            energies.iter().zip(&chunk.weights).map(|(e, &s)| e * f64::from(s)).sum::<f64>()
        };
        // Collected first: a parallel sum's order would depend on the threads.
        let errors: Vec<f64> = chunks.par_iter().map(one).collect();
        errors.iter().sum()
    }

    /// Prices codes by how often they occur now, and returns what they cost together.
    fn price(&mut self) -> f64 {
        let counts = counts(&self.chunks, self.problem.size);
        self.rate = Rate::new(self.options.rate, &counts);
        self.rate.total(&counts)
    }

    /// Prices codes anew, where that makes them cheaper together; returns by how much.
    fn reprice(&mut self) -> f64 {
        if self.rate.penalty.is_empty() {
            return 0.0;
        }
        let counts = counts(&self.chunks, self.problem.size);
        let (old, new) = (self.rate.total(&counts), Rate::new(self.options.rate, &counts));
        let fall = old - new.total(&counts);
        if fall <= 0.0 {
            return 0.0;
        }
        self.rate = new;
        fall
    }

    /// The start's objective, and the error-carrying passes.
    fn begin(&mut self) -> Progress {
        let error = self.error(&self.chunks);
        let start = error + self.price();
        let mut progress = Progress { start, end: start, ..Progress::default() };
        for pass in 0..self.options.error_passes {
            if pass > 0 && self.options.fit_codebooks {
                progress.end -= self.fit();
            }
            let (isa, layout, size) = (self.isa, &self.layout, self.problem.size);
            let carried = Pass { isa, layout, values: &self.values, size, rate: &self.rate };
            let Some(chunks) = carried.run(&self.chunks, self.problem.curvatures) else { break };
            let found = self.error(&chunks) + self.rate.total(&counts(&chunks, size));
            progress.error_passes.push(found);
            if found >= progress.end {
                break;
            }
            (self.chunks, progress.end) = (chunks, found);
        }
        progress
    }

    /// Refits codebooks and scales; returns by how much the objective falls.
    fn fit(&mut self) -> f64 {
        let books = (self.values.as_mut_slice(), self.problem.size, self.options.values);
        let mut fall = fit(self.isa, &self.layout, self.problem.curvatures, &mut self.chunks, books);
        if self.options.scale_rows && self.layout.book_rows > 1 {
            fall += refit_scales(self.isa, self.problem.curvatures, &mut self.chunks);
        }
        fall
    }

    /// Codebook and codes in turns. `progress.end` is the objective as it falls.
    fn alternate(&mut self, progress: &mut Progress) {
        let blocks = column_blocks(&self.layout);
        let squares: Vec<Vec<Vec<f32>>> = self
            .problem
            .curvatures
            .par_iter()
            .map(|c| blocks.iter().map(|b| c.block(self.isa, b.clone()).into_owned()).collect())
            .collect();
        for _ in 0..self.options.rounds {
            let before = progress.end;
            if self.options.fit_codebooks {
                progress.end -= self.fit();
                progress.rounds.push(progress.end);
            }
            if self.options.descend {
                let fall: Vec<f64> = self
                    .chunks
                    .par_iter_mut()
                    .map(|chunk| {
                        let sweep = Sweep {
                            isa: self.isa,
                            layout: &self.layout,
                            blocks: &blocks,
                            squares: &squares[chunk.group],
                            curvature: &self.problem.curvatures[chunk.group],
                            values: &self.values,
                            size: self.problem.size,
                            rate: &self.rate,
                        };
                        sweep.run(chunk)
                    })
                    .collect();
                progress.end -= fall.iter().sum::<f64>();
                progress.end -= self.reprice();
                progress.rounds.push(progress.end);
            }
            if before - progress.end <= self.options.tolerance * before.abs() {
                break;
            }
        }
    }

    /// Codebooks sorted, codes back in row-major order.
    fn finish(mut self, mut progress: Progress) -> Solution {
        let bits = self.rate.total(&counts(&self.chunks, self.problem.size));
        progress.end = self.error(&self.chunks) + bits;
        let Layout { rows, columns, .. } = self.layout;
        let mut codes = vec![0; rows * columns];
        let scales = self.chunks.iter().flat_map(|c| &c.scales).copied().collect();
        for chunk in &self.chunks {
            for (r, row) in chunk.rows.clone().enumerate() {
                let own = &mut codes[row * columns..][..columns];
                own.iter_mut().enumerate().for_each(|(j, c)| *c = chunk.codes[j * chunk.width() + r]);
            }
        }
        if self.options.values != Values::PowersOfTwo {
            self.sort(&mut codes);
        }
        Solution { codebooks: self.values, codes, scales, progress }
    }

    fn sort(&mut self, codes: &mut [u8]) {
        let size = self.problem.size;
        let mut places = vec![0u8; self.values.len()];
        for (values, places) in self.values.chunks_exact_mut(size).zip(places.chunks_exact_mut(size)) {
            let mut order: Vec<usize> = (0..size).collect();
            order.sort_by(|&a, &b| values[a].total_cmp(&values[b]).then(a.cmp(&b)));
            let sorted: Vec<f32> = order.iter().map(|&k| values[k]).collect();
            values.copy_from_slice(&sorted);
            order.iter().enumerate().for_each(|(place, &k)| places[k] = place as u8);
        }
        for (at, code) in codes.iter_mut().enumerate() {
            let book = self.layout.book(at / self.layout.columns, at % self.layout.columns);
            *code = places[book * size + usize::from(*code)];
        }
    }
}
