//! Jobs: a recipe on a model and its data, in memory ([`Job`]) or from file to file ([`JobFile`]).

mod asked;
mod container;
mod devices;
mod file;
mod inputs;
mod open;
mod package;
mod paths;
mod place;
mod processes;
mod report;
mod suit;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use slq_compress::{
    CHECKPOINT_EVERY, CompressError, FileBytes, Observer, Recipe, Report, RunOptions, Sensitivity, Stage,
    StageReport, TrainingData,
};
use slq_engine::Isa;
use slq_file::Lock;
use slq_reduce::{Alone, Reducer};

use crate::Error;
use crate::calibration::CalibrationInputs;
use crate::dataset::Dataset;
use crate::model::Model;

pub use asked::{Asked, Known, Lengths, Preset, setting_names, stages};
pub use devices::suit_runtime;
pub use file::{FORMAT, FileOptions, JobFile, REPORT, check_unused};
pub use inputs::Inputs;
pub use place::RECIPE;
pub use report::{JobReport, Output};

/// A recipe with its data, teacher and options; [`Job::run`] takes the model.
///
/// ```no_run
/// use slq::{Dataset, Job, Model, Quantize, Recipe};
///
/// # fn main() -> Result<(), slq::Error> {
/// let (model, data) = (Model::open("net.onnx")?, Dataset::open("images.zip")?);
/// let done = Job::new(Recipe::new(Quantize::slq(4).layer("fc*", 3))).data(&data).run(&model)?;
/// done.model.save("small.onnx")?;
/// # Ok(())
/// # }
/// ```
pub struct Job<'a> {
    recipe: Recipe,
    data: Option<Images<'a>>,
    teacher: Option<&'a Model>,
    calibration: Option<&'a CalibrationInputs>,
    run_dir: Option<PathBuf>,
    isa: Isa,
    file: FileBytes<'a>,
    sensitivity: Option<&'a Sensitivity>,
    checkpoint_every: Duration,
    lock: Option<Arc<Lock>>,
    reducer: &'a dyn Reducer,
    observer: Option<&'a mut dyn Observer>,
}

