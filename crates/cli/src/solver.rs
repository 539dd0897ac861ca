//! Models that may come from a solver file.

use std::path::{Path, PathBuf};

use slq::solver::SolverJob;
use slq::{InputShape, JobFile, Model};

use crate::common::Common;
use crate::data::DataArgs;

/// A model by its files, or a Caffe solver that names net and data.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Input and data")]
pub(crate) struct SolverModelArgs {
    /// x.onnx, x.slq, x.prototxt (with --weights), x.safetensors (with --graph), x.pth, or zoo:NAME
    #[arg(required_unless_present = "solver")]
    model: Option<String>,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    pub(crate) weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX")]
    graph: Option<PathBuf>,
    /// Sizes of an input that the file leaves open, such as images=1x3x320x320 (repeatable)
    #[arg(long, value_name = "NAME=SIZES")]
    input_shape: Vec<InputShape>,
    /// Caffe's solver.prototxt: net, data and settings come from Caffe's files, flags win over them
    #[arg(long, value_name = "FILE")]
    pub(crate) solver: Option<PathBuf>,
}

impl SolverModelArgs {
    /// The job of the solver file, if one was named; `weights` win over those of the flags.
    pub(crate) fn solver(
        &self,
        data: &DataArgs,
        weights: Option<&Path>,
        common: &Common,
    ) -> Result<Option<SolverJob>, slq::Error> {
        let Some(solver) = &self.solver else { return Ok(None) };
        let mut files = self.job(data, common.seed());
        files.weights = weights.map(Into::into).or(files.weights);
        let job = SolverJob::open(solver, &files.solver_options()?)?;
        job.notes.iter().for_each(|note| common.note(format_args!("note: {note}")));
        Ok(Some(job))
    }

    /// The model that was named by its file, unless a solver file names it.
    pub(crate) fn name(&self) -> Option<&str> {
        self.model.as_deref().filter(|_| self.solver.is_none())
    }

    /// The model, where no solver file was named.
    pub(crate) fn open(&self, data: &DataArgs, seed: u64) -> Result<Model, slq::Error> {
        self.job(data, seed).open_model()
    }

    pub(crate) fn job(&self, data: &DataArgs, seed: u64) -> JobFile {
        JobFile {
            model: self.model.clone(),
            weights: self.weights.clone(),
            graph: self.graph.clone(),
            input_shapes: self.input_shape.clone(),
            data: data.options(),
            seed,
            ..JobFile::default()
        }
    }
}
