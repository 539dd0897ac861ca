//! Flags of commands that take a solver file in place of a model and its data.

use std::path::{Path, PathBuf};

use clap::Args;
use slq::Model;
use slq::caffe::{SolverJob, SolverOptions};

use super::common::{Common, ModelArgs};
use super::data::DataArgs;

/// How a model is named where a solver file can name it.
#[derive(Args, Clone, Debug)]
pub(crate) struct SolverModelArgs {
    /// x.onnx, x.prototxt (with --weights), x.safetensors (with --graph), or zoo:NAME; with --solver, a prototxt in
    /// place of the solver's net
    #[arg(required_unless_present = "solver")]
    model: Option<String>,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    pub(crate) weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX")]
    graph: Option<PathBuf>,
    /// Caffe's solver.prototxt: net, data and settings come from Caffe's files, flags go before them
    #[arg(long, value_name = "FILE")]
    pub(crate) solver: Option<PathBuf>,
}

impl SolverModelArgs {
    /// The job of the solver file, if one was named; `weights` go before those of the flags.
    pub(crate) fn job(
        &self,
        data: &DataArgs,
        weights: Option<&Path>,
        common: &Common,
    ) -> Result<Option<SolverJob>, slq::Error> {
        let weights = weights.or(self.weights.as_deref());
        let open =
            |solver: &PathBuf| open_solver(solver, self.model.as_deref(), weights, data, common.seed());
        let job = self.solver.as_ref().map(open).transpose()?;
        job.iter().flat_map(|j| &j.notes).for_each(|note| common.note(format_args!("note: {note}")));
        Ok(job)
    }

    /// The model, where no solver file was named.
    pub(crate) fn open(&self, data: &DataArgs, seed: u64) -> Result<Model, slq::Error> {
        let model = self.model.clone().unwrap_or_default();
        let named = ModelArgs { model, weights: self.weights.clone(), graph: self.graph.clone() };
        named.open_for(data, seed)
    }
}

/// The job of a solver file with flags on top.
pub(crate) fn open_solver(
    solver: &Path,
    model: Option<&str>,
    weights: Option<&Path>,
    data: &DataArgs,
    seed: u64,
) -> Result<SolverJob, slq::Error> {
    if let Some(other) = model.filter(|m| !m.ends_with(".prototxt")) {
        let reason =
            format!("{other}: with --solver the network is a prototxt, with --weights its caffemodel");
        return Err(slq::Error::Argument(reason));
    }
    let options = SolverOptions {
        weights,
        net: model.map(Path::new),
        data: data.dataset()?,
        subsets: data.subsets(),
        adjust: &|transform| data.adjusted(transform),
        seed,
    };
    SolverJob::open(solver, options)
}
