//! Loss-based partition: which clusters are fixed in this round (arXiv 1803.03289, section 3.2).

use super::settings::{PartitionRule, PartitionScope, SlqSettings};
use crate::error::CompressError;
use crate::processes::sum_all;
use crate::progress::Event;
use crate::quantize::rounds::RoundContext;
use crate::quantize::state::LayerState;
use crate::train::share_out;

/// The clusters to fix now, for every layer, so that `counts[layer]` of its clusters are fixed afterwards (with
/// [`PartitionScope::Network`], so that as many are fixed in the whole network).
pub(crate) fn choose(
    states: &[LayerState],
    counts: &[usize],
    settings: &SlqSettings,
    context: &mut RoundContext<'_>,
) -> Result<Vec<Vec<usize>>, CompressError> {
    let priorities = match settings.partition {
        PartitionRule::Magnitude => by_place(states, |place, _| -(place as f64)),
        PartitionRule::Reversed => by_place(states, |place, _| place as f64),
        PartitionRule::Loss => measured_rise(states, context)?,
        PartitionRule::Taylor => estimated_rise(states, context)?,
    };
    let everything = states.iter().zip(counts).all(|(s, &n)| n == s.layer.size);
    if settings.partition_scope == PartitionScope::Network && settings.measures() && !everything {
        return Ok(across_network(states, counts, &priorities));
    }
    Ok(states.iter().zip(counts).zip(&priorities).map(|((s, &n), p)| within_layer(s, n, p)).collect())
}

/// A priority for every cluster from its place in the codebook.
fn by_place(states: &[LayerState], priority: impl Fn(usize, &LayerState) -> f64) -> Vec<Vec<f64>> {
    states.iter().map(|s| (0..s.layer.size).map(|place| priority(place, s)).collect()).collect()
}

/// Free clusters by falling priority; equal ones in the order of the ladder.
fn free_by_priority(state: &LayerState, priority: &[f64]) -> Vec<usize> {
    let mut free: Vec<usize> = (0..state.layer.size).filter(|&c| !state.cluster_fixed[c]).collect();
    free.sort_by(|&a, &b| priority[b].total_cmp(&priority[a]).then(a.cmp(&b)));
    free
}

fn within_layer(state: &LayerState, count: usize, priority: &[f64]) -> Vec<usize> {
    let fixed = state.cluster_fixed.iter().filter(|&&f| f).count();
    let mut chosen = free_by_priority(state, priority);
    chosen.truncate(count.saturating_sub(fixed));
    chosen
}

fn across_network(states: &[LayerState], counts: &[usize], priorities: &[Vec<f64>]) -> Vec<Vec<usize>> {
    let fixed: usize = states.iter().flat_map(|s| &s.cluster_fixed).filter(|&&f| f).count();
    let wanted = counts.iter().sum::<usize>().saturating_sub(fixed);
    let mut all: Vec<(usize, usize)> = states
        .iter()
        .enumerate()
        .flat_map(|(l, s)| free_by_priority(s, &priorities[l]).into_iter().map(move |c| (l, c)))
        .collect();
    all.sort_by(|&(la, ca), &(lb, cb)| {
        priorities[lb][cb].total_cmp(&priorities[la][ca]).then((la, ca).cmp(&(lb, cb)))
    });
    let mut chosen = vec![Vec::new(); states.len()];
    for (layer, cluster) in all.into_iter().take(wanted) {
        chosen[layer].push(cluster);
    }
    chosen
}

