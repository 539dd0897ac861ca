//! SLQ: single-level quantization (arXiv 1803.03289, section 3).
//!
//! Each round clusters the weights of every layer, chooses clusters, and fixes their weights to the centroids; the
//! parameters that are still free are re-trained to compensate. [`partition`] chooses which clusters are fixed now.

mod partition;
mod settings;

use rayon::prelude::*;

pub use settings::{PartitionRule, PartitionScope, SlqSettings};

use super::clustering::cluster;
use super::layer::Layer;
use super::rounds::{RoundContext, Rounds, Trains};
use super::schedule::{check_schedule, count_for_layer, default_schedule};
use super::state::{LayerState, store_palette};
use crate::error::CompressError;

/// Settings, layers and schedule; the state between rounds is in the palettes.
#[derive(Debug)]
pub(crate) struct Slq {
    settings: SlqSettings,
    seed: u64,
    layers: Vec<Layer>,
    schedule: Vec<usize>,
    size: usize,
}

impl Slq {
    /// Prepares SLQ on `layers`.
    ///
    /// # Errors
    /// [`CompressError::Schedule`] for a schedule that does not end at the widest layer's last cluster.
    pub(crate) fn new(settings: &SlqSettings, layers: Vec<Layer>, seed: u64) -> Result<Self, CompressError> {
        let size = layers.iter().map(|l| l.size).max().ok_or(CompressError::NoLayers)?;
        let schedule = settings.schedule.clone().unwrap_or_else(|| default_schedule(size));
        check_schedule(&schedule, size)?;
        Ok(Self { settings: settings.clone(), seed, layers, schedule, size })
    }
}

impl Rounds for Slq {
    fn rounds(&self) -> usize {
        self.schedule.len()
    }

    fn share(&mut self, round: usize, context: &mut RoundContext<'_>) -> Result<Vec<String>, CompressError> {
        let (graph, guides) = (&*context.graph, context.guides);
        let how = self.settings.clustering(self.seed);
        let mut states = self
            .layers
            .par_iter()
            .map(|layer| {
                let mut state = LayerState::from_graph(graph, layer, round)?;
                cluster(&mut state, round, false, guides.of(&layer.weight), &how)?;
                Ok(state)
            })
            .collect::<Result<Vec<_>, CompressError>>()?;
        let counts: Vec<usize> =
            self.layers.iter().map(|l| count_for_layer(&self.schedule, round, self.size, l.size)).collect();
        let chosen = partition::choose(&states, &counts, &self.settings, context)?;
        for (state, clusters) in states.iter_mut().zip(&chosen) {
            state.fix_clusters(clusters);
            store_palette(context.graph, &state.layer.weight, state.to_palette()?);
        }
        Ok(states.into_iter().map(|s| s.layer.weight).collect())
    }

    fn trains(&self, _round: usize) -> Trains {
        if self.settings.train_centroids { Trains::Centroids } else { Trains::Weights }
    }
}
