//! What all stages of a job share beside the network and their settings.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use slq_engine::Isa;
use slq_graph::Graph;
use slq_reduce::{Alone, Reducer};

use crate::error::CompressError;
use crate::inputs::Inputs;
use crate::progress::Accuracy;
use crate::train::{TrainingData, check_fit, evaluate_shared, evaluator};

/// Time between two checkpoints within a training, unless told otherwise.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);

/// Data, teacher, seed, instruction set and directory of a stage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    /// Images, if there are any.
    pub(crate) data: Option<&'a TrainingData>,
    /// Inputs without labels, if there are any.
    pub(crate) inputs: Option<&'a dyn Inputs>,
    /// Teacher of a distillation; `None` for the network that the stage starts from.
    pub(crate) teacher: Option<&'a Graph>,
    /// Seed of every random choice.
    pub(crate) seed: u64,
    /// Instruction set.
    pub(crate) isa: Isa,
    /// Where checkpoints are kept; a stage goes on from those it finds there.
    pub(crate) dir: Option<&'a Path>,
    /// Time between two checkpoints within a training.
    pub(crate) every: Duration,
    /// The other processes of the job.
    pub(crate) reducer: &'a dyn Reducer,
    /// Where calibrations of the same network keep what all of them measure.
    pub(crate) rises: Option<&'a OnceLock<Rises>>,
}

/// How far the outputs of a network move with noise in each layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rises {
    /// The layers' weights.
    pub(crate) weights: Vec<String>,
    /// Layer by layer; empty where it could not be measured.
    pub(crate) rises: Vec<f64>,
    /// Why it could not.
    pub(crate) unmeasured: Option<String>,
}

impl<'a> Context<'a> {
    /// Seed 0 and nothing else.
    pub(crate) fn bare() -> Self {
        let (isa, every) = (Isa::detect(), CHECKPOINT_EVERY);
        Self {
            data: None,
            inputs: None,
            teacher: None,
            seed: 0,
            isa,
            dir: None,
            every,
            reducer: Alone::shared(),
            rises: None,
        }
    }

    /// The images of a stage that cannot do without.
    ///
    /// # Errors
    /// [`CompressError::NoData`].
    pub(crate) fn require_data(&self) -> Result<&'a TrainingData, CompressError> {
        self.data.ok_or(CompressError::NoData)
    }

    /// Test accuracy of `graph`, in batches of `batch` images; `None` without data.
    ///
    /// # Errors
    /// [`CompressError::Engine`] for a network that cannot run, [`CompressError::DataMismatch`] for other images.
    pub(crate) fn accuracy(&self, graph: &Graph, batch: usize) -> Result<Option<Accuracy>, CompressError> {
        let Some(data) = self.data else { return Ok(None) };
        let mut executor = evaluator(graph, batch, data, self.isa)?;
        check_fit(&mut executor, &data.test, &data.transform)?;
        evaluate_shared(&mut executor, (&data.test, &data.transform), batch, self.reducer).map(Some)
    }
}