/// The rise of the held-out loss when one cluster alone is quantized, for every free cluster; the tests are shared out over
/// the processes.
fn measured_rise(
    states: &[LayerState],
    context: &mut RoundContext<'_>,
) -> Result<Vec<Vec<f64>>, CompressError> {
    let held_out = context.held_out.ok_or(CompressError::NoData)?;
    let base = held_out.loss_shared(context.executor, context.reducer)?;
    let free = |s: &LayerState| (0..s.layer.size).filter(|&c| !s.cluster_fixed[c]).collect::<Vec<_>>();
    let tests: Vec<(usize, usize)> =
        states.iter().enumerate().flat_map(|(l, s)| free(s).into_iter().map(move |c| (l, c))).collect();
    let (of, size, mut done) = (tests.len(), context.reducer.size(), 0);
    let found = share_out(context.reducer, of, |test| {
        let (layer, cluster) = tests[test];
        let state = &states[layer];
        context.executor.set_parameter(&state.layer.weight, &state.with_cluster_shared(cluster))?;
        let rise = held_out.loss(context.executor)? - base;
        context.executor.set_parameter(&state.layer.weight, &state.values)?;
        done = (done + size).min(of);
        context.observer.on(&Event::Measuring { done, of });
        Ok([rise])
    })?;
    let mut rises: Vec<Vec<f64>> = states.iter().map(|s| vec![f64::NEG_INFINITY; s.layer.size]).collect();
    for (&(layer, cluster), [rise]) in tests.iter().zip(found) {
        rises[layer][cluster] = rise;
    }
    Ok(rises)
}

/// The same rise to second order: for a change d of the weights, g d + d F d / 2, with g the mean gradient and F the
/// diagonal of the empirical Fisher information (for a batch of m images, m g^2 estimates the mean of the
/// squared gradients of single images), which stands for the Hessian.
fn estimated_rise(
    states: &[LayerState],
    context: &mut RoundContext<'_>,
) -> Result<Vec<Vec<f64>>, CompressError> {
    let held_out = context.held_out.ok_or(CompressError::NoData)?;
    let mut gradient: Vec<Vec<f64>> = states.iter().map(|s| vec![0.0; s.values.len()]).collect();
    let mut fisher = gradient.clone();
    let mut total = 0.0;
    // A layer whose clusters are all fixed has none to rank.
    held_out.for_each_gradient(context.executor, context.reducer, |executor, images| {
        let n = images as f64;
        total += n;
        for ((state, sum), squares) in states.iter().zip(&mut gradient).zip(&mut fisher) {
            if state.cluster_fixed.iter().all(|&f| f) {
                continue;
            }
            let g = executor.gradient(&state.layer.weight)?;
            for ((s, q), &g) in sum.iter_mut().zip(squares).zip(g.iter()) {
                let g = f64::from(g);
                *s += n * g;
                *q += n * n * g * g;
            }
        }
        Ok(())
    })?;
    sum_all(context.reducer, [std::slice::from_mut(&mut total)])?;
    sum_all(context.reducer, gradient.iter_mut().chain(&mut fisher).map(Vec::as_mut_slice))?;
    let priorities = states.iter().zip(gradient.iter().zip(&fisher)).map(|(state, (sum, squares))| {
        let run = state.group_len();
        let mut rise = vec![0.0; state.layer.size];
        for (i, (&value, &code)) in state.values.iter().zip(&state.codes).enumerate() {
            let centroid = state.centroids[i / run * state.layer.size + usize::from(code)];
            let d = f64::from(centroid) - f64::from(value);
            rise[usize::from(code)] += (sum[i] * d + 0.5 * squares[i] * d * d) / total;
        }
        rise
    });
    Ok(priorities.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::state::tests::small;

    #[test]
    fn highest_priority_first_and_only_as_many_as_the_schedule_says() {
        let mut state = small();
        assert_eq!(within_layer(&state, 2, &[0.1, 0.5, 0.3]), [1, 2]);
        state.fix_clusters(&[1]);
        assert_eq!(within_layer(&state, 2, &[0.1, 0.5, 0.3]), [2]);
        assert_eq!(within_layer(&state, 1, &[0.1, 0.5, 0.3]), [0usize; 0]);
    }

    #[test]
    fn magnitude_follows_the_ladder_and_reversed_runs_against_it() {
        let states = [small()];
        let forward = by_place(&states, |place, _| -(place as f64));
        let backward = by_place(&states, |place, _| place as f64);
        assert_eq!(within_layer(&states[0], 2, &forward[0]), [0, 1]);
        assert_eq!(within_layer(&states[0], 2, &backward[0]), [2, 1]);
    }

    #[test]
    fn the_network_scope_spends_the_count_where_the_rise_is() {
        let states = [small(), small()];
        let priorities = [vec![9.0, 8.0, 7.0], vec![1.0, 2.0, 3.0]];
        assert_eq!(across_network(&states, &[2, 2], &priorities), [vec![0, 1, 2], vec![2]]);
    }
}
