//! What a method is: a number of rounds, each of which shares some weights.

use slq_engine::Executor;
use slq_graph::{Graph, Palette};

use crate::calibration::Calibration;
use crate::error::CompressError;
use crate::observer::Observer;

/// What a method sees of the run while it shares weights.
pub struct Stage<'a> {
    /// The network, with the weights as the last re-training left them.
    pub graph: &'a mut Graph,
    /// An executor that holds the same parameters; a method that changes them to measure puts them back.
    pub executor: &'a mut dyn Executor,
    /// Training images set aside for measurements, if the settings ask for any.
    pub calibration: Option<&'a Calibration>,
    /// Hears of progress.
    pub observer: &'a mut dyn Observer,
}

/// A method that alternates sharing and re-training. The driver evaluates, re-trains and checkpoints between
/// the rounds; all that a method keeps of a layer lives in its palette, so that a run resumes from a checkpoint.
pub trait Method {
    /// Rounds until every selected weight is fixed.
    fn rounds(&self) -> usize;

    /// Shares the weights of `round` (from 0): writes palettes and centroid values into the stage's graph.
    ///
    /// # Errors
    /// What clustering or measuring on the executor reports.
    fn share(&mut self, round: usize, stage: &mut Stage<'_>) -> Result<(), CompressError>;
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
