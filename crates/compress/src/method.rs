//! What a method is: a number of rounds, each of which shares some weights.

use slq_engine::Executor;
use slq_graph::{Graph, Palette};

use crate::calibration::Calibration;
use crate::error::CompressError;
use crate::observer::Observer;
use crate::sensitivity::Importance;

/// What a method sees of the run while it shares weights.
pub struct Stage<'a> {
    /// The network, with the weights as the last re-training left them.
    pub graph: &'a mut Graph,
    /// An executor that holds the same parameters; a method that changes them to measure puts them back.
    pub executor: &'a mut dyn Executor,
    /// Training images set aside for measurements, if the settings ask for any.
    pub calibration: Option<&'a Calibration>,
    /// What weighs values in clustering, if the settings ask for it: the Fisher diagonal of the network as it came.
    pub(crate) importance: Option<&'a Importance>,
    /// Hears of progress.
    pub observer: &'a mut dyn Observer,
}

/// What a round re-trains beside biases, batch-norm and scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trains {
    /// The weights that are still free.
    Weights,
    /// The centroids of layers that are fixed as a whole; codes stay.
    Centroids,
}

/// A method that alternates sharing and re-training. The driver evaluates, re-trains and checkpoints between
/// the rounds; what a method keeps of a layer lives in its palette and in [`Method::memory`], so that a run resumes
/// from a checkpoint.
pub trait Method {
    /// Rounds until every selected weight is fixed.
    fn rounds(&self) -> usize;

    /// Shares the weights of `round` (from 0): writes palettes and centroid values into the stage's graph. Names
    /// the weights whose palettes it wrote.
    ///
    /// # Errors
    /// What clustering or measuring on the executor reports.
    fn share(&mut self, round: usize, stage: &mut Stage<'_>) -> Result<Vec<String>, CompressError>;

    /// What is re-trained after `round`.
    fn trains(&self, _round: usize) -> Trains {
        Trains::Weights
    }

    /// What the method keeps beside the palettes, for the checkpoint; empty for most.
    fn memory(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Takes [`Method::memory`] back from a checkpoint.
    ///
    /// # Errors
    /// [`CompressError::Memory`] for what another job left.
    fn recall(&mut self, memory: &[usize]) -> Result<(), CompressError> {
        match memory {
            [] => Ok(()),
            _ => Err(CompressError::Memory { reason: "this method keeps none".into() }),
        }
    }
}

/// Writes a palette into the graph: fixed weights take their centroid's value, bit for bit.
pub(crate) fn store_palette(graph: &mut Graph, weight: &str, palette: Palette) {
    let entry = &mut graph.weights[weight];
    let decoded = palette.decode();
    if let Some(values) = entry.tensor.as_f32_mut() {
        for ((value, &centroid), &fixed) in values.iter_mut().zip(&decoded).zip(palette.fixed()) {
            if fixed {
                *value = centroid;
            }
        }
    }
    entry.palette = Some(palette);
}
