//! Clustering: centroids and codes of one layer at the start of a round (paper, section 3.1).

use rayon::prelude::*;
use slq_codebook::{
    Algorithm, ClusterParams, Clustering, Init, cluster as cluster_values, lloyd_from, published_ladder,
};

use super::sharing::LayerState;
use crate::error::CompressError;
use crate::settings::{Initialisation, Settings};

/// Clusters all weights of the layer: from scratch in round 0, later from the last round's centroids, of which
/// the fixed ones stay. Codes of fixed weights never change.
///
/// With [`Settings::join`], a free weight nearest to a fixed centroid is fixed to it; otherwise free weights
/// choose among free centroids only.
pub(crate) fn cluster(
    state: &mut LayerState,
    round: usize,
    settings: &Settings,
) -> Result<(), CompressError> {
    let (run, size) = (state.group_len(), state.layer.size);
    let cluster_fixed = state.cluster_fixed.clone();
    let layer = state.layer.weight.clone();
    let groups = state
        .values
        .par_chunks_exact(run)
        .zip(state.centroids.par_chunks_exact_mut(size))
        .zip(state.codes.par_chunks_exact_mut(run))
        .zip(state.fixed.par_chunks_exact_mut(run));
    groups.try_for_each(|(((values, centroids), codes), fixed)| {
        let result = if round == 0 {
            first(values, size, settings)
        } else if settings.join {
            lloyd_from(values, centroids, &cluster_fixed, settings.lloyd_iterations)
        } else {
            return apart(values, centroids, codes, fixed, &cluster_fixed, settings.lloyd_iterations)
                .map_err(|source| CompressError::Cluster { layer: layer.clone(), source });
        };
        let found = result.map_err(|source| CompressError::Cluster { layer: layer.clone(), source })?;
        // Fewer distinct values than centroids: the places that are left over repeat the last centroid.
        let last = found.codebook.last().copied().unwrap_or_default();
        for (i, centroid) in centroids.iter_mut().enumerate() {
            *centroid = found.codebook.get(i).copied().unwrap_or(last);
        }
        for ((code, flag), &new) in codes.iter_mut().zip(fixed).zip(&found.codes) {
            if !*flag {
                (*code, *flag) = (new, cluster_fixed[usize::from(new)]);
            }
        }
        Ok(())
    })
}

/// Round one, one group of weights.
fn first(
    values: &[f32],
    size: usize,
    settings: &Settings,
) -> Result<Clustering<u8>, slq_codebook::ClusterError> {
    let pinned = |algorithm, init| {
        ClusterParams::builder(size)
            .algorithm(algorithm)
            .init(init)
            .pin_zero(true)
            .seed(settings.seed)
            .max_iterations(settings.lloyd_iterations)
            .build()
            .and_then(|params| cluster_values(values, &params))
            .map(in_ladder_order)
    };
    match settings.initialisation {
        Initialisation::Published => {
            let zero_pinned: Vec<bool> = (0..size).map(|i| i == 0).collect();
            lloyd_from(values, &published_ladder(values, size), &zero_pinned, settings.lloyd_iterations)
        }
        Initialisation::KmeansPlusPlus => pinned(Algorithm::Lloyd, Init::PlusPlus),
        Initialisation::Exact => pinned(Algorithm::Exact, Init::PlusPlus),
    }
}

/// Sorts centroids as the ladder does: zero first, then by falling magnitude.
fn in_ladder_order(mut found: Clustering<u8>) -> Clustering<u8> {
    let book = &found.codebook;
    let mut order: Vec<usize> = (0..book.len()).collect();
    order.sort_by(|&a, &b| {
        let (zero_a, zero_b) = (book[a] == 0.0, book[b] == 0.0);
        zero_b.cmp(&zero_a).then(book[b].abs().total_cmp(&book[a].abs())).then(book[b].total_cmp(&book[a]))
    });
    let mut place = vec![0u8; order.len()];
    for (new, &old) in order.iter().enumerate() {
        place[old] = new as u8; // a codebook has at most 256 centroids
    }
    found.codebook = order.iter().map(|&old| book[old]).collect();
    found.codes.iter_mut().for_each(|c| *c = place[usize::from(*c)]);
    found
}

/// A later round in which free weights may not join fixed clusters.
fn apart(
    values: &[f32],
    centroids: &mut [f32],
    codes: &mut [u8],
    fixed: &[bool],
    cluster_fixed: &[bool],
    iterations: usize,
) -> Result<(), slq_codebook::ClusterError> {
    let places: Vec<usize> = (0..centroids.len()).filter(|&i| !cluster_fixed[i]).collect();
    let free: Vec<usize> = (0..values.len()).filter(|&i| !fixed[i]).collect();
    if places.is_empty() || free.is_empty() {
        return Ok(());
    }
    let start: Vec<f32> = places.iter().map(|&p| centroids[p]).collect();
    let subset: Vec<f32> = free.iter().map(|&i| values[i]).collect();
    let found: Clustering<u8> = lloyd_from(&subset, &start, &vec![false; start.len()], iterations)?;
    for (&p, &c) in places.iter().zip(&found.codebook) {
        centroids[p] = c;
    }
    for (&i, &code) in free.iter().zip(&found.codes) {
        codes[i] = places[usize::from(code)] as u8; // at most 256 centroids
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::sharing::tests::small;
    use super::*;

    #[test]
    fn round_one_pins_zero_and_keeps_the_ladders_order() {
        for initialisation in
            [Initialisation::Published, Initialisation::KmeansPlusPlus, Initialisation::Exact]
        {
            let mut state = small();
            cluster(&mut state, 0, &Settings { initialisation, ..Settings::default() }).unwrap();
            assert_eq!(state.centroids[0], 0.0, "{initialisation:?}");
            assert_eq!(state.codes, [0, 1, 2, 0, 1, 2], "{initialisation:?}");
            assert!((state.centroids[1] - 1.05).abs() < 1e-6 && (state.centroids[2] + 0.95).abs() < 1e-6);
            assert!(state.fixed.iter().all(|&f| !f));
        }
    }

    #[test]
    fn fixed_centroids_stay_and_near_weights_join_them() {
        let mut state = small();
        state.fix_clusters(&[1]);
        state.values = vec![0.6, 1.0, -1.1, 0.0, 1.0, -0.7];
        cluster(&mut state, 1, &Settings::default()).unwrap();
        assert_eq!(state.centroids[1], 1.0);
        assert!((state.centroids[2] + 0.9).abs() < 1e-6);
        assert_eq!((state.codes[0], state.fixed[0]), (1, true), "0.6 lies nearest to the fixed 1.0");
        assert_eq!(state.fixed, [true, true, false, false, true, false]);
    }

    #[test]
    fn without_joining_free_weights_choose_among_free_centroids() {
        let mut state = small();
        state.fix_clusters(&[1]);
        state.values = vec![0.6, 1.0, -1.1, 0.0, 1.0, -0.7];
        cluster(&mut state, 1, &Settings { join: false, ..Settings::default() }).unwrap();
        assert_eq!((state.codes[0], state.fixed[0]), (0, false));
        assert_eq!(state.codes[1..], [1, 2, 0, 1, 2]);
        assert_eq!(state.centroids[1], 1.0);
    }
}
