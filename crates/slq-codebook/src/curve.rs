//! Squared error against the number of clusters.

use crate::exact::layered::divide_layers;
use crate::thresholds::Thresholds;
use crate::{ClusterError, SortedValues};

/// Points of the table: it is exact up to here, and polished on all values beyond.
const POINTS: usize = 1 << 12;

/// The smallest squared error for 1, 2, … `k_max` clusters: entry `i` is for `i + 1`.
///
/// Exact for up to 4096 distinct values. Beyond, the table is solved on groups of neighbouring values, every
/// codebook is polished by Lloyd's iteration on all of them, and the error reported is the true one of the
/// polished codebook: at or slightly above the optimum.
///
/// # Errors
/// No values, one that is not finite, or `k_max` of zero.
pub fn error_curve(values: &[f32], k_max: usize) -> Result<Vec<f64>, ClusterError> {
    SortedValues::new(values)?.error_curve(k_max)
}

impl SortedValues {
    /// As [`error_curve`], on values already sorted (and weighted).
    ///
    /// # Errors
    /// `k_max` of zero.
    pub fn error_curve(&self, k_max: usize) -> Result<Vec<f64>, ClusterError> {
        if k_max == 0 {
            return Err(ClusterError::ZeroClusters);
        }
        let (prefix, exact) = self.grouped(POINTS.max(2 * k_max.min(self.len())));
        let layers = divide_layers(&prefix, k_max);
        let mut curve = Vec::with_capacity(k_max);
        for ends in &layers {
            let error = if exact {
                let parts = ends.windows(2).map(|p| gain(prefix[p[0] as usize], prefix[p[1] as usize]));
                self.total_square() - parts.sum::<f64>()
            } else {
                let mean = |p: &[u32]| {
                    let (a, b) = (prefix[p[0] as usize], prefix[p[1] as usize]);
                    (self.pivot() + (b[1] - a[1]) / (b[0] - a[0])) as f32
                };
                let init: Vec<f32> = ends.windows(2).map(mean).collect();
                self.division_error(&self.lloyd(&init, &[], 100)?.codebook)?
            };
            let before = curve.last().copied().unwrap_or(f64::INFINITY);
            curve.push(error.max(0.0).min(before));
        }
        let last = if exact && layers.len() < k_max { 0.0 } else { curve[curve.len() - 1] };
        curve.resize(k_max, last);
        Ok(curve)
    }

    /// Prefix sums before at most `limit` groups of neighbouring values and after the last, and whether every
    /// distinct value has a group of its own.
    fn grouped(&self, limit: usize) -> (Vec<[f64; 2]>, bool) {
        let values = self.values();
        let starts = |step: usize| {
            let mut starts = vec![0];
            let mut taken = 0;
            for i in 1..values.len() {
                if values[i] != values[i - 1] && i - taken >= step {
                    starts.push(i);
                    taken = i;
                }
            }
            starts
        };
        let mut groups = starts(1);
        let exact = groups.len() <= limit;
        if !exact {
            groups = starts(values.len().div_ceil(limit));
        }
        let mut prefix: Vec<[f64; 2]> = groups.into_iter().map(|i| self.prefix(i)).collect();
        prefix.push(self.prefix(values.len()));
        (prefix, exact)
    }

    /// Squared error of the division that a codebook makes, with its means unrounded.
    fn division_error(&self, codebook: &[f32]) -> Result<f64, ClusterError> {
        let mut before = [0.0, 0.0];
        let mut error = self.total_square();
        let cuts = Thresholds::nearest(codebook)?.cuts;
        let bounds = cuts.iter().map(|&cut| self.values().partition_point(|&v| v < cut));
        for bound in bounds.chain([self.len()]) {
            let after = self.prefix(bound);
            error -= gain(before, after);
            before = after;
        }
        Ok(error)
    }
}

/// What the mean of a cluster takes off the sum of squares.
fn gain(before: [f64; 2], after: [f64; 2]) -> f64 {
    let [weight, sum] = [after[0] - before[0], after[1] - before[1]];
    if weight > 0.0 { sum * sum / weight } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterParams, cluster};

    fn noise(n: u32) -> Vec<f32> {
        (0..n)
            .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32)
            .map(|u| (u * 9.0).exp())
            .collect()
    }

    #[test]
    fn curve_matches_single_solutions() {
        for n in [40, 3000, 20_000] {
            let values = noise(n);
            let curve = error_curve(&values, 40).unwrap();
            for k in [1, 2, 5, 17, 39] {
                let best = cluster::<u8>(&values, &ClusterParams::new(k).unwrap()).unwrap().lower_bound;
                let got = curve[k - 1];
                assert!(
                    got >= best * (1.0 - 1e-9) - 1e-9 && got <= best * 1.0001 + 1e-3,
                    "{n} {k}: {got} {best}"
                );
            }
        }
    }

    #[test]
    fn ends_at_zero_and_names_bad_input() {
        assert_eq!(error_curve(&[1.0, 2.0, 2.0], 4).unwrap()[1..], [0.0, 0.0, 0.0]);
        assert_eq!(error_curve(&[1.0], 0).unwrap_err(), ClusterError::ZeroClusters);
        assert_eq!(error_curve(&[], 1).unwrap_err(), ClusterError::Empty);
    }
}
