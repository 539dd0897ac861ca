//! Codebooks in closed form for given codes (method: step 5a).

use std::collections::BTreeMap;

use rayon::prelude::*;
use slq_engine::Isa;

use super::chunk::Chunk;
use super::curvature::Curvature;
use super::layout::Layout;
use super::normal::{Normal, normal_equations};

/// What values a codebook may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Values {
    /// Any (default).
    #[default]
    Free,
    /// Any that a 16-bit float holds.
    Half,
    /// Evenly spaced, symmetric about zero; only the distance is free.
    Uniform,
    /// Zero and plus and minus neighbouring powers of two; only the largest is free.
    PowersOfTwo,
}

/// Bytes of equations that may wait at a time.
const WAITING: usize = 64 << 20;

/// Moves the values of all codebooks to where the objective is smallest for the codes as they are, and the chunks' errors
/// with them. Returns by how much the objective falls; it never rises.
pub(crate) fn fit(
    isa: Isa,
    layout: &Layout,
    curvatures: &[Curvature],
    chunks: &mut [Chunk],
    (values, size, kind): (&mut [f32], usize, Values),
) -> f64 {
    if layout.book_rows == 1 {
        // Rows have codebooks of their own: each chunk works alone, block of inputs by block of inputs.
        let per_row = layout.across() * size;
        let rows: Vec<&mut [f32]> = values.chunks_mut(per_row).collect();
        let mut parts = Vec::with_capacity(chunks.len());
        let mut rows = rows.into_iter();
        for chunk in chunks.iter() {
            parts.push(rows.by_ref().take(chunk.width()).collect::<Vec<_>>());
        }
        let falls: Vec<f64> = chunks
            .par_iter_mut()
            .zip(parts)
            .map(|(chunk, rows)| fit_rows(isa, layout, &curvatures[chunk.group], chunk, (rows, size, kind)))
            .collect();
        return falls.iter().sum();
    }
    let equations = size * size * size_of::<f64>() * (64 / layout.book_rows).max(1);
    let wave = (WAITING / equations).clamp(1, 1024);
    let mut waiting: BTreeMap<usize, Normal> = BTreeMap::new();
    let mut fall = 0.0;
    for start in (0..chunks.len()).step_by(wave) {
        let wave = &chunks[start..chunks.len().min(start + wave)];
        let found: Vec<Vec<(usize, Normal)>> = wave
            .par_iter()
            .map(|chunk| shared_equations(isa, layout, &curvatures[chunk.group], chunk, size))
            .collect();
        for (book, normal) in found.into_iter().flatten() {
            waiting.entry(book).or_insert_with(|| Normal::new(size)).add(&normal);
        }
        // Rows come in order: books before the last row's are complete.
        let next = wave.last().map_or(0, |c| c.rows.end) / layout.book_rows;
        let open = waiting.split_off(&next);
        for (book, normal) in std::mem::replace(&mut waiting, open) {
            fall += refit(&mut values[book * size..][..size], &normal, kind);
        }
    }
    chunks.par_iter_mut().for_each(|chunk| chunk.refresh(layout, values, size));
    fall
}

/// The equations of the codebooks that a chunk's rows share with each other or with other chunks.
fn shared_equations(
    isa: Isa,
    layout: &Layout,
    curvature: &Curvature,
    chunk: &Chunk,
    size: usize,
) -> Vec<(usize, Normal)> {
    let (n, width) = (layout.columns, chunk.width());
    let carry = curvature.carry(isa, &chunk.errors, width);
    let mut products = vec![0.0; n * width];
    curvature.products(isa, 0..n, (&chunk.errors, &carry), width, &mut products);
    let first = chunk.rows.start / layout.book_rows;
    let books: Vec<usize> = chunk.rows.clone().map(|row| row / layout.book_rows - first).collect();
    let found = normal_equations(curvature, chunk, 0..n, &products, (&books, size));
    found.into_iter().enumerate().map(|(i, normal)| (first + i, normal)).collect()
}

