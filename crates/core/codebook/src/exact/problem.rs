//! From sorted values and constraints to segments, and from divisions back to a codebook.

use super::penalty::Segment;
use super::points::Points;
use super::search::search;
use super::solution::{Constraints, Solution};
use super::wide::WideSums;
use crate::{ClusterError, SortedValues};

/// Distinct values above which the penalty is first estimated on groups of neighbouring values.
const FINE: usize = 1 << 16;
/// Groups above which that estimate is itself started on fewer groups.
const COARSE: usize = 1 << 13;

/// Fraction of the sum of squares below which an error is too close to rounding (1e-16 of it for every sum).
const NARROW: f64 = 1e-7;

/// Solves to the optimum. The codebook has fewer than `k` entries if there are fewer distinct values.
pub(crate) fn solve(sorted: &SortedValues, constraints: Constraints) -> Result<Solution, ClusterError> {
    let mut points = Points::new(sorted, constraints.min_size);
    let free = constraints.k - constraints.fixed.len();
    let apart = points.values.iter().filter(|v| !constraints.fixed.contains(v));
    if constraints.min_size <= 1 && apart.clone().count() <= free {
        return Ok(points.all_apart(apart.copied(), constraints.fixed));
    }
    let segments = points.segments(constraints.fixed, constraints.min_size);
    let scale = sorted.total_square() + fixed_scale(sorted, constraints.fixed);
    let guess = begin(&points, &segments, free, scale, constraints.min_size);
    let unsolved =
        ClusterError::MinimumSizeTooLarge { k: free, size: constraints.min_size, count: sorted.len() };
    let optimum = search(&segments, free, scale, guess).ok_or(unsolved.clone())?;
    let error = sorted.total_square() + optimum.divisions.iter().map(|d| d.cost).sum::<f64>();
    if error > NARROW * scale {
        return Ok(points.solution(&segments, optimum, constraints.fixed));
    }
    // The error is of the size of rounding: solve again in twice the precision.
    drop(segments);
    points.widen(sorted);
    let segments = points.segments(constraints.fixed, constraints.min_size);
    let guess = begin(&points, &segments, free, scale, constraints.min_size);
    let optimum = search(&segments, free, scale, guess).ok_or(unsolved)?;
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

/// A penalty to begin with, from the problem with neighbouring values taken together.
fn begin(points: &Points, segments: &[Segment], free: usize, scale: f64, min_size: usize) -> Option<f64> {
    let mut guess = None;
    if min_size <= 1 {
        for limit in [COARSE, FINE] {
            if points.values.len() > 2 * limit {
                guess = coarse_penalty(points, segments, limit, free, scale, guess);
            }
        }
    }
    guess
}

/// The penalty of the problem with neighbouring values taken together into about `limit` groups.
fn coarse_penalty(
    points: &Points,
    segments: &[Segment],
    limit: usize,
    free: usize,
    scale: f64,
    guess: Option<f64>,
) -> Option<f64> {
    let starts = points.groups(limit);
    let mut offset = 0;
    let coarse: Vec<_> = segments
        .iter()
        .map(|segment| {
            // Borders of the groups inside the segment, and its ends.
            let end = offset + segment.len();
            let above = starts.partition_point(|&s| s < end);
            let inside = starts.partition_point(|&s| s <= offset).min(above)..above;
            let mut kept = vec![0];
            kept.extend(starts[inside].iter().map(|start| start - offset));
            if segment.len() > 0 {
                kept.push(segment.len());
            }
            offset = end;
            let prefix: Vec<[f64; 2]> = kept.iter().map(|&i| segment.prefix[i]).collect();
            let wide: Vec<WideSums> = kept.iter().filter_map(|&i| segment.wide.get(i).copied()).collect();
            (prefix, wide)
        })
        .collect();
    let coarse: Vec<Segment> =
        segments.iter().zip(&coarse).map(|(s, (prefix, wide))| Segment { prefix, wide, ..*s }).collect();
    search(&coarse, free, scale, guess).map(|optimum| optimum.penalty)
}
