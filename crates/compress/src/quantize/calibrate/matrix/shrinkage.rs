//! How far second moments can be trusted, from the differences between blocks of samples.

use slq_engine::Isa;

use super::gram::{Gram, Kept, Store, units};
use super::product::{Factor, Update, multiply};

/// The share of the correlations' sum of squares that is chance: their variance, estimated from the differences between
/// blocks, over their squares; all groups together (Schaefer and Strimmer, "A shrinkage approach to large-scale covariance
/// matrix estimation", 2005, target D, with blocks as the independent observations: samples of one image are not).
pub(super) fn estimated_shrinkage(gram: &Gram<'_>) -> f64 {
    let (n, count) = (gram.shape.columns, gram.samples[0] as f64);
    let (whole, blocks) = match &gram.store {
        Store::Dense { h, spread, .. } => {
            let groups = h.all.chunks_exact(n * n).zip(spread.units.chunks_exact(n));
            (
                groups.map(|(h, units)| squares(h, units)).sum::<f64>() / (count * count),
                spread.squares / count,
            )
        }
        Store::Span(blocks) => of_kept(gram.isa, blocks, n),
    };
    if gram.blocks < 2 {
        // Nothing to compare: what uncorrelated inputs would show in so many independent samples.
        let chance = (n * (n - 1) * gram.shape.groups) as f64 / count;
        return if whole > 0.0 { (chance / whole).min(1.0) } else { 1.0 };
    }
    let variance = (blocks - whole).max(0.0) / (gram.blocks - 1) as f64;
    if whole > 0.0 { (variance / whole).min(1.0) } else { 1.0 }
}

/// Sum of squares off the diagonal of a symmetric matrix (its upper half is read) in the given units.
fn squares(h: &[f64], units: &[f32]) -> f64 {
    let n = units.len();
    let row = |i: usize| -> f64 {
        let square = |j: usize| (h[i * n + j] * f64::from(units[j])).powi(2);
        2.0 * (i + 1..n).map(square).sum::<f64>() * f64::from(units[i]).powi(2)
    };
    (0..n).map(row).sum()
}

/// Squares of the correlations of all samples, and their mean over single blocks, from kept samples:
/// `|U X X^T U| = |X^T U^2 X|` in the Frobenius norm.
fn of_kept(isa: Isa, blocks: &[Kept], n: usize) -> (f64, f64) {
    let Some(first) = blocks.first() else { return (0.0, 0.0) };
    let units = units(&first.now, first.samples);
    let off_diagonal = |x: &[f32], samples: usize| -> f64 {
        let mut inner = vec![0.0; samples * samples];
        let (a, b) = (Factor::transposed(x), Factor::plain(x));
        multiply(isa, [samples, samples, n], a, b, Update::Set, &mut inner);
        let all: f64 = inner.iter().map(|&v| f64::from(v).powi(2)).sum();
        let square = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let diagonal: f64 = x.chunks_exact(samples).map(|row| square(row).powi(2)).sum();
        (all - diagonal).max(0.0)
    };
    let scaled = |block: &Kept| -> Vec<f32> {
        let rows = block.now.chunks_exact(block.samples).zip(&units);
        rows.flat_map(|(row, &u)| row.iter().map(move |v| v * u)).collect()
    };
    let count: usize = blocks.iter().map(|b| b.samples).sum();
    let mut all = vec![0.0; n * count];
    let (mut at, mut mean) = (0, 0.0);
    for block in blocks {
        let x = scaled(block);
        mean += off_diagonal(&x, block.samples) / (block.samples * count) as f64;
        for (to, from) in all.chunks_exact_mut(count).zip(x.chunks_exact(block.samples)) {
            to[at..at + block.samples].copy_from_slice(from);
        }
        at += block.samples;
    }
    (off_diagonal(&all, count) / (count * count) as f64, mean)
}
