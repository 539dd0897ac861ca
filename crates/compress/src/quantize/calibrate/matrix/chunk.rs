//! A few rows of a layer at work: targets, errors and codes with the rows innermost, so that loops over rows vectorise.

use std::ops::Range;

use super::layout::{Layout, transposed};

/// Most rows of a chunk. The split into chunks depends on shapes alone, and with it every sum.
pub(crate) const ROWS: usize = 64;

/// Rows of one group. Matrices are columns x width, `width` being the number of rows.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    /// Group whose curvature the rows share.
    pub group: usize,
    /// Rows of the layer.
    pub rows: Range<usize>,
    /// T.
    pub targets: Vec<f32>,
    /// T - Q.
    pub errors: Vec<f32>,
    pub codes: Vec<u8>,
    /// What an error of each row counts.
    pub weights: Vec<f32>,
    /// What each row's values are multiplied by to give weights of the layer.
    pub scales: Vec<f32>,
}

impl Chunk {
    pub fn width(&self) -> usize {
        self.rows.len()
    }

    /// Sets codes and errors from a row-major matrix of codes.
    pub fn assign(&mut self, layout: &Layout, values: &[f32], size: usize, codes: &[u8]) {
        let width = self.width();
        for (r, row) in self.rows.clone().enumerate() {
            let codes = &codes[row * layout.columns..][..layout.columns];
            codes.iter().enumerate().for_each(|(j, &code)| self.codes[j * width + r] = code);
        }
        self.refresh(layout, values, size);
    }

    /// Computes the errors from the codes anew.
    pub fn refresh(&mut self, layout: &Layout, values: &[f32], size: usize) {
        let width = self.width();
        for j in 0..layout.columns {
            for (r, row) in self.rows.clone().enumerate() {
                let at = j * width + r;
                let book = layout.book(row, j) * size;
                self.errors[at] = self.targets[at] - values[book + usize::from(self.codes[at])];
            }
        }
    }

    /// The codebooks of each row in one block of columns, value k of row r at `k * width + r`.
    pub fn table(&self, layout: &Layout, values: &[f32], size: usize, column: usize) -> Vec<f32> {
        let width = self.width();
        let mut table = vec![0.0; size * width];
        for (r, row) in self.rows.clone().enumerate() {
            let book = &values[layout.book(row, column) * size..][..size];
            book.iter().enumerate().for_each(|(k, &v)| table[k * width + r] = v);
        }
        table
    }
}

/// Cuts a layer into chunks: at most [`ROWS`] rows of one group, and whole codebooks where codebooks are smaller. `scales`
/// holds a factor of each row, or nothing.
pub(crate) fn chunks(
    layout: &Layout,
    group_rows: usize,
    targets: &[f32],
    weights: &[f32],
    scales: Option<&[f32]>,
) -> Vec<Chunk> {
    let step = if layout.book_rows <= ROWS { ROWS / layout.book_rows * layout.book_rows } else { ROWS };
    let n = layout.columns;
    let mut chunks = Vec::new();
    for group in 0..layout.rows / group_rows {
        let end = (group + 1) * group_rows;
        for start in (group * group_rows..end).step_by(step) {
            let rows = start..end.min(start + step);
            let own = transposed(&targets[start * n..rows.end * n], rows.len(), n);
            chunks.push(Chunk {
                group,
                weights: weights[rows.clone()].to_vec(),
                scales: scales.map_or(vec![1.0; rows.len()], |s| s[rows.clone()].to_vec()),
                errors: own.clone(),
                codes: vec![0; own.len()],
                targets: own,
                rows,
            });
        }
    }
    chunks
}

/// What every code costs beside its error: lambda times its length in bits.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rate {
    /// Penalty of each code; empty where the length of codes does not matter.
    pub penalty: Vec<f32>,
}

impl Rate {
    /// lambda * -log2 p, with p from how often each code occurs (each counted half a time more, so that none is free or
    /// impossible).
    pub fn new(lambda: f64, counts: &[u64]) -> Self {
        if lambda <= 0.0 {
            return Self { penalty: Vec::new() };
        }
        let total: f64 = counts.iter().map(|&c| c as f64 + 0.5).sum();
        let bits = counts.iter().map(|&c| -((c as f64 + 0.5) / total).log2());
        Self { penalty: bits.map(|b| (lambda * b) as f32).collect() }
    }

    /// Penalty of all codes together.
    pub fn total(&self, counts: &[u64]) -> f64 {
        self.penalty.iter().zip(counts).map(|(&p, &c)| f64::from(p) * c as f64).sum()
    }
}

/// How often each code occurs in all chunks.
pub(crate) fn counts(chunks: &[Chunk], size: usize) -> Vec<u64> {
    let mut counts = vec![0u64; size];
    for code in chunks.iter().flat_map(|c| &c.codes) {
        counts[usize::from(*code)] += 1;
    }
    counts
}

/// Which value each of some rows takes at one column.
pub(crate) struct Choice<'a> {
    /// Codebook value k of row r at `k * width + r`.
    pub table: &'a [f32],
    /// What a square costs: the curvature at the column.
    pub curvature: f32,
    pub rate: &'a Rate,
    pub weights: &'a [f32],
}

impl Choice<'_> {
    /// Moves `codes` to the cheapest values for what each row wants at the column; a code changes only where its cost
    /// falls. Returns by how much the costs fall, weighted, together.
    pub fn choose(&self, want: &[f32], codes: &mut [u8]) -> f64 {
        let width = want.len();
        let mut scale = [0.0f32; ROWS];
        if !self.rate.penalty.is_empty() {
            scale.iter_mut().zip(self.weights).for_each(|(s, &w)| *s = 1.0 / (w * self.curvature));
        }
        let penalty = |k: usize| self.rate.penalty.get(k).copied().unwrap_or(0.0);
        let (mut best, mut at) = ([0.0f32; ROWS], [0u32; ROWS]);
        for (r, &code) in codes.iter().enumerate() {
            let k = usize::from(code);
            let d = want[r] - self.table[k * width + r];
            (best[r], at[r]) = (d * d + penalty(k) * scale[r], code.into());
        }
        let before = best;
        let (best, at) = (&mut best[..width], &mut at[..width]);
        for (k, values) in self.table.chunks_exact(width).enumerate() {
            let penalty = penalty(k);
            let rows = values.iter().zip(want).zip(&scale).zip(best.iter_mut().zip(at.iter_mut()));
            for (((&value, &want), &scale), (best, at)) in rows {
                let d = want - value;
                let cost = d * d + penalty * scale;
                let less = cost < *best;
                *best = if less { cost } else { *best };
                *at = if less { k as u32 } else { *at };
            }
        }
        let mut fall = 0.0;
        for (r, code) in codes.iter_mut().enumerate() {
            *code = at[r] as u8;
            fall += f64::from(self.weights[r]) * f64::from(before[r] - best[r]);
        }
        fall * f64::from(self.curvature)
    }

    /// As [`choose`](Self::choose), from scratch.
    pub fn nearest(&self, want: &[f32], codes: &mut [u8]) {
        codes.fill(0);
        self.choose(want, codes);
    }
}
