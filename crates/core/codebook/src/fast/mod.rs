//! A codebook near the optimum in two passes over the data, with a certified gap.
//!
//! The first pass sorts values into 65 536 bins that keep weight and sum, which makes the error of every
//! division at bin borders exact. The best such division is found as for sorted values (`exact`) and
//! polished by letting the borders move inside their bins; the second pass assigns codes and measures.
//!
//! # The bound
//! Take an optimal codebook of error OPT <= U. At most k - 1 bins hold one of its borders. Giving all of such a
//! bin (n values of total weight n, width w) to the better one of the two neighbouring centroids, which are g
//! apart, costs at most n w g / 2 more, and since each of its values is at least g / 2 - w from both,
//! n (g / 2 - w)^2 is its share of U at least. By Cauchy and Schwarz over those bins
//!
//! OPT >= best division at bin borders - sqrt(U * sum n w^2) - sum n w^2,
//!
//! with both sums over the k - 1 bins of largest n w^2 among those that hold more than one distinct value. A bin
//! that holds whole clusters, or a fixed centroid, costs at most n w^2 when given to a centroid inside it.

mod bins;

use crate::exact::penalty::Segment;
use crate::exact::search::search;
use crate::exact::{Constraints, Solution};
use bins::Bins;

/// Values below which sorting is as quick.
const FEWEST: usize = 1 << 17;
/// Bins taken together to find the penalty to begin with.
const COARSE_STEP: usize = 16;
/// Most passes of the polish.
const POLISH: usize = 100;

/// A codebook near the optimum, or `None` if the values are too few, too equal, or of a range for which bins are no use.
pub(crate) fn solve(values: &[f32], weights: Option<&[f32]>, constraints: Constraints) -> Option<Solution> {
    if values.len() < FEWEST || constraints.min_size > 1 {
        return None;
    }
    solve_binned(values, weights, constraints)
}

/// As [`solve`], however few the values.
fn solve_binned(values: &[f32], weights: Option<&[f32]>, constraints: Constraints) -> Option<Solution> {
    let bins = Bins::collect(values, weights)?;
    let free = constraints.k - constraints.fixed.len();
    if bins.len() < 4 * (constraints.k + 1) {
        return None;
    }
    let segments = bins.segments(constraints.fixed);
    let scale = bins.scale(constraints.fixed);
    let coarse: Vec<Vec<[f64; 2]>> = segments.iter().map(|s| coarsen(s.prefix)).collect();
    let coarse: Vec<Segment> =
        segments.iter().zip(&coarse).map(|(s, prefix)| Segment { prefix, ..*s }).collect();
    let guess = search(&coarse, free, scale, None).map(|o| o.penalty);
    let optimum = search(&segments, free, scale, guess)?;
    let upper = bins.square() + optimum.divisions.iter().map(|d| d.cost).sum::<f64>();
    let slack = bins.slack(constraints.k - 1, constraints.fixed, upper.max(0.0));
    let lower_bound = (bins.square() + optimum.bound - slack).max(0.0);
    let (mut codebook, fixed) = bins.codebook(&segments, &optimum.divisions, constraints.fixed);
    bins.polish(&mut codebook, &fixed, POLISH);
    Some(Solution { codebook, fixed, cuts: Vec::new(), lower_bound })
}

fn coarsen(prefix: &[[f64; 2]]) -> Vec<[f64; 2]> {
    let last = prefix.len() - 1;
    let mut coarse: Vec<[f64; 2]> = prefix[..last].iter().step_by(COARSE_STEP).copied().collect();
    coarse.push(prefix[last]);
    coarse
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assign::assign_with_error;
    use crate::thresholds::Thresholds;
    use crate::{SortedValues, exact};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]

        /// Few values in wide bins, where the bound has most to answer for.
        #[test]
        fn the_bound_holds_and_the_result_is_near(
            seeds in proptest::collection::vec(any::<u32>(), 150..1200),
            shape in 0usize..5, k in 1usize..10, fixed in proptest::option::of(-3.0f32..3.0), weigh in any::<bool>(),
        ) {
            let bend = |&seed: &u32| {
                let u = (seed >> 8) as f32 / (1 << 23) as f32 - 1.0;
                match shape {
                    0 => u,
                    1 => u * u * u,
                    2 => u / (1.001 - u.abs()),
                    // Heaps narrower than a bin, and a grid.
                    3 => (u * 4.0).round() + u * 1e-5,
                    _ => (u * 60.0).round() * 0.1 + 5.0,
                }
            };
            let values: Vec<f32> = seeds.iter().map(bend).collect();
            let weights: Vec<f32> = seeds.iter().map(|s| (s % 5) as f32 * 0.5).collect();
            let weights = weigh.then_some(&weights[..]);
            let fixed: Vec<f32> = fixed.into_iter().collect();
            let constraints = Constraints { k: k + fixed.len(), fixed: &fixed, min_size: 1 };
            let sorted = SortedValues::build(&values, weights).unwrap();
            let optimum = exact::solve(&sorted, constraints).unwrap();
            let Some(fast) = solve_binned(&values, weights, constraints) else { return Ok(()) };
            let rounding = 1e-12 * sorted.total_square();
            prop_assert!(
                fast.lower_bound <= optimum.lower_bound + rounding, "{} {}", fast.lower_bound, optimum.lower_bound
            );
            let thresholds = Thresholds::nearest(&fast.codebook).unwrap();
            let (_, sse) = assign_with_error::<u8>(&values, weights, &thresholds, &fast.codebook);
            // What may be lost beside the optimum is no more than the bound admits, polish or not.
            let slack = optimum.lower_bound - fast.lower_bound;
            prop_assert!(sse >= optimum.lower_bound - rounding);
            prop_assert!(sse <= optimum.lower_bound * 1.001 + 3.0 * slack + rounding + 1e-9, "{} {:?}", sse, optimum);
        }
    }
}
