//! The opened inputs of a job.

use slq_compress::{TrainingData, TrainingSettings};

use crate::Error;
use crate::calibration::CalibrationInputs;
use crate::detect::{Preprocessing, PreprocessingSource};
use crate::model::Model;

/// The opened inputs of a job file.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The model.
    pub model: Model,
    /// Images, where a dataset is named.
    pub data: Option<TrainingData>,
    /// Inputs without labels, where they are named.
    pub calibration: Option<CalibrationInputs>,
    /// Where the preprocessing of the images comes from.
    pub preprocessing: Option<Preprocessing>,
    /// Teacher of a distillation, where another model is named.
    pub teacher: Option<Model>,
    /// Settings of the training from a solver file.
    pub training: Option<TrainingSettings>,
    /// The seed that a solver file names.
    pub seed: Option<u64>,
    /// Notes for the user: parts of the files that have no effect here.
    pub notes: Vec<String>,
}

impl Inputs {
    /// The training images without their labels; `None` where no dataset is named.
    ///
    /// # Errors
    /// Those of [`CalibrationInputs::images`].
    pub(super) fn unlabelled(&self, seed: u64) -> Result<Option<CalibrationInputs>, Error> {
        let Some(data) = &self.data else { return Ok(None) };
        let stored = || Preprocessing::new(data.transform.clone(), PreprocessingSource::Stored);
        let preprocessing = self.preprocessing.clone().unwrap_or_else(stored);
        CalibrationInputs::images(&self.model, data.train.clone(), preprocessing, seed).map(Some)
    }
}
