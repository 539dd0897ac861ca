//! Codebooks of a given shape: powers of two, evenly spaced levels, and INQ's rule.

use crate::assign::assign_by;
use crate::init::floor_power_of_two;
use crate::thresholds::Thresholds;
use crate::{ClusterError, Code, SortedValues};

/// The best codebook `{0, ±2^p, ±2^(p-1), …}` of `k` entries, in the order of the ladder: zero, then
/// the largest magnitude, positive first. All exponents `p` that f32 has are tried.
///
/// # Errors
/// No values, one that is not finite, or an even `k`, or one above 255.
pub fn pow2_codebook(values: &[f32], k: usize) -> Result<Vec<f32>, ClusterError> {
    SortedValues::new(values)?.pow2_codebook(k)
}

/// The best codebook of `k` evenly spaced levels, symmetric about zero: `scale * (i - (k - 1) / 2)`, ascending.
/// It holds zero when `k` is odd.
///
/// # Errors
/// No values, one that is not finite, or fewer than two levels.
pub fn uniform_codebook(values: &[f32], k: usize) -> Result<Vec<f32>, ClusterError> {
    SortedValues::new(values)?.uniform_codebook(k)
}

impl SortedValues {
    /// As [`pow2_codebook`], on values already sorted (and weighted).
    ///
    /// # Errors
    /// An even `k`, or one above 255.
    pub fn pow2_codebook(&self, k: usize) -> Result<Vec<f32>, ClusterError> {
        if k.is_multiple_of(2) || k > 255 {
            return Err(ClusterError::BadLevels { k, reason: "powers of two need an odd number up to 255" });
        }
        let max = self.max_abs();
        // Twice the floor: a top level above the largest value can still be the nearest to it.
        let mut top = floor_power_of_two(max);
        if top < f32::MAX / 2.0 {
            top *= 2.0;
        }
        let mut best = (f64::INFINITY, crate::init::ladder_from_max(top, k));
        while top > 0.0 {
            let codebook = crate::init::ladder_from_max(top, k);
            let error = self.codebook_error(&codebook)?;
            if error < best.0 {
                best = (error, codebook);
            }
            top *= 0.5;
        }
        Ok(best.1)
    }

    /// As [`uniform_codebook`], on values already sorted (and weighted).
    ///
    /// # Errors
    /// Fewer than two levels, or more than 65 536.
    pub fn uniform_codebook(&self, k: usize) -> Result<Vec<f32>, ClusterError> {
        if !(2..=1 << 16).contains(&k) {
            return Err(ClusterError::BadLevels { k, reason: "even spacing needs 2 to 65536 levels" });
        }
        let levels: Vec<f32> = (0..k).map(|i| i as f32 - (k - 1) as f32 * 0.5).collect();
        self.scaled_codebook(&levels)
    }

    /// Largest magnitude.
    pub fn max_abs(&self) -> f32 {
        self.values()[0].abs().max(self.values()[self.len() - 1].abs())
    }

    /// Weighted squared error when every value takes the nearest entry of `codebook`, from prefix sums.
    ///
    /// # Errors
    /// A codebook that is empty, too long or not finite.
    pub fn codebook_error(&self, codebook: &[f32]) -> Result<f64, ClusterError> {
        let mut error = self.total_square();
        self.each_cluster(codebook, |code, weight, sum| {
            let c = f64::from(codebook[code]) - self.pivot();
            error += c * (c * weight - 2.0 * sum);
        })?;
        Ok(error.max(0.0))
    }

    /// Calls `visit` with entry, weight and value sum (about the pivot) of every cluster.
    pub(crate) fn each_cluster(
        &self,
        codebook: &[f32],
        mut visit: impl FnMut(usize, f64, f64),
    ) -> Result<(), ClusterError> {
        let thresholds = Thresholds::nearest(codebook)?;
        let mut before = [0.0, 0.0];
        for (p, &code) in thresholds.codes.iter().enumerate() {
            let bound =
                thresholds.cuts.get(p).map_or(self.len(), |&cut| self.values().partition_point(|&v| v < cut));
            let after = self.prefix(bound);
            visit(usize::from(code), after[0] - before[0], after[1] - before[1]);
            before = after;
        }
        Ok(())
    }
}

/// The levels of INQ for `bits` bits, in the order of the ladder: zero, then `±2^n1` down to `±2^n2`, positive
/// first, with `n1 = floor(log2(4 s / 3))` for the largest magnitude `s` and `n2 = n1 + 1 - 2^(bits - 1) / 2`:
/// `2^(bits - 1) + 1` levels. The exponent is exact, and at most 127; levels too small for f32 become zero.
///
/// Source: Zhou et al., "Incremental Network Quantization", ICLR 2017, section 2.1.
///
/// # Errors
/// A width outside 2 to 8 bits, or a magnitude that is negative or not finite.
pub fn inq_levels(max_abs: f32, bits: u32) -> Result<Vec<f32>, ClusterError> {
    if !(2..=8).contains(&bits) {
        return Err(ClusterError::BadLevels { k: bits as usize, reason: "INQ takes 2 to 8 bits" });
    }
    if !(max_abs >= 0.0 && max_abs.is_finite()) {
        return Err(ClusterError::BadMagnitude { value: max_abs });
    }
    let mut top = floor_power_of_two(max_abs);
    // 2^(n+1) <= 4 s / 3, asked without a division that could round.
    if top > 0.0 && 3.0 * 2.0 * f64::from(top) <= 4.0 * f64::from(max_abs) && top < f32::MAX / 2.0 {
        top *= 2.0;
    }
    Ok(crate::init::ladder_from_max(top, (1 << (bits - 1)) + 1))
}

