//! Clustering: centroids and codes of one layer at the start of a round (arXiv 1803.03289, section 3.1). SLQ and MLQ
//! share it.

use rayon::prelude::*;
use slq_codebook::{
    Algorithm, ClusterParams, Clustering as Found, Init, SortedValues, cluster as cluster_values,
    cluster_weighted, lloyd_from, pow2_codebook, published_ladder, uniform_codebook,
};
use slq_graph::Palette;

use super::choices::{CodebookKind, Initialisation};
use super::guides::Guide;
use super::state::LayerState;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// How a layer is clustered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Clustering {
    /// Which values a codebook may hold.
    pub(crate) codebook: CodebookKind,
    /// Start of round one's centroids.
    pub(crate) init: Initialisation,
    /// Lloyd iterations at the start of a round.
    pub(crate) lloyd_iterations: usize,
    /// Whether a free weight whose nearest centroid is fixed joins that cluster.
    pub(crate) join: bool,
    /// Seed of k-means++.
    pub(crate) seed: u64,
}

/// Checks the settings of a clustering.
pub(crate) fn check_clustering(clustering: &Clustering) -> Result<(), CompressError> {
    if clustering.lloyd_iterations == 0 {
        let reason = "0 iterations leave the initialisation as it is".into();
        return Err(CompressError::Setting { name: "lloyd-iterations", reason });
    }
    Ok(())
}

/// Checks that centroids of a `codebook` can go on training by the rule of `training`.
///
/// # Errors
/// [`CompressError::Setting`].
pub(crate) fn check_trained_centroids(
    codebook: CodebookKind,
    training: &TrainingSettings,
) -> Result<(), CompressError> {
    let refuse = |reason: &str| {
        let reason = format!("{reason}: leave it out, or set it to false");
        Err(CompressError::Setting { name: "train-centroids", reason })
    };
    match (codebook, training.rule.for_centroids()) {
        (CodebookKind::Free, Some(_)) => Ok(()),
        (CodebookKind::Free, None) => refuse("shared values are trained by SGD with momentum alone"),
        _ => refuse("trained values would leave a codebook of given shape"),
    }
}

