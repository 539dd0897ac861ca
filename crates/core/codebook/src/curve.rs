//! Squared error against the number of clusters.

use slq_kernels::parallel::prelude::*;

use crate::exact::layered::divide_layers;
use crate::exact::penalty::Segment;
use crate::exact::points::Points;
use crate::exact::search::search;
use crate::thresholds::Thresholds;
use crate::{ClusterError, SortedValues};

/// Points up to which the whole table is worked out.
const TABLE: usize = 1 << 11;
/// Points up to which every entry is solved exactly.
const EXACT: usize = 1 << 16;
/// Passes of the polish beyond.
const POLISH: usize = 30;

/// The smallest squared error for 1, 2, … `k_max` clusters: entry `i` is for `i + 1`. There are no more entries
/// than values.
///
/// Exact for up to 65 536 distinct values. Beyond, every entry is solved on as many groups of neighbouring values
/// and polished by Lloyd's iteration on all of them; the error is the true one of the polished codebook, at or
/// slightly above the optimum (1e-6 and less where measured).
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
        let k_max = k_max.min(self.len());
        let points = Points::new(self, 1);
        let distinct = points.values.len();
        let together = |limit: usize| {
            let starts = points.groups(limit).into_iter().map(|start| points.prefix[start]);
            starts.chain([points.prefix[distinct]]).collect::<Vec<_>>()
        };
        let exact = distinct <= EXACT;
        let grouped;
        let fine = if exact {
            &points.prefix
        } else {
            grouped = together(EXACT);
            &grouped
        };
        let last = k_max.min(fine.len() - 1);
        // A coarse curve tells the penalty to begin with for every number of clusters.
        let mut rough = Vec::new();
        if distinct > TABLE {
            let coarse = together(TABLE);
            let layers = divide_layers(&coarse, last + 1);
            rough = layers.iter().map(|ends| division_cost(&coarse, ends)).collect();
        }
        let segment = Segment { prefix: fine, wide: &[], counts: &[], left: None, right: None, min_size: 1 };
        let solve = |k: usize| -> Result<f64, ClusterError> {
            let between = k.checked_sub(2).and_then(|i| Some((rough.get(i)? - rough.get(k)?) * 0.5));
            let guess = between.filter(|&penalty| penalty > 0.0);
            let Some(optimum) = search(&[segment], k, self.total_square(), guess) else {
                return Ok(f64::INFINITY);
            };
            let division = &optimum.divisions[0];
            if exact {
                return Ok(self.total_square() + division.cost);
            }
            let mean = |p: &[u32]| {
                let (a, b) = (fine[p[0] as usize], fine[p[1] as usize]);
                (self.pivot() + (b[1] - a[1]) / (b[0] - a[0])) as f32
            };
            let init: Vec<f32> = division.nodes.windows(2).map(mean).collect();
            self.division_error(&self.lloyd(&init, &[], POLISH)?.codebook)
        };
        let mut curve = if distinct <= TABLE {
            let layers = divide_layers(fine, last);
            layers.iter().map(|ends| self.total_square() + division_cost(fine, ends)).collect()
        } else {
            (1..=last).into_par_iter().map(solve).collect::<Result<Vec<f64>, _>>()?
        };
        let mut least = f64::INFINITY;
        for (i, error) in curve.iter_mut().enumerate() {
            // As many clusters as values leave nothing but rounding.
            least = if i + 1 >= distinct { 0.0 } else { error.max(0.0).min(least) };
            *error = least;
        }
        curve.resize(k_max, if exact { 0.0 } else { least });
        Ok(curve)
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

fn division_cost(prefix: &[[f64; 2]], ends: &[u32]) -> f64 {
    -ends.windows(2).map(|p| gain(prefix[p[0] as usize], prefix[p[1] as usize])).sum::<f64>()
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
        for n in [40, 3000, 20_000, 100_000] {
            let values = noise(n);
            let curve = error_curve(&values, 40).unwrap();
            for k in [1, 2, 5, 17, 39] {
                let best = cluster::<u8>(&values, &ClusterParams::new(k).unwrap()).unwrap().lower_bound;
                let got = curve[k - 1];
                assert!(
                    got >= best * (1.0 - 1e-9) - 1e-9 && got <= best * 1.00001 + 1e-6,
                    "{n} {k}: {got} {best}"
                );
            }
        }
    }

    #[test]
    fn ends_at_zero_and_names_bad_input() {
        assert_eq!(error_curve(&[1.0, 2.0, 2.0], 4).unwrap()[1..], [0.0, 0.0]);
        assert_eq!(error_curve(&[1.0], usize::MAX).unwrap(), [0.0]);
        assert_eq!(error_curve(&[1.0], 0).unwrap_err(), ClusterError::ZeroClusters);
        assert_eq!(error_curve(&[], 1).unwrap_err(), ClusterError::Empty);
    }
}