/// Codebooks of single rows, one block of inputs after the other; `rows` holds each row's codebooks.
fn fit_rows(
    isa: Isa,
    layout: &Layout,
    curvature: &Curvature,
    chunk: &mut Chunk,
    (mut rows, size, kind): (Vec<&mut [f32]>, usize, Values),
) -> f64 {
    let width = chunk.width();
    let mut carry = curvature.carry(isa, &chunk.errors, width);
    let mut products = vec![0.0; layout.book_columns * width];
    let books: Vec<usize> = (0..width).collect();
    let mut fall = 0.0;
    for (block, start) in (0..layout.columns).step_by(layout.book_columns).enumerate() {
        let range = start..start + layout.book_columns;
        curvature.products(isa, range.clone(), (&chunk.errors, &carry), width, &mut products);
        // A few rows at a time: their equations wait together.
        let step = (WAITING / 4 / (size * size * size_of::<f64>())).clamp(1, width);
        for first in (0..width).step_by(step) {
            let end = width.min(first + step);
            let part = part_of(chunk, first..end);
            let own: Vec<f32> = products.chunks_exact(width).flat_map(|p| &p[first..end]).copied().collect();
            let found =
                normal_equations(curvature, &part, range.clone(), &own, (&books[..end - first], size));
            for (row, normal) in rows[first..end].iter_mut().zip(&found) {
                fall += refit(&mut row[block * size..][..size], normal, kind);
            }
        }
        let own = range.start * width..range.end * width;
        let mut change = chunk.errors[own.clone()].to_vec();
        for (at, error) in own.clone().zip(&mut chunk.errors[own.clone()]) {
            let value = rows[at % width][block * size + usize::from(chunk.codes[at])];
            *error = chunk.targets[at] - value;
        }
        change.iter_mut().zip(&chunk.errors[own]).for_each(|(c, e)| *c = e - *c);
        curvature.advance(isa, range, &change, width, &mut carry);
    }
    fall
}

/// Some rows of a chunk: codes and weights only.
fn part_of(chunk: &Chunk, rows: std::ops::Range<usize>) -> Chunk {
    let width = chunk.width();
    let codes = chunk.codes.chunks_exact(width).flat_map(|c| &c[rows.clone()]).copied().collect();
    Chunk {
        group: chunk.group,
        rows: chunk.rows.start + rows.start..chunk.rows.start + rows.end,
        targets: Vec::new(),
        errors: Vec::new(),
        codes,
        weights: chunk.weights[rows.clone()].to_vec(),
        scales: chunk.scales[rows].to_vec(),
    }
}

/// Moves one codebook; returns by how much the objective falls.
fn refit(values: &mut [f32], normal: &Normal, kind: Values) -> f64 {
    let candidates: Vec<Vec<f32>> = match kind {
        Values::Free => solved(values, normal).into_iter().collect(),
        Values::Half => {
            solved(values, normal).map(|v| v.into_iter().map(to_half).collect()).into_iter().collect()
        }
        Values::Uniform => rescaled(values, normal).into_iter().collect(),
        Values::PowersOfTwo => {
            [0.5, 2.0].map(|factor: f32| values.iter().map(|v| v * factor).collect()).into_iter().collect()
        }
    };
    let fall = |to: &[f32]| {
        let step: Vec<f64> = to.iter().zip(&*values).map(|(&t, &v)| f64::from(t) - f64::from(v)).collect();
        let linear: f64 = step.iter().zip(&normal.gradient).map(|(s, g)| s * g).sum();
        let square: f64 = step
            .iter()
            .zip(normal.matrix.chunks_exact(normal.size))
            .map(|(s, row)| s * row.iter().zip(&step).map(|(a, s)| a * s).sum::<f64>())
            .sum();
        2.0 * linear - square
    };
    let falls = candidates.into_iter().map(|c| (fall(&c), c));
    let best = falls.filter(|(f, c)| *f > 0.0 && c.iter().all(|v| v.is_finite()));
    match best.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((fall, best)) => {
            values.copy_from_slice(&best);
            fall
        }
        None => 0.0,
    }
}

/// The minimiser over all values that have weights; the others stay. `None` where it cannot be found.
fn solved(values: &[f32], normal: &Normal) -> Option<Vec<f32>> {
    let used: Vec<usize> = (0..normal.size).filter(|&k| normal.counts[k] > 0).collect();
    let m = used.len();
    let mut a: Vec<f64> = used
        .iter()
        .flat_map(|&k| used.iter().map(move |&l| (k, l)))
        .map(|(k, l)| normal.matrix[k * normal.size + l])
        .collect();
    // The sums behind the matrix are of single precision.
    (0..m).for_each(|i| a[i * m + i] *= 1.0 + 1e-6);
    let mut step: Vec<f64> = used.iter().map(|&k| normal.gradient[k]).collect();
    solve_in_place(&mut a, &mut step)?;
    let mut out = values.to_vec();
    used.iter().zip(step).for_each(|(&k, s)| out[k] = (f64::from(values[k]) + s) as f32);
    Some(out)
}