enum Images<'a> {
    Dataset(&'a Dataset),
    Prepared(&'a TrainingData),
}

/// The result of a job.
#[derive(Debug, Clone)]
pub struct Done {
    /// The model, with the preprocessing it was trained with.
    pub model: Model,
    /// The figures in one view.
    pub report: Report,
    /// The figures of each stage.
    pub stages: Vec<StageReport>,
}

impl<'a> Job<'a> {
    /// A job of `recipe`; a single stage is a recipe, too.
    pub fn new(recipe: impl Into<Recipe>) -> Self {
        Self {
            recipe: recipe.into(),
            data: None,
            teacher: None,
            calibration: None,
            run_dir: None,
            isa: Isa::detect(),
            file: FileBytes::Stored(0),
            sensitivity: None,
            checkpoint_every: CHECKPOINT_EVERY,
            lock: None,
            reducer: Alone::shared(),
            observer: None,
        }
    }

    /// The images to train and measure on.
    #[must_use]
    pub fn data(mut self, data: &'a Dataset) -> Self {
        self.data = Some(Images::Dataset(data));
        self
    }

    /// Images with their final preprocessing, which the job uses unchanged.
    #[must_use]
    pub fn prepared(mut self, data: Option<&'a TrainingData>) -> Self {
        self.data = data.map(Images::Prepared);
        self
    }

    /// Inputs without labels: what calibration runs on, and what other methods are compared with the float network on.
    #[must_use]
    pub fn calibrate(mut self, inputs: Option<&'a CalibrationInputs>) -> Self {
        self.calibration = inputs;
        self
    }

    /// The network whose outputs the stages that distil are trained towards. Default: the model before the job or, behind a
    /// `fine-tune` stage, the fine-tuned one.
    #[must_use]
    pub fn teacher(mut self, teacher: Option<&'a Model>) -> Self {
        self.teacher = teacher;
        self
    }

    /// Where checkpoints are kept. A job goes on from those it finds there.
    #[must_use]
    pub fn run_dir(mut self, dir: Option<&Path>) -> Self {
        self.run_dir = dir.map(Into::into);
        self
    }

    /// The instruction set. Default: the best of this machine.
    #[must_use]
    pub fn isa(mut self, isa: Isa) -> Self {
        self.isa = isa;
        self
    }

    /// The file that a budget of bytes holds for. Default: codes, codebooks and float parameters alone.
    #[must_use]
    pub fn file(mut self, file: FileBytes<'a>) -> Self {
        self.file = file;
        self
    }

    /// Sensitivities measured before, for a budget.
    #[must_use]
    pub fn sensitivity(mut self, table: Option<&'a Sensitivity>) -> Self {
        self.sensitivity = table;
        self
    }

    /// Progress callback.
    #[must_use]
    pub fn observe(mut self, observer: &'a mut dyn Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Checks what can be known before the work: settings, layers, whether there is data.
    ///
    /// # Errors
    /// See [`slq_compress::check`].
    pub fn check(&self, model: &Model) -> Result<(), Error> {
        let data = self.images(model)?;
        Ok(slq_compress::check(&model.graph, data.as_deref(), self.inputs(), &self.recipe)?)
    }

    /// Time between two checkpoints within a training; `None` for [`CHECKPOINT_EVERY`].
    #[must_use]
    pub fn checkpoint_every(mut self, every: Option<Duration>) -> Self {
        self.checkpoint_every = every.unwrap_or(CHECKPOINT_EVERY);
        self
    }

    /// The processes that do the job together, each on its share of the images; each has a run directory of its own.
    /// Default: one alone.
    #[must_use]
    pub fn reducer(mut self, reducer: &'a dyn Reducer) -> Self {
        self.reducer = reducer;
        self
    }

    /// With a run directory that is locked already.
    fn locked(mut self, lock: Option<Arc<Lock>>) -> Self {
        self.lock = lock;
        self
    }

    /// Runs the job.
    ///
    /// # Errors
    /// [`Error::Compress`]; [`Error::NeedsGraph`] for a model without a network that is to be trained.
    pub fn run(mut self, model: &Model) -> Result<Done, Error> {
        let data = self.images(model)?;
        // One job at a time in a directory.
        let _lock = match (&self.run_dir, self.lock.take()) {
            (Some(dir), None) => {
                std::fs::create_dir_all(dir).map_err(|e| run_dir_error(dir, e))?;
                Some(Arc::new(lock(dir)?))
            }
            (_, lock) => lock,
        };
        let options = RunOptions {
            run_dir: self.run_dir.as_deref(),
            isa: self.isa,
            teacher: self.teacher.map(|t| &t.graph),
            inputs: self.inputs(),
            file: self.file,
            sensitivity: self.sensitivity,
            checkpoint_every: self.checkpoint_every,
            reducer: self.reducer,
        };
        let mut silent = slq_compress::Silent;
        let observer = self.observer.take().unwrap_or(&mut silent);
        let outcome =
            slq_compress::run(model.graph.clone(), data.as_deref(), &self.recipe, options, observer)?;
        let split = self.recipe.stages.iter().any(|s| matches!(s, Stage::Decompose(_)));
        let mut made = model.with_graph(outcome.graph, split);
        if let Some(data) = data.as_deref().filter(|d| d.train.inputs().is_none()) {
            made.transform = Some(data.transform.clone());
        } else if let Some((_, transform)) = self.calibration.and_then(CalibrationInputs::split) {
            made.transform = Some(transform.clone());
        }
        Ok(Done { model: made, report: outcome.report, stages: outcome.stages })
    }

    fn inputs(&self) -> Option<&'a dyn slq_compress::Inputs> {
        self.calibration.map(|c| c as &dyn slq_compress::Inputs)
    }

    fn images(&self, model: &Model) -> Result<Option<std::borrow::Cow<'a, TrainingData>>, Error> {
        use std::borrow::Cow;
        if model.graph.nodes.is_empty() && self.recipe.trains() {
            return Err(Error::NeedsGraph(model.graph.name.clone().into()));
        }
        Ok(match self.data {
            None => None,
            Some(Images::Dataset(data)) => Some(Cow::Owned(data.for_model(model)?)),
            Some(Images::Prepared(data)) => Some(Cow::Borrowed(data)),
        })
    }
}

/// Locks a run directory, and removes what a killed process left in it.
fn lock(dir: &Path) -> Result<Lock, Error> {
    match Lock::take(dir).map_err(|e| run_dir_error(dir, e))? {
        None => {
            Err(run_dir_error(dir, "another process works in it: wait for its end, or give each its own"))
        }
        Some(lock) => {
            slq_file::remove_leftovers(dir).map_err(|e| run_dir_error(dir, e))?;
            Ok(lock)
        }
    }
}

/// The error of a run directory.
pub(crate) fn run_dir_error(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Compress(CompressError::RunDir { path: path.into(), reason: reason.to_string() })
}
