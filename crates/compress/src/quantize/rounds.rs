//! A method that works in rounds, each of which fixes some weights to shared values and re-trains the rest.

use slq_engine::Executor;
use slq_graph::Graph;
use slq_reduce::Reducer;

use super::guides::Guides;
use crate::error::CompressError;
use crate::progress::Observer;
use crate::train::HeldOut;

/// What a method works on while it shares weights.
pub(crate) struct RoundContext<'a> {
    /// The network, with the weights as the last re-training left them.
    pub(crate) graph: &'a mut Graph,
    /// An executor that holds the same parameters; a method that changes them to measure puts them back.
    pub(crate) executor: &'a mut dyn Executor,
    /// Training images held out for measurements, if the settings ask for any.
    pub(crate) held_out: Option<&'a HeldOut>,
    /// What clustering goes by beside the weights, found on the network before the first round.
    pub(crate) guides: &'a Guides,
    /// Progress callback.
    pub(crate) observer: &'a mut dyn Observer,
    /// The processes that share out measurements.
    pub(crate) reducer: &'a dyn Reducer,
}

/// Which parameters a round trains beside biases, batch-norm and scales.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trains {
    /// The weights that are not fixed yet.
    Weights,
    /// These, and the centroids of layers that are fixed as a whole; codes stay.
    Centroids,
}

/// A method that alternates sharing and re-training. The driver evaluates, re-trains and checkpoints between
/// the rounds; a method's state is the palettes of its layers and [`Rounds::save_state`], so that a run resumes
/// from a checkpoint.
pub(crate) trait Rounds {
    /// Rounds until every selected weight is fixed.
    fn rounds(&self) -> usize;

    /// Shares the weights of `round` (from 0): writes palettes and centroid values into the context's graph. Names
    /// the weights whose palettes it wrote.
    ///
    /// # Errors
    /// What clustering or measuring on the executor reports.
    fn share(&mut self, round: usize, context: &mut RoundContext<'_>) -> Result<Vec<String>, CompressError>;

    /// What is trained after `round`.
    fn trains(&self, _round: usize) -> Trains {
        Trains::Weights
    }

    /// The method's state beside the palettes, for the checkpoint; empty for most.
    fn save_state(&self) -> Vec<usize> {
        Vec::new()
    }

    /// Restores [`Rounds::save_state`] from a checkpoint.
    ///
    /// # Errors
    /// [`CompressError::MethodState`] for the state of another job.
    fn load_state(&mut self, state: &[usize]) -> Result<(), CompressError> {
        match state {
            [] => Ok(()),
            _ => Err(CompressError::MethodState { reason: "this method has no state of its own".into() }),
        }
    }
}
