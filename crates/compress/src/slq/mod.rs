//! SLQ: single-level quantization (arXiv 1803.03289, section 3; method.md, section 2).
//!
//! Each round clusters the weights of every layer, chooses clusters, and fixes their weights to the centroids;
//! what is still free is re-trained to make up for it. Three rooms: [`clustering`] (centroids and codes),
//! [`partition`] (which clusters go now), [`sharing`] (a layer's state, in and out of its palette).

mod clustering;
mod partition;
mod sharing;

pub(crate) use clustering::cluster;
pub(crate) use sharing::LayerState;

use rayon::prelude::*;

use crate::error::CompressError;
use crate::layers::Layer;
use crate::method::{Method, Stage, store_palette};
use crate::schedule::{check_schedule, count_for_layer, default_schedule};
use crate::sensitivity::importance_of;
use crate::settings::Settings;

/// The method's state between rounds: settings and layers; the clusters live in the palettes.
#[derive(Debug)]
pub(crate) struct Slq {
    settings: Settings,
    layers: Vec<Layer>,
    schedule: Vec<usize>,
    size: usize,
}

impl Slq {
    /// Prepares SLQ on `layers`.
    ///
    /// # Errors
    /// [`CompressError::Schedule`] for a schedule that does not end at the widest layer's last cluster.
    pub(crate) fn new(settings: &Settings, layers: Vec<Layer>) -> Result<Self, CompressError> {
        let size = layers.iter().map(|l| l.size).max().ok_or(CompressError::NoLayers)?;
        let schedule = settings.schedule.clone().unwrap_or_else(|| default_schedule(size));
        check_schedule(&schedule, size)?;
        Ok(Self { settings: settings.clone(), layers, schedule, size })
    }
}

impl Method for Slq {
    fn rounds(&self) -> usize {
        self.schedule.len()
    }

    fn share(&mut self, round: usize, stage: &mut Stage<'_>) -> Result<Vec<String>, CompressError> {
        let (graph, importance) = (&*stage.graph, stage.importance);
        let mut states = self
            .layers
            .par_iter()
            .map(|layer| {
                let mut state = LayerState::from_graph(graph, layer, round)?;
                let importance = importance_of(importance, &layer.weight);
                cluster(&mut state, round, false, importance, &self.settings)?;
                Ok(state)
            })
            .collect::<Result<Vec<_>, CompressError>>()?;
        let counts: Vec<usize> =
            self.layers.iter().map(|l| count_for_layer(&self.schedule, round, self.size, l.size)).collect();
        let chosen = partition::choose(&states, &counts, &self.settings, stage)?;
        for (state, clusters) in states.iter_mut().zip(&chosen) {
            state.fix_clusters(clusters);
            store_palette(stage.graph, &state.layer.weight, state.to_palette()?);
        }
        Ok(states.into_iter().map(|s| s.layer.weight).collect())
    }
}
