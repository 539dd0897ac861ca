//! Near the optimum in two passes over the data, with a certificate.
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
