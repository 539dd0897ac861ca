//! Many codebooks at once: one per channel or per group of channels.

use std::ops::Range;

use slq_kernels::parallel::prelude::*;

use crate::cluster::{in_pool, run};
use crate::{ClusterError, ClusterParams, Clustering, Code};

/// Clusters every group of `values` independently, in parallel; the results are in the order of `groups`.
///
/// A group with fewer values than clusters gets as many clusters as it has values (but never fewer than there
/// are fixed centroids, which then is an error). Groups may overlap.
///
/// # Errors
/// A group outside the values, or the first group that fails as in [`crate::cluster`].
pub fn cluster_groups<C: Code>(
    values: &[f32],
    groups: &[Range<usize>],
    params: &ClusterParams,
) -> Result<Vec<Clustering<C>>, ClusterError> {
    cluster_groups_weighted(values, None, groups, params)
}

/// As [`cluster_groups`], with a weight for every value.
///
/// # Errors
/// As [`cluster_groups`], and weights that do not pair up with the values or that [`crate::cluster_weighted`]
/// refuses.
pub fn cluster_groups_weighted<C: Code>(
    values: &[f32],
    weights: Option<&[f32]>,
    groups: &[Range<usize>],
    params: &ClusterParams,
) -> Result<Vec<Clustering<C>>, ClusterError> {
    let count = values.len();
    if let Some(weights) = weights.filter(|w| w.len() != count) {
        return Err(ClusterError::WeightCount { weights: weights.len(), values: count });
    }
    if let Some((index, g)) = groups.iter().enumerate().find(|(_, g)| g.start > g.end || g.end > count) {
        return Err(ClusterError::GroupRange { index, start: g.start, end: g.end, count });
    }
    let one = |group: &Range<usize>| {
        let values = &values[group.clone()];
        let clamped;
        let params = if params.k() > values.len() {
            clamped = params.with_k(values.len());
            &clamped
        } else {
            params
        };
        run(values, weights.map(|w| &w[group.clone()]), params)
    };
    let results: Vec<_> = in_pool(params.threads(), || groups.par_iter().map(one).collect())?;
    let name = |(index, result): (usize, Result<_, _>)| {
        result.map_err(|source| ClusterError::Group { index, source: Box::new(source) })
    };
    results.into_iter().enumerate().map(name).collect()
}

/// The ranges of groups of `group_len` values each that cover `count` values; the last may be shorter.
pub fn even_groups(count: usize, group_len: usize) -> Vec<Range<usize>> {
    let step = group_len.max(1);
    (0..count).step_by(step).map(|start| start..(start + step).min(count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_equal_single_runs() {
        let values: Vec<f32> = (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32).collect();
        let params = ClusterParams::new(5).unwrap();
        let groups = even_groups(values.len(), 7);
        let results = cluster_groups::<u8>(&values, &groups, &params).unwrap();
        assert_eq!(results.len(), 715);
        for (group, result) in groups.iter().zip(&results) {
            let params = ClusterParams::new(5.min(group.len())).unwrap();
            assert_eq!(*result, crate::cluster::<u8>(&values[group.clone()], &params).unwrap());
        }
        let one = ClusterParams::builder(5).threads(1).build().unwrap();
        assert_eq!(cluster_groups::<u8>(&values, &groups, &one).unwrap(), results);
    }

    #[test]
    fn bad_groups_are_named() {
        let params = ClusterParams::new(2).unwrap();
        let err =
            |groups: &[Range<usize>]| cluster_groups::<u8>(&[1.0, f32::NAN], groups, &params).unwrap_err();
        assert_eq!(err(&[0..1, 1..3]), ClusterError::GroupRange { index: 1, start: 1, end: 3, count: 2 });
        assert!(matches!(err(&[0..1, 1..2]), ClusterError::Group { index: 1, .. }));
        let empty = ClusterError::Group { index: 1, source: Box::new(ClusterError::Empty) };
        assert_eq!(err(&[0..1, 0..0]), empty);
    }
}
