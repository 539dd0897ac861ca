//! Initial centroids of Lloyd's iteration.

use std::ops::Range;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use slq_kernels::parallel::prelude::*;

use crate::SortedValues;

/// The initial centroids of the published SLQ program, in the order of its ladder: 0, m, -m, m/2, -m/2, …
/// with `m = 2^floor(log2(max |w|))`.
///
/// The power of two is taken from the exponent itself and is right for exact powers of two and for subnormal
/// values. Steps too small for f32 become zero. Returns `k` centroids; all zeros if every value is zero.
/// Values that are not finite are skipped, and no ladder is longer than 65 536.
///
/// Source: Xu et al., AAAI 2018, section "Clustering", and the authors' program.
pub fn published_ladder(values: &[f32], k: usize) -> Vec<f32> {
    let max = values.iter().filter(|v| v.is_finite()).fold(0.0f32, |m, v| m.max(v.abs()));
    ladder_from_max(max, k)
}

pub(crate) fn ladder_from_max(max_abs: f32, k: usize) -> Vec<f32> {
    let k = k.min(1 << 16);
    let mut step = floor_power_of_two(max_abs);
    let mut ladder = Vec::with_capacity(k);
    for i in 0..k {
        if i == 0 {
            ladder.push(0.0);
        } else if i % 2 == 1 {
            ladder.push(step);
        } else {
            // Adding zero keeps a step of zero from becoming -0.
            ladder.push(-step + 0.0);
            step *= 0.5;
        }
    }
    ladder
}

/// Largest power of two that is not above `value` (zero for zero).
pub(crate) fn floor_power_of_two(value: f32) -> f32 {
    let bits = value.abs().to_bits();
    let exponent = bits & 0x7f80_0000;
    if exponent != 0 {
        f32::from_bits(exponent)
    } else if bits != 0 {
        f32::from_bits(1 << (31 - bits.leading_zeros()))
    } else {
        0.0
    }
}

impl SortedValues {
    /// `k` centroids drawn by k-means++: each next one with a probability in proportion to weight times the
    /// squared distance to the nearest one already drawn. Ascending; fewer than `k` when there are fewer
    /// distinct values. The `fixed` centroids count among the `k` and come first.
    ///
    /// Source: Arthur and Vassilvitskii, "k-means++", SODA 2007.
    pub fn plus_plus(&self, k: usize, fixed: &[f32], seed: u64) -> Vec<f32> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut chosen: Vec<f32> = fixed.to_vec();
        let mut ascending = chosen.clone();
        ascending.sort_unstable_by(f32::total_cmp);
        while chosen.len() < k {
            let target = rng.random::<f64>();
            let Some(next) = self.draw(&ascending, target) else { break };
            chosen.push(next);
            let place = ascending.partition_point(|&c| c < next);
            ascending.insert(place, next);
        }
        chosen[fixed.len().min(k)..].sort_unstable_by(f32::total_cmp);
        chosen
    }

    /// The value at fraction `target` of the mass weight x squared distance to `centroids` (weight alone if
    /// there are none); `None` when no mass is left.
    fn draw(&self, centroids: &[f32], target: f64) -> Option<f32> {
        const PART: usize = 1 << 12;
        let starts = (0..self.len().div_ceil(PART)).map(|p| p * PART);
        let starts: Vec<usize> = starts.collect();
        let part = |start: usize| start..(start + PART).min(self.len());
        let masses: Vec<f64> =
            starts.par_iter().map(|&start| self.masses(part(start), centroids).map(|m| m.1).sum()).collect();
        let mut left = target * masses.iter().sum::<f64>();
        let mut last = None;
        for (&start, &mass) in starts.iter().zip(&masses) {
            if mass <= 0.0 {
                continue;
            }
            // Rounding can leave a rest at the very end, which the last value with any mass takes.
            last = Some(start);
            if left < mass {
                break;
            }
            left -= mass;
        }
        let mut found = None;
        for (at, mass) in self.masses(part(last?), centroids).filter(|m| m.1 > 0.0) {
            found = Some(self.values()[at]);
            left -= mass;
            if left < 0.0 {
                break;
            }
        }
        found
    }

    /// Positions and masses of a range of values; `centroids` ascend.
    fn masses<'a>(
        &'a self,
        range: Range<usize>,
        centroids: &'a [f32],
    ) -> impl Iterator<Item = (usize, f64)> + 'a {
        let first = self.values()[range.start];
        let mut nearest = centroids.partition_point(|&c| c < first).saturating_sub(1);
        range.map(move |at| {
            let x = f64::from(self.values()[at]);
            let weight = self.weights().map_or(1.0, |w| f64::from(w[at]));
            if centroids.is_empty() {
                return (at, weight);
            }
            let distance = |i: usize| (x - f64::from(centroids[i])).abs();
            while nearest + 1 < centroids.len() && distance(nearest + 1) <= distance(nearest) {
                nearest += 1;
            }
            (at, weight * distance(nearest) * distance(nearest))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_of_two_is_a_true_floor() {
        for exponent in -149i32..=127 {
            let p = 2f64.powi(exponent) as f32;
            assert_eq!(floor_power_of_two(p), p, "2^{exponent}");
            assert_eq!(floor_power_of_two(-p), p);
            if exponent > -149 {
                assert_eq!(floor_power_of_two(p.next_down()), p * 0.5, "below 2^{exponent}");
            }
            if exponent > -149 {
                assert_eq!(floor_power_of_two(p.next_up()), p, "above 2^{exponent}");
            }
        }
        assert_eq!(floor_power_of_two(0.0), 0.0);
    }

    #[test]
    fn ladder_has_the_published_order() {
        assert_eq!(published_ladder(&[0.3, -0.9], 6), [0.0, 0.5, -0.5, 0.25, -0.25, 0.125]);
        assert_eq!(published_ladder(&[0.125], 3), [0.0, 0.125, -0.125]);
        assert_eq!(published_ladder(&[], 2), [0.0, 0.0]);
    }

    #[test]
    fn plus_plus_is_seeded_and_ends_at_the_distinct_values() {
        let values: Vec<f32> = (0..500).map(|i| (i % 50) as f32).collect();
        let sorted = SortedValues::new(&values).unwrap();
        assert_eq!(sorted.plus_plus(8, &[], 3), sorted.plus_plus(8, &[], 3));
        assert_ne!(sorted.plus_plus(8, &[], 3), sorted.plus_plus(8, &[], 4));
        let all = sorted.plus_plus(100, &[], 0);
        assert_eq!(all, (0..50).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(sorted.plus_plus(3, &[7.5], 0)[0], 7.5);
    }

    #[test]
    fn plus_plus_draws_by_squared_distance() {
        // Beside a centroid at 0 the mass lies on 1 (9000 values) and 3 (1000 values) alike: 9000 to 9000.
        let mut values = vec![1.0f32; 9000];
        values.extend([3.0; 1000]);
        let sorted = SortedValues::new(&values).unwrap();
        let ones = (0..400).filter(|&seed| sorted.plus_plus(2, &[0.0], seed)[1] == 1.0).count();
        assert!((160..240).contains(&ones), "{ones} of 400");
    }
}
