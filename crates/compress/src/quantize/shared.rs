//! The first half of a round as the second half and its checkpoints need it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slq_engine::Executor;
use slq_graph::Graph;

use super::centroids::Centroids;
use crate::error::CompressError;
use crate::progress::Accuracy;
use crate::train::Between;

/// What sharing weights has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Shared {
    /// Weights whose clusters have been fixed.
    pub(crate) layers: Vec<String>,
    /// Share of the selected weights that is fixed.
    pub(crate) fixed_fraction: f64,
    /// Accuracy before re-training.
    pub(crate) before: Accuracy,
    /// Seconds it took.
    pub(crate) seconds: f64,
    /// State of the method beside the palettes.
    pub(crate) method_state: Vec<usize>,
}

/// What a checkpoint within a round adds to weights and momentum.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// The first half of the round.
    pub(crate) shared: Shared,
    /// Codebooks in training, where the round trains them.
    centroids: Option<Value>,
}

/// The training of a round: of weights, or of codebooks.
pub(crate) struct RoundTraining<'a> {
    /// The codebooks, where they are trained.
    pub(crate) centroids: Option<Centroids>,
    /// The first half of the round.
    pub(crate) shared: &'a Shared,
}

impl Between for RoundTraining<'_> {
    fn after_step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError> {
        self.centroids.as_mut().map_or(Ok(()), |c| c.after_step(executor, rate))
    }

    fn store(&self, graph: &mut Graph) -> Result<(), CompressError> {
        self.centroids.as_ref().map_or(Ok(()), |c| c.store(graph))
    }

    fn state(&self) -> Value {
        let centroids = self.centroids.as_ref().map(Between::state);
        json!(Kept { shared: self.shared.clone(), centroids })
    }

    fn restore(&mut self, state: Value) -> Result<(), CompressError> {
        let kept: Kept = serde_json::from_value(state)
            .map_err(|e| CompressError::MethodState { reason: e.to_string() })?;
        match (&mut self.centroids, kept.centroids) {
            (Some(centroids), Some(state)) => centroids.restore(state),
            (None, None) => Ok(()),
            _ => Err(CompressError::MethodState { reason: "it trains something else".into() }),
        }
    }
}
