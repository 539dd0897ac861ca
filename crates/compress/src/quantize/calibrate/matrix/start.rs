//! Where the alternation starts: the exact one-dimensional k-means of the targets, weighted by s_r H_jj (method: step 3).

use rayon::prelude::*;
use slq_codebook::{
    Algorithm, ClusterError, ClusterParams, Clustering, SortedValues, assign, cluster, cluster_weighted,
};

use super::codebook::{Values, to_half};
use super::curvature::Curvature;
use super::layout::Layout;

/// Above so many weights in a codebook the certified fast clustering takes over: the exact one needs some 44 bytes for
/// every distinct value.
const EXACT_LIMIT: usize = 4_000_000;

/// Codebook values (count x size) and the code of every weight, row-major.
pub(crate) type Start = (Vec<f32>, Vec<u8>);

/// Clusters every codebook's targets; `importance` weighs each of them (rows x columns), or none counts more than another.
pub(crate) fn start(
    layout: &Layout,
    targets: &[f32],
    importance: Option<&[f32]>,
    (size, kind): (usize, Values),
) -> Result<Start, ClusterError> {
    let gather = |book: usize, from: &[f32]| -> Vec<f32> {
        let (row, column) =
            (book / layout.across() * layout.book_rows, book % layout.across() * layout.book_columns);
        let rows = from[row * layout.columns..].chunks_exact(layout.columns).take(layout.book_rows);
        rows.flat_map(|r| &r[column..column + layout.book_columns]).copied().collect()
    };
    let one = |book: usize| {
        let values = gather(book, targets);
        let importance = importance.map(|i| gather(book, i)).filter(|i| i.iter().any(|&w| w > 0.0));
        start_one(&values, importance.as_deref(), size, kind)
    };
    // In order, so that the first failing codebook is the one reported on any number of threads.
    let found: Vec<_> = (0..layout.count()).into_par_iter().map(one).collect();
    let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
    let mut codes = vec![0; targets.len()];
    let mut values = Vec::with_capacity(found.len() * size);
    for (book, (own, book_codes)) in found.into_iter().enumerate() {
        values.extend(own);
        let (row, column) =
            (book / layout.across() * layout.book_rows, book % layout.across() * layout.book_columns);
        for (r, part) in book_codes.chunks_exact(layout.book_columns).enumerate() {
            codes[(row + r) * layout.columns + column..][..layout.book_columns].copy_from_slice(part);
        }
    }
    Ok((values, codes))
}

fn start_one(
    values: &[f32],
    importance: Option<&[f32]>,
    size: usize,
    kind: Values,
) -> Result<Start, ClusterError> {
    let sorted = || match importance {
        Some(weights) => SortedValues::weighted(values, weights),
        None => SortedValues::new(values),
    };
    let book = match kind {
        Values::Uniform => sorted()?.uniform_codebook(size)?,
        Values::PowersOfTwo => sorted()?.pow2_codebook(size)?,
        Values::Free | Values::Half => {
            let algorithm = if values.len() > EXACT_LIMIT { Algorithm::Fast } else { Algorithm::Exact };
            let params = ClusterParams::builder(size.min(values.len())).algorithm(algorithm).build()?;
            let found: Clustering<u8> = match importance {
                Some(weights) => cluster_weighted(values, weights, &params)?,
                None => cluster(values, &params)?,
            };
            let mut book = found.codebook;
            if kind == Values::Half {
                book.iter_mut().for_each(|v| *v = to_half(*v));
            }
            // Fewer distinct values than centroids: the last one is repeated, all codebooks are equally long.
            book.resize(size, book.last().copied().unwrap_or_default());
            book
        }
    };
    let codes = assign(values, &book)?;
    Ok((book, codes))
}

/// s_r H_jj of every weight, row-major.
pub(crate) fn importance(curvatures: &[Curvature], weights: &[f32]) -> Vec<f32> {
    let group_rows = weights.len() / curvatures.len();
    let mut out = Vec::new();
    for (curvature, rows) in curvatures.iter().zip(weights.chunks_exact(group_rows)) {
        let diagonal = curvature.diagonal();
        out.reserve(rows.len() * diagonal.len());
        rows.iter().for_each(|&s| out.extend(diagonal.iter().map(|&h| s * h)));
    }
    out
}