/// Solves the symmetric positive definite system `a x = b`; `b` becomes x.
fn solve_in_place(a: &mut [f64], b: &mut [f64]) -> Option<()> {
    let n = b.len();
    for j in 0..n {
        for i in j..n {
            let dot: f64 = (0..j).map(|k| a[i * n + k] * a[j * n + k]).sum();
            a[i * n + j] -= dot;
            if i == j {
                if a[j * n + j].is_nan() || a[j * n + j] <= 0.0 {
                    return None;
                }
                a[j * n + j] = a[j * n + j].sqrt();
            } else {
                a[i * n + j] /= a[j * n + j];
            }
        }
    }
    for i in 0..n {
        let dot: f64 = (0..i).map(|k| a[i * n + k] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    for i in (0..n).rev() {
        let dot: f64 = (i + 1..n).map(|k| a[k * n + i] * b[k]).sum();
        b[i] = (b[i] - dot) / a[i * n + i];
    }
    Some(())
}

/// Evenly spaced values, ascending and symmetric about zero, times the factor that is best. Each is rounded once, however often
/// they move: packed forms want multiples of one step.
fn rescaled(values: &[f32], normal: &Normal) -> Option<Vec<f32>> {
    let linear: f64 = values.iter().zip(&normal.gradient).map(|(&v, g)| f64::from(v) * g).sum();
    let rows = values.iter().zip(normal.matrix.chunks_exact(normal.size));
    let square: f64 = rows
        .map(|(&v, row)| f64::from(v) * row.iter().zip(values).map(|(a, &v)| a * f64::from(v)).sum::<f64>())
        .sum();
    let factor = 1.0 + linear / square;
    // The levels are symmetric: a factor that is not positive would only swap them.
    let last = values.len().checked_sub(1).filter(|&last| last > 0 && factor > 0.0)?;
    let half = f64::from(values[last]) * factor / last as f64;
    Some((0..=last).map(|i| (half * (2.0 * i as f64 - last as f64)) as f32).collect())
}

/// The nearest value that a 16-bit float holds (ties to even), kept as a 32-bit float.
pub(crate) fn to_half(value: f32) -> f32 {
    let magnitude = value.abs();
    // Below 2^-14 halves are spaced 2^-24 apart; above, 2^-10 of the power of two below.
    let spacing = if magnitude < 2f32.powi(-14) {
        2f32.powi(-24)
    } else {
        f32::from_bits(magnitude.to_bits() & 0x7f80_0000) * 2f32.powi(-10)
    };
    let rounded = (f64::from(value) / f64::from(spacing)).round_ties_even() * f64::from(spacing);
    (rounded as f32).clamp(-65504.0, 65504.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_those_of_the_format() {
        let table = [
            (0.0, 0.0),
            (1.0, 1.0),
            (0.1, 0.099_975_586),
            (-1.000_488_3, -1.0),
            (1e-8, 0.0),
            (3e-8, 2f32.powi(-24)),
            (2_049.0, 2_048.0),
            (2_051.0, 2_052.0),
            (1e9, 65_504.0),
        ];
        for (value, want) in table {
            assert_eq!(to_half(value), want, "{value}");
        }
    }

    #[test]
    fn a_fit_reaches_the_minimum_and_keeps_what_has_no_weights() {
        let normal = Normal {
            size: 3,
            matrix: vec![4.0, 1.0, 0.0, 1.0, 3.0, 0.0, 0.0, 0.0, 0.0],
            gradient: vec![1.0, 2.0, 0.0],
            counts: vec![2, 1, 0],
        };
        let mut values = [0.5f32, -1.0, 7.0];
        let fall = refit(&mut values, &normal, Values::Free);
        // The step solves 4 a + b = 1, a + 3 b = 2.
        for (got, want) in values.iter().zip([0.5 + 1.0 / 11.0, -1.0 + 7.0 / 11.0, 7.0]) {
            assert!((got - want).abs() < 1e-5, "{values:?}");
        }
        assert!((fall - (1.0 / 11.0 + 14.0 / 11.0)).abs() < 1e-4, "{fall}");
        assert!(
            refit(&mut values.clone(), &Normal { gradient: vec![0.0; 3], ..normal }, Values::Half) <= 1e-9
        );
    }
}