/// Clusters all weights of the layer: from scratch in round 0, later from the last round's centroids, of which
/// the fixed ones stay. Codes of fixed weights never change.
///
/// With [`Clustering::join`], a free weight nearest to a fixed centroid is fixed to it; otherwise free weights
/// choose among free centroids only. With `pin_zero` the first centroid stays at zero, fixed or not, except of two
/// ([`holds_zero`]). With a guide's importance, centroids are means weighted by it.
pub(crate) fn cluster(
    state: &mut LayerState,
    round: usize,
    pin_zero: bool,
    guide: Guide<'_>,
    how: &Clustering,
) -> Result<(), CompressError> {
    let (run, size) = (state.group_len(), state.layer.size);
    let cluster_fixed = state.cluster_fixed.clone();
    let mut still = cluster_fixed.clone();
    let zero = holds_zero(size, pin_zero, how);
    still[0] |= pin_zero && zero;
    if how.codebook != CodebookKind::Free {
        // Centroids follow from the shape and do not move: weights are only assigned again.
        still.fill(true);
    }
    let layer = state.layer.weight.clone();
    let groups = state
        .values
        .par_chunks_exact(run)
        .zip(state.centroids.par_chunks_exact_mut(size))
        .zip(state.codes.par_chunks_exact_mut(run))
        .zip(state.fixed.par_chunks_exact_mut(run))
        .enumerate();
    groups.try_for_each(|(group, (((values, centroids), codes), fixed))| {
        let importance = guide.importance.map(|all| &all[group * run..][..run]);
        let result = if round == 0 {
            match guide.start {
                Some(start) => given(values, (start, group), zero && how.codebook == CodebookKind::Free),
                None => first(values, size, zero, importance, how),
            }
        } else if how.join {
            lloyd(values, importance, centroids, &still, how.lloyd_iterations)
        } else {
            return apart(values, centroids, codes, fixed, [&cluster_fixed, &still], how.lloyd_iterations)
                .map_err(|source| CompressError::Cluster { layer: layer.clone(), source });
        };
        let found = result.map_err(|source| CompressError::Cluster { layer: layer.clone(), source })?;
        // Fewer distinct values than centroids: the remaining places repeat the last centroid.
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

/// Whether zero is one of `size` values: of an even number that a calibration has found only where the method fixes zero last
/// (`pin_zero`). Of two, zero would leave one sign without a value: weights on both sides of zero need both, unless the
/// publication's start or a given shape is asked for.
fn holds_zero(size: usize, pin_zero: bool, how: &Clustering) -> bool {
    let asked = how.init == Initialisation::Published || how.codebook != CodebookKind::Free;
    let found = how.init == Initialisation::Calibrate && size.is_multiple_of(2) && !pin_zero;
    asked || (size > 2 && !found)
}

/// Round one, one group of weights.
fn first(
    values: &[f32],
    size: usize,
    zero: bool,
    importance: Option<&[f32]>,
    how: &Clustering,
) -> Result<Found<u8>, slq_codebook::ClusterError> {
    let pinned = |algorithm, init| {
        ClusterParams::builder(size)
            .algorithm(algorithm)
            .init(init)
            .pin_zero(zero)
            .seed(how.seed)
            .max_iterations(how.lloyd_iterations)
            .build()
            .and_then(|params| match importance {
                Some(importance) => cluster_weighted(values, importance, &params),
                None => cluster_values(values, &params),
            })
            .map(in_ladder_order)
    };
    let shaped = |book: Vec<f32>| lloyd_from(values, &book, &vec![true; size], 1).map(in_ladder_order);
    match how.codebook {
        CodebookKind::Free => {}
        CodebookKind::Pow2 => return shaped(pow2_codebook(values, size)?),
        CodebookKind::Uniform => return shaped(uniform_codebook(values, size)?),
    }
    match how.init {
        Initialisation::Published => {
            let zero_pinned: Vec<bool> = (0..size).map(|i| i == 0).collect();
            let ladder = published_ladder(values, size);
            lloyd(values, importance, &ladder, &zero_pinned, how.lloyd_iterations)
        }
        Initialisation::KmeansPlusPlus => pinned(Algorithm::Lloyd, Init::PlusPlus),
        Initialisation::Exact | Initialisation::Calibrate => pinned(Algorithm::Exact, Init::PlusPlus),
    }
}

/// Round one, one group of weights, with the codebook that a calibration has found; with `zero`, its value nearest to zero is put
/// there.
fn given(
    values: &[f32],
    (start, group): (&Palette, usize),
    zero: bool,
) -> Result<Found<u8>, slq_codebook::ClusterError> {
    let own = start.codebook_size();
    // A layer that does not lie channel by channel has one codebook for all its groups.
    let mut book = start.codebook()[group % start.groups() * own..][..own].to_vec();
    if zero {
        let nearest = book.iter_mut().min_by(|a, b| a.abs().total_cmp(&b.abs()));
        nearest.into_iter().for_each(|value| *value = 0.0);
    }
    lloyd_from(values, &book, &vec![true; book.len()], 1).map(in_ladder_order)
}

/// Lloyd's iteration from given centroids, weighted where there is a weight for each value.
fn lloyd(
    values: &[f32],
    importance: Option<&[f32]>,
    start: &[f32],
    still: &[bool],
    iterations: usize,
) -> Result<Found<u8>, slq_codebook::ClusterError> {
    let Some(importance) = importance else { return lloyd_from(values, start, still, iterations) };
    let moved = SortedValues::weighted(values, importance)?.lloyd(start, still, iterations)?;
    // Codes do not depend on the weights: with all centroids held this only assigns.
    lloyd_from(values, &moved.codebook, &vec![true; start.len()], 1)
}

/// Sorts centroids as the ladder does: zero first, then by falling magnitude.
fn in_ladder_order(mut found: Found<u8>) -> Found<u8> {
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
    [cluster_fixed, still]: [&[bool]; 2],
    iterations: usize,
) -> Result<(), slq_codebook::ClusterError> {
    let places: Vec<usize> = (0..centroids.len()).filter(|&i| !cluster_fixed[i]).collect();
    let free: Vec<usize> = (0..values.len()).filter(|&i| !fixed[i]).collect();
    if places.is_empty() || free.is_empty() {
        return Ok(());
    }
    let start: Vec<f32> = places.iter().map(|&p| centroids[p]).collect();
    let held: Vec<bool> = places.iter().map(|&p| still[p]).collect();
    let subset: Vec<f32> = free.iter().map(|&i| values[i]).collect();
    let found: Found<u8> = lloyd_from(&subset, &start, &held, iterations)?;
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
    use super::super::state::tests::small;
    use super::*;

    fn published() -> Clustering {
        let (codebook, init) = (CodebookKind::Free, Initialisation::Published);
        Clustering { codebook, init, lloyd_iterations: 10, join: true, seed: 0 }
    }

    #[test]
    fn round_one_pins_zero_and_keeps_the_ladders_order() {
        for init in [Initialisation::Published, Initialisation::KmeansPlusPlus, Initialisation::Exact] {
            let mut state = small();
            cluster(&mut state, 0, false, Guide::default(), &Clustering { init, ..published() }).unwrap();
            assert_eq!(state.centroids[0], 0.0, "{init:?}");
            assert_eq!(state.codes, [0, 1, 2, 0, 1, 2], "{init:?}");
            assert!((state.centroids[1] - 1.05).abs() < 1e-6 && (state.centroids[2] + 0.95).abs() < 1e-6);
            assert!(state.fixed.iter().all(|&f| !f));
        }
    }

    #[test]
    fn two_values_are_one_of_each_sign() {
        for init in [Initialisation::KmeansPlusPlus, Initialisation::Exact] {
            let mut state =
                LayerState { layer: crate::quantize::Layer { size: 2, ..small().layer }, ..small() };
            state.centroids.truncate(2);
            state.cluster_fixed.truncate(2);
            let how = Clustering { init, ..published() };
            for round in 0..2 {
                cluster(&mut state, round, true, Guide::default(), &how).unwrap();
                assert!(state.centroids.iter().any(|&c| c > 0.5), "{init:?}: {:?}", state.centroids);
                assert!(state.centroids.iter().any(|&c| c < -0.5), "{init:?}: {:?}", state.centroids);
            }
        }
    }

    #[test]
    fn a_calibrated_start_of_an_even_number_holds_zero_only_where_it_is_fixed_last() {
        let start = Palette::fully_fixed(vec![-0.8, -0.2, 0.1, 1.3], 1, vec![0; 6]).unwrap();
        let layer = crate::quantize::Layer { size: 4, ..small().layer };
        let state = LayerState { layer, centroids: vec![0.0; 4], cluster_fixed: vec![false; 4], ..small() };
        let how = Clustering { init: Initialisation::Calibrate, ..published() };
        for (pin_zero, expected) in [(false, [1.3, -0.8, -0.2, 0.1]), (true, [0.0, 1.3, -0.8, -0.2])] {
            let mut state = state.clone();
            let guide = Guide { importance: None, start: Some(&start) };
            cluster(&mut state, 0, pin_zero, guide, &how).unwrap();
            assert_eq!(state.centroids, expected);
        }
        let mut exact = state.clone();
        let how = Clustering { init: Initialisation::Exact, ..published() };
        cluster(&mut exact, 0, false, Guide::default(), &how).unwrap();
        assert_eq!(exact.centroids[0], 0.0);
    }

    #[test]
    fn important_weights_pull_their_centroid() {
        for init in [Initialisation::Published, Initialisation::Exact] {
            let settings = Clustering { init, ..published() };
            let mut state = small();
            let guide = Guide { importance: Some(&[1.0, 1.0, 9.0, 1.0, 3.0, 1.0]), start: None };
            cluster(&mut state, 0, false, guide, &settings).unwrap();
            assert!((state.centroids[1] - (0.9 + 3.0 * 1.2) / 4.0).abs() < 1e-6, "{init:?}");
            assert!((state.centroids[2] + (9.0 * 1.1 + 0.8) / 10.0).abs() < 1e-6, "{init:?}");
            assert_eq!((state.centroids[0], &state.codes[..]), (0.0, &[0, 1, 2, 0, 1, 2][..]));
        }
    }

    #[test]
    fn a_calibrated_start_keeps_its_values_but_for_zero() {
        let init = Initialisation::Calibrate;
        let start = Palette::fully_fixed(vec![-0.8, 0.05, 1.3], 1, vec![0; 6]).unwrap();
        let guide = Guide { importance: None, start: Some(&start) };
        let mut state = small();
        cluster(&mut state, 0, false, guide, &Clustering { init, ..published() }).unwrap();
        assert_eq!(state.centroids, [0.0, 1.3, -0.8], "in the order of the ladder");
        assert_eq!(state.codes, [0, 1, 2, 0, 1, 2], "each weight at its nearest value");
        // Later rounds start from what the round before has left, as with any other start.
        let mut others = state.clone();
        for (state, guide) in [(&mut state, guide), (&mut others, Guide::default())] {
            state.fix_clusters(&[1]);
            cluster(state, 1, false, guide, &Clustering { init, ..published() }).unwrap();
        }
        assert_eq!((state.centroids, state.codes), (others.centroids, others.codes));
    }

    #[test]
    fn codebooks_of_a_given_shape_keep_it() {
        for (codebook, outer) in [(CodebookKind::Pow2, 1.0), (CodebookKind::Uniform, 1.0)] {
            let settings = Clustering { codebook, ..published() };
            let mut state = small();
            cluster(&mut state, 0, false, Guide::default(), &settings).unwrap();
            assert_eq!(state.centroids[0], 0.0, "{codebook:?}");
            assert!((state.centroids[1] - outer).abs() < 1e-6 && state.centroids[2] == -state.centroids[1]);
            let before = state.centroids.clone();
            state.values = vec![0.3, 0.7, -0.7, 0.6, 0.7, -0.2];
            cluster(&mut state, 1, false, Guide::default(), &settings).unwrap();
            assert_eq!(
                (&state.centroids, &state.codes[..]),
                (&before, &[0, 1, 2, 1, 1, 0][..]),
                "{codebook:?}"
            );
        }
    }

    #[test]
    fn fixed_centroids_stay_and_near_weights_join_them() {
        let mut state = small();
        state.fix_clusters(&[1]);
        state.values = vec![0.6, 1.0, -1.1, 0.0, 1.0, -0.7];
        cluster(&mut state, 1, false, Guide::default(), &published()).unwrap();
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
        cluster(&mut state, 1, false, Guide::default(), &Clustering { join: false, ..published() }).unwrap();
        assert_eq!((state.codes[0], state.fixed[0]), (0, false));
        assert_eq!(state.codes[1..], [1, 2, 0, 1, 2]);
        assert_eq!(state.centroids[1], 1.0);
    }

    #[test]
    fn a_pinned_zero_stays_at_zero_while_its_weights_are_free() {
        for join in [true, false] {
            let mut state = small();
            state.fix_clusters(&[1, 2]);
            state.values = vec![0.2, 1.0, -1.0, 0.1, 1.0, -1.0];
            cluster(&mut state, 1, true, Guide::default(), &Clustering { join, ..published() }).unwrap();
            assert_eq!(state.centroids, [0.0, 1.0, -1.0], "join {join}");
            assert_eq!(state.codes, [0, 1, 2, 0, 1, 2], "join {join}");
        }
    }
}