/// INQ's rule: level beta for `(alpha + beta) / 2 <= |w| < 3 beta / 2`, with alpha the next smaller level, and
/// zero below. Unlike [`crate::assign`], ties go to the larger magnitude. `levels` are those of [`inq_levels`];
/// magnitudes beyond the last border take the largest level.
///
/// # Errors
/// As [`crate::assign`].
pub fn inq_assign<C: Code>(values: &[f32], levels: &[f32]) -> Result<Vec<C>, ClusterError> {
    if levels.len() > C::LIMIT {
        return Err(ClusterError::CodeTooNarrow { k: levels.len(), limit: C::LIMIT });
    }
    assign_by(values, &Thresholds::with_ties(levels, |left, right| right.1.abs() > left.1.abs())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inq_levels_follow_the_exponent_rule() {
        // s = 0.9: 4 s / 3 = 1.2, n1 = 0; 5 bits: n2 = -7.
        let levels = inq_levels(0.9, 5).unwrap();
        assert_eq!(levels.len(), 17);
        assert_eq!(levels[..4], [0.0, 1.0, -1.0, 0.5]);
        assert_eq!(levels[16], -(2f32.powi(-7)));
        assert_eq!(inq_levels(0.75, 2).unwrap(), [0.0, 1.0, -1.0]);
        assert_eq!(inq_levels(0.75f32.next_down(), 2).unwrap(), [0.0, 0.5, -0.5]);
        assert_eq!(inq_levels(0.0, 2).unwrap(), [0.0; 3]);
        assert_eq!(inq_levels(f32::MAX, 2).unwrap()[1], 2f32.powi(127));
        assert!(
            inq_levels(f32::NAN, 3).is_err() && inq_levels(-1.0, 3).is_err() && inq_levels(1.0, 1).is_err()
        );
    }

    #[test]
    fn inq_borders_are_as_published() {
        let levels = inq_levels(1.0, 3).unwrap();
        assert_eq!(levels, [0.0, 1.0, -1.0, 0.5, -0.5]);
        // Borders at 0.25 and 0.75, which belong to the larger level.
        let values = [0.25f32.next_down(), 0.25, 0.75f32.next_down(), 0.75, -0.25, -0.75, 0.0, 1.4];
        assert_eq!(inq_assign::<u8>(&values, &levels).unwrap(), [0, 3, 3, 1, 4, 2, 0, 1]);
    }

    #[test]
    fn uniform_levels_are_even_and_symmetric() {
        let values: Vec<f32> =
            (0..3000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 4e6 - 2.0).collect();
        for k in [2, 7, 16] {
            let codebook = uniform_codebook(&values, k).unwrap();
            let step = codebook[1] - codebook[0];
            assert!(codebook.windows(2).all(|p| (p[1] - p[0] - step).abs() < 1e-5 * step), "{k}");
            assert_eq!(codebook[0], -codebook[k - 1]);
        }
        assert!(matches!(uniform_codebook(&values, 1).unwrap_err(), ClusterError::BadLevels { .. }));
    }

    #[test]
    fn pow2_beats_its_neighbours() {
        let values: Vec<f32> =
            (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 4e6 - 2.0).collect();
        let sorted = SortedValues::new(&values).unwrap();
        let best = sorted.pow2_codebook(5).unwrap();
        let error = sorted.codebook_error(&best).unwrap();
        for factor in [0.25, 0.5, 2.0, 4.0] {
            let other: Vec<f32> = best.iter().map(|c| c * factor).collect();
            assert!(sorted.codebook_error(&other).unwrap() >= error);
        }
        assert!(best.iter().all(|&c| c == 0.0 || c.to_bits() & 0x7f_ffff == 0));
        assert_eq!(
            pow2_codebook(&[2f32.powi(127), f32::MIN], 3).unwrap(),
            [0.0, 2f32.powi(127), -(2f32.powi(127))]
        );
        assert_eq!(pow2_codebook(&[f32::from_bits(1), 0.0], 3).unwrap()[1], f32::from_bits(1));
        assert_eq!(pow2_codebook(&[0.0], 3).unwrap(), [0.0; 3]);
        assert!(matches!(sorted.pow2_codebook(4).unwrap_err(), ClusterError::BadLevels { .. }));
    }
}
