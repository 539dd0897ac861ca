//! Distinct values with prefix sums, from which segments are made.

use slq_kernels::Isa;
use slq_kernels::cluster::{self as kernels, BLOCK, SIDE, Spread};

use super::penalty::{Division, Segment};
use super::search::Optimum;
use super::solution::Solution;
use super::wide::WideSums;
use crate::SortedValues;

/// Distinct values with prefix sums.
pub(crate) struct Points {
    pub values: Vec<f32>,
    /// Weight and value sum about the pivot before each value and after the last.
    pub prefix: Vec<[f64; 2]>,
    counts: Vec<u64>,
    /// Sums in twice the precision, once asked for.
    wide: Vec<WideSums>,
    pivot: f64,
    total_square: f64,
}

impl Points {
    /// The distinct values of `sorted`; numbers of values are kept only for a minimum cluster size above 1.
    pub fn new(sorted: &SortedValues, min_size: usize) -> Self {
        let with_counts = min_size > 1;
        let pivot = sorted.pivot();
        let mut values: Vec<f32> = Vec::with_capacity(sorted.len());
        let mut prefix = Vec::with_capacity(sorted.len() + 1);
        let mut counts = Vec::new();
        let mut sums = [0.0f64; 2];
        for (i, &v) in sorted.values().iter().enumerate() {
            if values.last() != Some(&v) {
                values.push(v);
                prefix.push(sums);
                if with_counts {
                    counts.push(i as u64);
                }
            }
            let w = sorted.weights().map_or(1.0, |w| f64::from(w[i]));
            sums[0] += w;
            sums[1] += w * (f64::from(v) - pivot);
        }
        prefix.push(sums);
        if with_counts {
            counts.push(sorted.len() as u64);
        }
        Self { values, prefix, counts, wide: Vec::new(), pivot, total_square: sorted.total_square() }
    }

    /// Makes segments use sums in twice the precision from now on.
    pub fn widen(&mut self, sorted: &SortedValues) {
        self.wide = WideSums::prefix(sorted);
        self.pivot = 0.0;
    }

    /// The segments between the fixed centroids; a value equal to one belongs to the segment on its right.
    pub fn segments(&self, fixed: &[f32], min_size: usize) -> Vec<Segment<'_>> {
        let relative = |c: f32| f64::from(c) - self.pivot;
        let mut start = 0;
        (0..=fixed.len())
            .map(|s| {
                let right = fixed.get(s).copied();
                let end = right.map_or(self.values.len(), |f| self.values.partition_point(|&v| v < f));
                let counts = if min_size > 1 { &self.counts[start..=end] } else { &[] };
                let wide = if self.wide.is_empty() { &[] } else { &self.wide[start..=end] };
                let segment = Segment {
                    prefix: &self.prefix[start..=end],
                    wide,
                    counts,
                    left: s.checked_sub(1).map(|l| relative(fixed[l])),
                    right: right.map(relative),
                    min_size: min_size as u64,
                };
                start = end;
                segment
            })
            .collect()
    }

    /// Every value its own entry, without error.
    pub fn all_apart(&self, apart: impl Iterator<Item = f32>, fixed: &[f32]) -> Solution {
        let mut codebook: Vec<f32> = apart.chain(fixed.iter().copied()).collect();
        codebook.sort_unstable_by(f32::total_cmp);
        let flags = codebook.iter().map(|c| fixed.contains(c)).collect();
        let cuts = codebook[1..].to_vec();
        Solution { codebook, fixed: flags, cuts, lower_bound: 0.0 }
    }

    pub fn solution(&self, segments: &[Segment], optimum: Optimum, fixed: &[f32]) -> Solution {
        let mut solution =
            Solution { codebook: Vec::new(), fixed: Vec::new(), cuts: Vec::new(), lower_bound: 0.0 };
        let mut offset = 0;
        let first_value = |point: usize| self.values.get(point).copied().unwrap_or(f32::INFINITY);
        for (s, (segment, Division { nodes, .. })) in segments.iter().zip(&optimum.divisions).enumerate() {
            for pair in nodes.windows(2) {
                let (i, j) = (pair[0] as usize, pair[1] as usize);
                let (a, b) = (segment.prefix[i], segment.prefix[j]);
                let mean = if segment.wide.is_empty() {
                    self.pivot + (b[1] - a[1]) / (b[0] - a[0])
                } else {
                    WideSums::mean(&segment.wide[i], &segment.wide[j])
                };
                if !solution.codebook.is_empty() {
                    solution.cuts.push(first_value(offset + pair[0] as usize));
                }
                solution.codebook.push(mean as f32);
                solution.fixed.push(false);
            }
            if let Some(&centroid) = fixed.get(s) {
                if !solution.codebook.is_empty() {
                    solution.cuts.push(first_value(offset + nodes[nodes.len() - 1] as usize));
                }
                solution.codebook.push(centroid);
                solution.fixed.push(true);
            }
            offset += segment.len();
        }
        let square = if self.wide.is_empty() { self.total_square } else { 0.0 };
        solution.lower_bound = (square + optimum.bound).max(0.0);
        solution
    }

    /// Positions at which groups of neighbouring values begin: at most about `limit`, none of them wide and none
    /// of them heavy, so that centre and tails are both well divided.
    pub fn groups(&self, limit: usize) -> Vec<usize> {
        let total = self.prefix[self.values.len()];
        let (mean, deviation) = (total[1] / total[0], (self.total_square / total[0]).sqrt());
        let spread = Spread { pivot: (self.pivot + mean) as f32, s: (2.0 * deviation) as f32 };
        // Half the groups may end because of their width, half because of their weight.
        let shift = (2 * SIDE as usize / limit.max(1)).next_power_of_two().trailing_zeros() + 1;
        let heavy = 2.0 * total[0] / limit as f64;
        let mut starts = Vec::with_capacity(limit);
        let mut bins = [0u16; BLOCK];
        let (mut bin, mut weight) = (u16::MAX, 0.0);
        for (b, block) in self.values.chunks(BLOCK).enumerate() {
            kernels::bins_of(Isa::detect(), block, spread, &mut bins[..block.len()]);
            for (i, &number) in bins[..block.len()].iter().enumerate() {
                let at = b * BLOCK + i;
                let before = self.prefix[at][0];
                if at == 0 || number >> shift != bin || before - weight >= heavy {
                    starts.push(at);
                    (bin, weight) = (number >> shift, before);
                }
            }
        }
        starts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_everything_and_keep_to_the_limit() {
        for scale in [1.0f32, 1e-3, 1e20] {
            let values: Vec<f32> = (0..90_000u32)
                .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 23) as f32 - 1.0)
                .map(|u| u / (1.0001 - u.abs()) * scale)
                .collect();
            let points = Points::new(&SortedValues::new(&values).unwrap(), 1);
            for limit in [1 << 10, 1 << 13] {
                let starts = points.groups(limit);
                assert!(starts[0] == 0 && starts.windows(2).all(|p| p[0] < p[1]));
                assert!(
                    starts.len() <= limit + limit / 8 && starts.len() > limit / 4,
                    "{} {limit}",
                    starts.len()
                );
            }
        }
    }
}
