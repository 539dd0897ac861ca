//! Assignment of values to codes, and decoding.

use slq_kernels::Isa;
use slq_kernels::cluster::{self as kernels, BLOCK, LANES};
use slq_kernels::parallel::prelude::*;

use crate::thresholds::Thresholds;
use crate::{ClusterError, Code, PackError, sorted};

/// Values handled by one task; fixed, so that sums do not depend on the number of threads.
pub(crate) const CHUNK: usize = 1 << 16;

/// The code of the nearest codebook entry for every value, the lowest index on a tie.
///
/// The codebook may be in any order. Runs on the current rayon pool.
///
/// # Errors
/// An empty codebook, one with more entries than `C` can number, an entry or a value that is not finite.
/// Empty `values` give no codes.
pub fn assign<C: Code>(values: &[f32], codebook: &[f32]) -> Result<Vec<C>, ClusterError> {
    if codebook.len() > C::LIMIT {
        return Err(ClusterError::CodeTooNarrow { k: codebook.len(), limit: C::LIMIT });
    }
    assign_by(values, &Thresholds::nearest(codebook)?)
}

/// The code of the interval of every value.
pub(crate) fn assign_by<C: Code>(values: &[f32], thresholds: &Thresholds) -> Result<Vec<C>, ClusterError> {
    if let Some(index) = sorted::first_not_finite(values) {
        return Err(ClusterError::NotFinite { index, value: values[index] });
    }
    let mut codes = vec![C::default(); values.len()];
    codes.par_chunks_mut(CHUNK).zip(values.par_chunks(CHUNK)).for_each(|(codes, values)| {
        assign_chunk(values, thresholds, codes);
    });
    Ok(codes)
}

/// Codes and the weighted squared error of `codebook[code]`, in one pass; values must be finite.
pub(crate) fn assign_with_error<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    thresholds: &Thresholds,
    codebook: &[f32],
) -> (Vec<C>, f64) {
    let mut codes = vec![C::default(); values.len()];
    let errors: Vec<f64> = codes
        .par_chunks_mut(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .enumerate()
        .map(|(c, (codes, values))| {
            assign_chunk(values, thresholds, codes);
            let weights = weights.map(|w| &w[c * CHUNK..c * CHUNK + values.len()]);
            squared_error_chunk(values, weights, codes, codebook)
        })
        .collect();
    (codes, errors.iter().sum())
}

/// Weighted sum of squared differences between values and the entries their codes name, in f64.
///
/// # Errors
/// Codes or weights that do not pair up with the values, or a code without an entry.
pub fn squared_error<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    codes: &[C],
    codebook: &[f32],
) -> Result<f64, PackError> {
    let pairs = weights.map_or(codes.len(), <[f32]>::len);
    if codes.len() != values.len() || pairs != values.len() {
        return Err(PackError::OutputLength { codes: codes.len().min(pairs), output: values.len() });
    }
    check_codes(codes, codebook.len())?;
    let errors: Vec<f64> = codes
        .par_chunks(CHUNK)
        .zip(values.par_chunks(CHUNK))
        .enumerate()
        .map(|(c, (codes, values))| {
            let weights = weights.map(|w| &w[c * CHUNK..c * CHUNK + values.len()]);
            squared_error_chunk(values, weights, codes, codebook)
        })
        .collect();
    Ok(errors.iter().sum())
}

fn assign_chunk<C: Code>(values: &[f32], thresholds: &Thresholds, codes: &mut [C]) {
    let mut found = [0u16; BLOCK];
    for (codes, values) in codes.chunks_mut(BLOCK).zip(values.chunks(BLOCK)) {
        let found = &mut found[..values.len()];
        kernels::codes_of(Isa::detect(), values, &thresholds.cuts, &thresholds.codes, found);
        for (code, &found) in codes.iter_mut().zip(found.iter()) {
            *code = C::from_index(found.into());
        }
    }
}

fn squared_error_chunk<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    codes: &[C],
    codebook: &[f32],
) -> f64 {
    let mut wide = [0u16; BLOCK];
    let mut centroids = [0.0f32; BLOCK];
    let mut sums = [0.0; LANES];
    for (b, (codes, values)) in codes.chunks(BLOCK).zip(values.chunks(BLOCK)).enumerate() {
        let wide = &mut wide[..values.len()];
        let centroids = &mut centroids[..values.len()];
        for (wide, code) in wide.iter_mut().zip(codes) {
            *wide = code.index() as u16;
        }
        let weights = weights.map(|w| &w[b * BLOCK..b * BLOCK + values.len()]);
        kernels::look_up(Isa::detect(), wide, codebook, centroids);
        kernels::add_errors(Isa::detect(), values, centroids, weights, &mut sums);
    }
    sums.iter().sum()
}

/// The codebook entry of every code.
///
/// # Errors
/// A code without an entry.
pub fn decode<C: Code>(codes: &[C], codebook: &[f32]) -> Result<Vec<f32>, PackError> {
    let mut values = vec![0.0; codes.len()];
    decode_into(codes, codebook, &mut values)?;
    Ok(values)
}

/// As [`decode`], into memory that is already there.
///
/// # Errors
/// A code without an entry, or `values` of another length than `codes`; `values` is then left as it was.
pub fn decode_into<C: Code>(codes: &[C], codebook: &[f32], values: &mut [f32]) -> Result<(), PackError> {
    if codes.len() != values.len() {
        return Err(PackError::OutputLength { codes: codes.len(), output: values.len() });
    }
    check_codes(codes, codebook.len())?;
    values.par_chunks_mut(CHUNK).zip(codes.par_chunks(CHUNK)).for_each(|(values, codes)| {
        let mut wide = [0u16; BLOCK];
        for (values, codes) in values.chunks_mut(BLOCK).zip(codes.chunks(BLOCK)) {
            let wide = &mut wide[..codes.len()];
            for (wide, code) in wide.iter_mut().zip(codes) {
                *wide = code.index() as u16;
            }
            kernels::look_up(Isa::detect(), wide, codebook, values);
        }
    });
    Ok(())
}

fn check_codes<C: Code>(codes: &[C], entries: usize) -> Result<(), PackError> {
    if entries >= C::LIMIT {
        return Ok(());
    }
    let largest = codes.par_chunks(CHUNK).map(|c| c.iter().copied().max().unwrap_or_default()).max();
    if largest.is_some_and(|code| code.index() >= entries) {
        let index = codes.iter().position(|code| code.index() >= entries).unwrap_or_default();
        return Err(PackError::NoEntry { index, code: codes[index].index() as u32, entries });
    }
    Ok(())
}
