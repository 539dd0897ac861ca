//! Inner loops of one-dimensional clustering; every instruction set gives the same bits.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
mod types;

pub use types::{Extent, LANES, SIDE, Spread};

use crate::Isa;
use crate::isa::multiversion;

/// Values to hand over in one call, so that what passes between two loops stays in the first-level cache.
pub const BLOCK: usize = 2048;

multiversion! {
    /// Sums and extremes of values, value `i` in lane `i % LANES`.
    pub fn extent_of(values: &[f32]) -> Extent = portable::extent_of;

    /// The bin of every value, below `2 * SIDE`.
    pub fn bins_of(values: &[f32], spread: Spread, out: &mut [u16]) = portable::bins_of;

    /// Adds squared differences, times weights if there are any, to the running sums.
    pub fn add_errors(
        values: &[f32],
        centroids: &[f32],
        weights: Option<&[f32]>,
        sums: &mut [f64; LANES],
    ) = portable::add_errors;
}

/// `codes[p]` for every value, `p` being the number of `cuts` that are not above it. Cuts ascend; there is one
/// code more than there are cuts.
pub fn codes_of(isa: Isa, values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    match isa.effective() {
        Isa::Scalar => portable::codes_of(values, cuts, codes, out),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `effective` never names an instruction set that the processor lacks.
        Isa::Avx2 => unsafe { codes_of_avx2(values, cuts, codes, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 => unsafe { avx512::codes_of(values, cuts, codes, out) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => portable::codes_of(values, cuts, codes, out),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn codes_of_avx2(values: &[f32], cuts: &[f32], codes: &[u16], out: &mut [u16]) {
    portable::codes_of(values, cuts, codes, out);
}

/// `table[code]` for every code; codes without an entry give zero.
pub fn look_up(isa: Isa, codes: &[u16], table: &[f32], out: &mut [f32]) {
    match isa.effective() {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `effective` never names an instruction set that the processor lacks.
        Isa::Avx512 => unsafe { avx512::look_up(codes, table, out) },
        _ => portable::look_up(codes, table, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: u32, seed: u32) -> Vec<f32> {
        (0..n)
            .map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 22) as f32 - 2.0)
            .collect()
    }

    #[test]
    fn extents_agree() {
        for n in [0, 1, 15, 16, 17, 1000] {
            let values = numbers(n, 5);
            let extents: Vec<Extent> = Isa::supported().map(|isa| extent_of(isa, &values)).collect();
            assert!(extents.iter().all(|e| *e == extents[0]), "{n} values");
            let sum: f64 = values.iter().map(|&v| f64::from(v)).sum();
            assert!((extents[0].sums.iter().sum::<f64>() - sum).abs() < 1e-9);
            let low = values.iter().copied().fold(f32::MAX, f32::min);
            assert_eq!(extents[0].lows.into_iter().fold(f32::MAX, f32::min), low);
        }
    }

    #[test]
    fn bins_ascend_and_agree() {
        for spread in [Spread { pivot: 0.0, s: 1.0 }, Spread { pivot: 0.3, s: 0.01 }] {
            let mut values = numbers(5000, 3);
            values.extend([f32::MIN, f32::MAX, 0.0, -0.0, 0.3, 1e-45, 1e10]);
            values.sort_by(f32::total_cmp);
            let mut found: Vec<Vec<u16>> = Vec::new();
            for isa in Isa::supported() {
                let mut out = vec![0; values.len()];
                bins_of(isa, &values, spread, &mut out);
                assert!(out.is_sorted());
                found.push(out);
            }
            assert!(found.iter().all(|f| f == &found[0]));
            assert!(found[0].windows(2).filter(|p| p[0] != p[1]).count() > 1000);
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for n in [0, 1, 15, 16, 17, 63, 64, 100, 2048] {
            let mut values = numbers(n, 1);
            for cut_count in [0usize, 1, 2, 15, 16, 17, 31, 32, 33, 100, 255, 256, 1000] {
                let mut cuts = numbers(cut_count as u32, 7);
                cuts.sort_by(f32::total_cmp);
                // Values that lie exactly on a cut.
                for (v, c) in values.iter_mut().step_by(3).zip(&cuts) {
                    *v = *c;
                }
                let codes: Vec<u16> = (0..=cut_count).map(|i| ((i * 7) % (cut_count + 1)) as u16).collect();
                let table = numbers(cut_count as u32 + 1, 9);
                let weights = numbers(n, 11);
                let expected: Vec<u16> =
                    values.iter().map(|x| codes[cuts.iter().filter(|c| *c <= x).count()]).collect();
                let mut sums = Vec::new();
                for isa in Isa::supported() {
                    let mut out = vec![0; values.len()];
                    codes_of(isa, &values, &cuts, &codes, &mut out);
                    assert_eq!(out, expected, "{isa:?}, {n} values, {cut_count} cuts");
                    let mut centroids = vec![0.0; values.len()];
                    look_up(isa, &out, &table, &mut centroids);
                    assert!(
                        centroids.iter().zip(&out).all(|(c, &code)| *c == table[usize::from(code)]),
                        "{isa:?}"
                    );
                    for weights in [None, Some(&weights[..])] {
                        let mut lanes = [0.5; LANES];
                        add_errors(isa, &values, &centroids, weights, &mut lanes);
                        sums.push((weights.is_some(), lanes.map(f64::to_bits)));
                    }
                }
                for (weighted, lanes) in &sums {
                    assert_eq!(lanes, &sums[usize::from(*weighted)].1, "{n} values, weighted: {weighted}");
                }
            }
        }
    }
}
