//! MLQ: multiple-level quantization (arXiv 1803.03289, section 3.3 and following).
//!
//! The partition works on two levels. Width: the outer clusters of a layer are fixed before the one at zero. Depth:
//! a few layers at a time are advanced by one level while the rest of the network is re-trained to compensate.
//! Clusters and weight sharing are SLQ's; MLQ adds [`levels`] (the level of each layer, and which layers are next) and
//! [`rank`] (the order of layers).

mod levels;
mod rank;
mod settings;

use rayon::prelude::*;
use slq_graph::Graph;

pub use settings::{Advance, LayerOrder, MlqSettings};

use super::clustering::cluster;
use super::guides::Guides;
use super::layer::Layer;
use super::rounds::{RoundContext, Rounds, Trains};
use super::schedule::{check_schedule, count_for_layer, default_schedule};
use super::state::{LayerState, store_palette};
use crate::error::CompressError;
use levels::Levels;

/// Settings and layers, and how many levels each layer has been advanced by; the clusters are in the palettes.
#[derive(Debug)]
pub(crate) struct Mlq {
    settings: MlqSettings,
    seed: u64,
    layers: Vec<Layer>,
    schedule: Vec<usize>,
    size: usize,
    levels: Levels,
}

impl Mlq {
    /// Prepares MLQ on `layers`.
    ///
    /// # Errors
    /// [`CompressError::Schedule`] for a schedule that does not end at the widest layer's last cluster.
    pub(crate) fn new(settings: &MlqSettings, layers: Vec<Layer>, seed: u64) -> Result<Self, CompressError> {
        let size = layers.iter().map(|l| l.size).max().ok_or(CompressError::NoLayers)?;
        let schedule = settings.schedule.clone().unwrap_or_else(|| width_schedule(size));
        check_schedule(&schedule, size)?;
        let levels = Levels::new(layers.len(), schedule.len(), settings);
        Ok(Self { settings: settings.clone(), seed, layers, schedule, size, levels })
    }

    /// The layer clustered for its next level, before any further cluster is fixed.
    fn clustered(&self, graph: &Graph, guides: &Guides, layer: usize) -> Result<LayerState, CompressError> {
        let level = self.levels.of(layer);
        let mut state = LayerState::from_graph(graph, &self.layers[layer], level)?;
        // Which clusters are fixed follows from the level, also where a cluster has no weights.
        for &c in &self.clusters_at(layer, level) {
            state.cluster_fixed[c] = true;
        }
        let guide = guides.of(&self.layers[layer].weight);
        cluster(&mut state, level, true, guide, &self.settings.clustering(self.seed))?;
        Ok(state)
    }

    /// The clusters that are fixed in a layer at `level`: those farthest from zero first, zero last.
    fn clusters_at(&self, layer: usize, level: usize) -> Vec<usize> {
        let size = self.layers[layer].size;
        let count = match level {
            0 => 0,
            _ => count_for_layer(&self.schedule, level - 1, self.size, size),
        };
        (1..size).chain([0]).take(count).collect()
    }
}

/// Outer clusters, then zero; wider codebooks in the steps of SLQ's schedule, counted from the outside.
fn width_schedule(size: usize) -> Vec<usize> {
    let mut schedule = default_schedule(size);
    if size > 3 {
        schedule.insert(schedule.len() - 1, size - 1);
        schedule.dedup();
    }
    schedule
}

impl Rounds for Mlq {
    fn rounds(&self) -> usize {
        self.levels.steps()
    }

    fn share(&mut self, _round: usize, context: &mut RoundContext<'_>) -> Result<Vec<String>, CompressError> {
        let candidates = self.levels.candidates();
        let (graph, guides) = (&*context.graph, context.guides);
        let states = candidates
            .par_iter()
            .map(|&layer| self.clustered(graph, guides, layer))
            .collect::<Result<Vec<_>, CompressError>>()?;
        let chosen = match self.levels.must_go() {
            // Layers that have begun, or as many as may go: nothing to choose.
            true => (0..candidates.len()).collect(),
            false => {
                let order = rank::order(&states, &self.settings, context)?;
                order.into_iter().take(self.settings.layers_per_step).collect::<Vec<_>>()
            }
        };
        let mut advanced = Vec::new();
        for place in chosen {
            let (layer, mut state) = (candidates[place], states[place].clone());
            self.levels.advance(layer);
            state.fix_clusters(&self.clusters_at(layer, self.levels.of(layer)));
            store_palette(context.graph, &state.layer.weight, state.to_palette()?);
            advanced.push(state.layer.weight);
        }
        Ok(advanced)
    }

    fn trains(&self, _round: usize) -> Trains {
        if self.settings.train_centroids { Trains::Centroids } else { Trains::Weights }
    }

    fn save_state(&self) -> Vec<usize> {
        self.levels.to_vec()
    }

    fn load_state(&mut self, state: &[usize]) -> Result<(), CompressError> {
        self.levels.load(state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_clusters_go_before_zero() {
        assert_eq!(width_schedule(3), [2, 3]);
        assert_eq!(width_schedule(5), [3, 4, 5]);
        assert_eq!(width_schedule(9), [3, 5, 7, 8, 9]);
        assert_eq!(width_schedule(17), [5, 9, 13, 15, 16, 17]);
        for size in 2..=256 {
            check_schedule(&width_schedule(size), size).unwrap();
        }
        let layer = |size| Layer {
            weight: "w".into(),
            node: "n".into(),
            count: 99,
            groups: 1,
            asked: 1,
            size,
            half: false,
        };
        let mlq = Mlq::new(&MlqSettings::default(), vec![layer(5), layer(3)], 0).unwrap();
        assert_eq!((mlq.clusters_at(0, 0), mlq.clusters_at(0, 1)), (vec![], vec![1, 2, 3]));
        assert_eq!((mlq.clusters_at(0, 2), mlq.clusters_at(0, 3)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4, 0]));
        assert_eq!(mlq.clusters_at(1, 3), [1, 2, 0]);
    }
}
