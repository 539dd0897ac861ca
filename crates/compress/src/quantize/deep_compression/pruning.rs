//! Which weights are pruned next.

use rayon::prelude::*;
use slq_graph::Graph;

use super::settings::{DeepCompressionSettings, PruneRule};
use crate::quantize::layer::Layer;

/// One layer while weights are chosen.
#[derive(Debug, Clone)]
pub(crate) struct Scored {
    values: Vec<f32>,
    /// Which weights are pruned.
    pub(crate) pruned: Vec<bool>,
}

impl Scored {
    /// The layer's weights; with `continued`, those that its palette has fixed are pruned already.
    pub(crate) fn new(graph: &Graph, layer: &Layer, continued: bool) -> Self {
        let values = graph.weights[&layer.weight].tensor.as_f32().unwrap_or_default().to_vec();
        Self { values, pruned: pruned(graph, layer, continued) }
    }

    /// Scores of the weights: the smallest are pruned first. Pruned weights have the lowest score of all.
    fn scores(&self, by: PruneRule) -> Vec<f32> {
        let mut scores: Vec<f32> = match by {
            PruneRule::Magnitude | PruneRule::Layer => self.values.iter().map(|v| v.abs()).collect(),
            PruneRule::Lamp => lamp(&self.values, &self.pruned),
        };
        for (score, &pruned) in scores.iter_mut().zip(&self.pruned) {
            if pruned {
                *score = f32::NEG_INFINITY;
            }
        }
        scores
    }
}

/// Which weights of a layer are pruned: those that its palette has fixed, none before the first round (not `continued`).
pub(crate) fn pruned(graph: &Graph, layer: &Layer, continued: bool) -> Vec<bool> {
    match graph.weights[&layer.weight].palette.as_ref().filter(|_| continued) {
        Some(palette) => palette.fixed().to_vec(),
        None => vec![false; layer.count],
    }
}

/// Share of zeros after `round`: S (1 - (1 - t)^3) with t the share of rounds done (Zhu and Gupta 2017, equation 1).
pub(crate) fn sparsity_after(round: usize, settings: &DeepCompressionSettings) -> f64 {
    let left = 1.0 - (round + 1) as f64 / settings.prune_steps.max(1) as f64;
    settings.sparsity * (1.0 - left.max(0.0).powi(3))
}

/// Prunes weights with the smallest scores until `sparsity` of all are pruned, or of each layer by
/// [`PruneRule::Layer`]. Of equal scores the first ones go.
pub(crate) fn prune(layers: &mut [Scored], sparsity: f64, by: PruneRule) {
    let scores: Vec<Vec<f32>> = layers.par_iter().map(|l| l.scores(by)).collect();
    let count = |weights: usize| ((sparsity * weights as f64).round() as usize).min(weights);
    if by == PruneRule::Layer {
        layers.par_iter_mut().zip(scores).for_each(|(layer, scores)| {
            let count = count(scores.len());
            prune_lowest(std::slice::from_mut(layer), &[scores], count);
        });
    } else {
        let count = count(scores.iter().map(Vec::len).sum());
        prune_lowest(layers, &scores, count);
    }
}

fn prune_lowest(layers: &mut [Scored], scores: &[Vec<f32>], count: usize) {
    if count == 0 {
        return;
    }
    let mut all: Vec<f32> = scores.concat();
    let (_, &mut border, _) = all.select_nth_unstable_by(count - 1, f32::total_cmp);
    let below = all.iter().filter(|s| s.total_cmp(&border).is_lt()).count();
    let mut ties = count - below;
    for (layer, scores) in layers.iter_mut().zip(scores) {
        for (pruned, score) in layer.pruned.iter_mut().zip(scores) {
            let tie = score.total_cmp(&border).is_eq() && ties > 0;
            ties -= usize::from(tie);
            *pruned |= tie || score.total_cmp(&border).is_lt();
        }
    }
}

/// Layer-adaptive magnitude (Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021,
/// equation 5): the square of a weight over the sum of squares of those in its layer that are not smaller. The
/// largest weight of a layer scores 1, so no layer is pruned away before another.
fn lamp(values: &[f32], pruned: &[bool]) -> Vec<f32> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| !pruned[i]).collect();
    order.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
    let mut scores = vec![f32::NEG_INFINITY; values.len()];
    let mut sum = 0.0;
    for place in order {
        let square = f64::from(values[place]).powi(2);
        sum += square;
        scores[place] = if sum > 0.0 { (square / sum) as f32 } else { 0.0 };
    }
    scores
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn layer(values: &[f32]) -> Scored {
        Scored { values: values.to_vec(), pruned: vec![false; values.len()] }
    }

    #[test]
    fn sparsity_rises_along_a_cubic_to_the_target() {
        let settings = DeepCompressionSettings { sparsity: 0.9, prune_steps: 4, ..Default::default() };
        let shares: Vec<f64> = (0..4).map(|r| sparsity_after(r, &settings)).collect();
        assert!(shares.is_sorted() && (shares[3] - 0.9).abs() < 1e-12, "{shares:?}");
        assert!((shares[1] - 0.9 * 0.875).abs() < 1e-12);
    }

    #[test]
    fn each_rule_prunes_where_it_says() {
        let layers = [layer(&[1.0, -2.0, 3.0, 4.0]), layer(&[0.1, 0.2, -0.3, 0.4])];
        let pruned = |by| {
            let mut layers = layers.clone();
            prune(&mut layers, 0.5, by);
            layers.map(|l| l.pruned)
        };
        assert_eq!(pruned(PruneRule::Magnitude), [[false; 4], [true; 4]]);
        assert_eq!(pruned(PruneRule::Layer), [[true, true, false, false]; 2]);
        // Equal shapes in both layers: the same scores, whatever the scale.
        assert_eq!(pruned(PruneRule::Lamp), [[true, true, false, false]; 2]);
    }

    #[test]
    fn lamp_keeps_the_last_weight_of_every_layer() {
        let mut layers = [layer(&[1e-6]), layer(&[5.0; 99])];
        prune(&mut layers, 0.95, PruneRule::Lamp);
        assert_eq!(layers[0].pruned, [false]);
    }

    proptest! {
        #[test]
        fn exactly_as_many_are_pruned_and_none_comes_back(
            values in proptest::collection::vec(-3i8..=3, 1..60), first in 0.0f64..1.0, more in 0.0f64..1.0, rule in 0usize..3,
        ) {
            let by = [PruneRule::Lamp, PruneRule::Magnitude, PruneRule::Layer][rule];
            let mut layers = [layer(&values.iter().map(|&v| f32::from(v)).collect::<Vec<_>>())];
            prune(&mut layers, first, by);
            let before = layers[0].pruned.clone();
            let second = first + (1.0 - first) * more;
            prune(&mut layers, second, by);
            let count = layers[0].pruned.iter().filter(|&&p| p).count();
            prop_assert_eq!(count, (second * values.len() as f64).round() as usize);
            prop_assert!(before.iter().zip(&layers[0].pruned).all(|(b, a)| !b || *a));
        }
    }
}
