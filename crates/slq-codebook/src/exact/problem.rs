//! From sorted values and constraints to segments, and from divisions back to a codebook.

use super::penalty::{Division, Segment};
use super::search::{Optimum, search};
use crate::{ClusterError, SortedValues};

/// What the codebook must keep to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Constraints<'a> {
    /// Entries of the codebook, fixed ones included.
    pub k: usize,
    /// Fixed centroids, ascending and distinct.
    pub fixed: &'a [f32],
    /// Smallest number of values in a free cluster.
    pub min_size: usize,
}

/// An optimal codebook.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Solution {
    /// Ascending.
    pub codebook: Vec<f32>,
    /// Which entries were fixed.
    pub fixed: Vec<bool>,
    /// First value of every cluster but the first; infinite if no value follows.
    pub cuts: Vec<f32>,
    /// Lower bound on the squared error of any codebook that keeps the constraints.
    pub lower_bound: f64,
}

/// Distinct values above which the penalty is first found on a coarser problem.
const COARSE_ABOVE: usize = 1 << 15;
/// Points of the coarser problem.
const COARSE_POINTS: usize = 1 << 13;

/// Solves to the optimum. The codebook has fewer than `k` entries if there are fewer distinct values.
pub(crate) fn solve(sorted: &SortedValues, constraints: Constraints) -> Result<Solution, ClusterError> {
    let points = Points::new(sorted, constraints.min_size > 1);
    let free = constraints.k - constraints.fixed.len();
    let apart = points.values.iter().filter(|v| !constraints.fixed.contains(v));
    if constraints.min_size <= 1 && apart.clone().count() <= free {
        return Ok(points.all_apart(apart.copied(), constraints.fixed));
    }
    let segments = points.segments(constraints.fixed, constraints.min_size);
    let scale = sorted.total_square() + fixed_scale(sorted, constraints.fixed);
    let mut guess = None;
    if points.values.len() > COARSE_ABOVE && constraints.min_size <= 1 {
        let coarse: Vec<Vec<[f64; 2]>> =
            segments.iter().map(|s| coarsen(s.prefix, points.values.len())).collect();
        let coarse: Vec<Segment> =
            segments.iter().zip(&coarse).map(|(s, prefix)| Segment { prefix, counts: &[], ..*s }).collect();
        guess = search(&coarse, free, scale, None).map(|o| o.penalty);
    }
    let optimum = search(&segments, free, scale, guess).ok_or(ClusterError::MinimumSizeTooLarge {
        k: free,
        size: constraints.min_size,
        count: sorted.len(),
    })?;
    Ok(points.solution(&segments, optimum, constraints.fixed))
}

/// Sum of squares of the values about the fixed centroids' ends: no cluster can gain more.
fn fixed_scale(sorted: &SortedValues, fixed: &[f32]) -> f64 {
    let [weight, sum] = sorted.prefix(sorted.len());
    let about = |c: f32| {
        let c = f64::from(c) - sorted.pivot();
        (sorted.total_square() - 2.0 * c * sum + c * c * weight).max(0.0)
    };
    fixed.iter().map(|&c| about(c)).fold(0.0, f64::max)
}

/// Every so many points, so that about [`COARSE_POINTS`] remain of `total`.
fn coarsen(prefix: &[[f64; 2]], total: usize) -> Vec<[f64; 2]> {
    let step = total.div_ceil(COARSE_POINTS);
    let last = prefix.len() - 1;
    let mut coarse: Vec<[f64; 2]> = prefix[..last].iter().step_by(step).copied().collect();
    coarse.push(prefix[last]);
    coarse
}

/// Distinct values with prefix sums.
struct Points {
    values: Vec<f32>,
    prefix: Vec<[f64; 2]>,
    counts: Vec<u64>,
    pivot: f64,
    total_square: f64,
}

impl Points {
    fn new(sorted: &SortedValues, with_counts: bool) -> Self {
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
        Self { values, prefix, counts, pivot, total_square: sorted.total_square() }
    }

    /// The line cut at the fixed centroids; a value equal to one goes to its right.
    fn segments(&self, fixed: &[f32], min_size: usize) -> Vec<Segment<'_>> {
        let relative = |c: f32| f64::from(c) - self.pivot;
        let mut start = 0;
        (0..=fixed.len())
            .map(|s| {
                let right = fixed.get(s).copied();
                let end = right.map_or(self.values.len(), |f| self.values.partition_point(|&v| v < f));
                let counts = if min_size > 1 { &self.counts[start..=end] } else { &[] };
                let segment = Segment {
                    prefix: &self.prefix[start..=end],
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

    /// Every value its own entry: no error at all.
    fn all_apart(&self, apart: impl Iterator<Item = f32>, fixed: &[f32]) -> Solution {
        let mut codebook: Vec<f32> = apart.chain(fixed.iter().copied()).collect();
        codebook.sort_unstable_by(f32::total_cmp);
        let flags = codebook.iter().map(|c| fixed.contains(c)).collect();
        let cuts = codebook[1..].to_vec();
        Solution { codebook, fixed: flags, cuts, lower_bound: 0.0 }
    }

    fn solution(&self, segments: &[Segment], optimum: Optimum, fixed: &[f32]) -> Solution {
        let mut solution =
            Solution { codebook: Vec::new(), fixed: Vec::new(), cuts: Vec::new(), lower_bound: 0.0 };
        let mut offset = 0;
        let first_value = |point: usize| self.values.get(point).copied().unwrap_or(f32::INFINITY);
        for (s, (segment, Division { nodes, .. })) in segments.iter().zip(&optimum.divisions).enumerate() {
            for pair in nodes.windows(2) {
                let (a, b) = (segment.prefix[pair[0] as usize], segment.prefix[pair[1] as usize]);
                let mean = (self.pivot + (b[1] - a[1]) / (b[0] - a[0])) as f32;
                if !solution.codebook.is_empty() {
                    solution.cuts.push(first_value(offset + pair[0] as usize));
                }
                solution.codebook.push(mean);
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
        solution.lower_bound = (self.total_square + optimum.bound).max(0.0);
        solution
    }
}
