//! `slq compress`: the main job.

mod asked;
mod flags;
mod plan;
mod summary;

use std::path::{Path, PathBuf};

use serde_json::json;
use slq::jobs::{Asked, Known};
use slq::methods::MethodName;
use slq::{Error, JobFile};

use crate::batch::fit_job;
use crate::common::Common;
use crate::job::{Keep, Place, RunArgs, check_files, go, place_of};
pub(crate) use asked::length;
use flags::Flags;
pub(crate) use flags::named;
pub(crate) use summary::summary;

/// Share the weights of a trained network, round by round, and re-train what is still free.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq compress lenet.onnx --data mnist-10k --bits 4 -o small.onnx
  slq compress net.onnx --calibrate images/ --bits 4 -o small.onnx
  slq compress net.onnx --method kmeans --bits 8 -o small.onnx")]
#[command(after_long_help = "Examples:
  slq compress lenet.onnx --data mnist-10k --bits 4 -o small.onnx
  slq compress net.onnx --data images.zip --ternary -o ternary.onnx
  slq compress net.onnx --calibrate images/ --bits 4 -o small.onnx
  slq compress net.onnx --method kmeans --bits 8 -o small.onnx
  slq compress net.onnx --data images.zip --target-size 20x -o small.onnx
  slq compress --recipe slq-runs/lenet/recipe.toml --seed 1 -o again.onnx
  slq compress --solver solver.prototxt --weights alexnet.caffemodel --published --bits 5 -o alexnet_5bit.caffemodel
  slq compress --resume slq-runs/lenet")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
}

impl Args {
    /// The job to go on with and the flags for it, where one is named.
    pub(crate) fn resumed(&self) -> Option<(&Path, &RunArgs)> {
        let output = &self.flags.output;
        output.resume.as_deref().map(|dir| (dir, &output.run))
    }
}

/// Runs a new job.
pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let flags = args.flags;
    let asked = asked::asked(&flags)?;
    let mut job = described(&flags, common)?;
    common.check_outputs(&job.outputs)?;
    let default = default_method(&job, &asked, common);
    let mut inputs = job.open_checked(common.isa(), |model| {
        let (recipe, graph) = (job.stages.clone(), &model.graph);
        let known = Known { solver: None, method: default, graph, images: None, unlabelled: false };
        let draft = slq::jobs::stages(&asked, recipe, known)?;
        slq::jobs::check_network(graph, &draft)?;
        check_files(&job, (model, &draft), &flags.output.run, flags.input.recipe.as_slice(), common)
    })?;
    inputs.notes.iter().for_each(|note| common.note(format_args!("note: {note}")));
    let doubt = inputs.preprocessing.iter().filter_map(|p| p.doubt.as_ref());
    doubt.for_each(|text| common.note(format_args!("warning: {text}")));
    job.seed = common.given_seed.or(inputs.seed).unwrap_or(job.seed);
    let mut recipe = std::mem::take(&mut job.stages);
    if job.batch.is_some() && flags.training.batch.is_some() {
        // What an earlier job found fits gives way.
        slq::jobs::whole_batches(&mut recipe);
        job.batch = None;
    }
    let (solver, graph) = (inputs.training.clone(), &inputs.model.graph);
    let images = inputs.data.as_ref().map(|d| d.train.len());
    let unlabelled = inputs.data.as_ref().is_some_and(|d| d.following.is_some());
    job.stages =
        slq::jobs::stages(&asked, recipe, Known { solver, method: default, graph, images, unlabelled })?;
    if job.save.runtime.is_some() {
        let said = slq::jobs::suit_runtime(&mut job.stages, &asked);
        said.iter().for_each(|text| common.note(format_args!("note: {text}")));
    }
    job.reference |= flags.rounds.reference;
    let defaults = flags.input.recipe.is_none() && inputs.training.is_none() && !flags.quantize.published;
    if defaults && !flags.rounds.no_augmentation && job.recipe().trains() {
        let found = job.augment(&mut inputs, common.isa())?;
        found.iter().for_each(|f| common.note(format_args!("note: {}", f.note())));
    }
    check(&job, unlabelled)?;
    fit_job(flags.training.batch, &mut job, &inputs, common)?;
    if defaults && !asked.settings.contains_key("lr") {
        let found = job.suit_rate(&inputs, common.isa())?;
        found.iter().for_each(|f| common.note(format_args!("warning: {}", f.warning().message)));
    }
    let recipe = flags.input.recipe.as_slice();
    if flags.output.dry_run {
        let run_dir = job.recipe().keeps_checkpoints().then(|| place_of(&job, &flags.output.run));
        let (json, text) = plan::plan(&job, &inputs, recipe, run_dir.as_deref(), common)?;
        common.print(&json, text);
        return Ok(());
    }
    let place = Place::New(Keep::Always);
    let (done, report) = go(&mut job, &inputs, &flags.output.run, &place, recipe, common)?;
    common.print(&json!(report), summary(&done, &report, common.all));
    Ok(())
}

/// The job that the flags describe, on top of a recipe; its stages are still the recipe's.
fn described(flags: &Flags, common: &Common) -> Result<JobFile, Error> {
    let mut job = match &flags.input.recipe {
        Some(path) => JobFile::read(path)?,
        None => JobFile::default(),
    };
    let input = &flags.input;
    // Another model has its own weights or graph.
    if input.model.is_some() {
        (job.weights, job.graph) = (None, None);
        job.input_shapes.clear();
    }
    job.model = input.model.clone().or(job.model);
    job.weights = input.weights.clone().or(job.weights);
    job.graph = input.graph.clone().or(job.graph);
    if !input.input_shape.is_empty() {
        job.input_shapes.clone_from(&input.input_shape);
    }
    job.solver = input.solver.clone().or(job.solver);
    job.teacher = input.teacher.clone().or(job.teacher);
    if let (None, None, Some(recipe)) = (&job.model, &job.solver, &input.recipe) {
        return Err(Error::Argument(format!("'{}' names no model: give one", recipe.display())));
    }
    job.calibrate = input.calibrate.clone().or(job.calibrate);
    job.sensitivity = flags.budget.sensitivity.clone().or(job.sensitivity);
    job.data = flags.data.options().over(job.data);
    job.outputs = flags.output.output.clone();
    job.save = flags.output.format.over(job.save);
    job.save.overwrite = flags.output.run.overwrite;
    job.seed = common.given_seed.unwrap_or(job.seed);
    Ok(job)
}

/// The method where none is named: by what there is to work with.
fn default_method(job: &JobFile, asked: &Asked, common: &Common) -> MethodName {
    let data = job.data.path.is_some() || job.solver.is_some();
    let named = asked.method.is_some() || asked.preset.is_some();
    if job.calibrate.is_none() && !data && !named && job.stages.is_empty() {
        common.note(
            "note: without --data and --calibrate the method is kmeans; a few images, without labels, keep more accuracy \
             (--calibrate FOLDER)",
        );
    }
    asked.default_method(job.calibrate.is_some(), data)
}

/// Checks the flags that depend on the stages.
fn check(job: &JobFile, unlabelled: bool) -> Result<(), Error> {
    let stages = || job.stages.iter();
    let budget = |s: &slq::Stage| matches!(s, slq::Stage::Quantize(q) if q.budget.is_some());
    if job.sensitivity.is_some() && !stages().any(budget) {
        let text = "--sensitivity serves --target-size and --max-drop; give one of them";
        return Err(Error::Argument(text.into()));
    }
    if unlabelled && job.reference {
        let text = "--reference trains the float network on labels, and the data has none";
        return Err(Error::Argument(text.into()));
    }
    if job.solver.is_some() && stages().any(|s| matches!(s, slq::Stage::Decompose(_))) {
        let text = "a stage 'decompose' does not go with --solver, whose net keeps its layers";
        return Err(Error::Argument(text.into()));
    }
    if job.calibrate.is_some() && stages().any(|s| s.trains()) {
        let text = "--calibrate serves --method calibrate (and kmeans, to compare on); methods that train take --data";
        return Err(Error::Argument(text.into()));
    }
    if job.teacher.is_some() && !unlabelled && !job.recipe().distills() {
        return Err(Error::Argument("--teacher: give --distill, too; labels need no teacher".into()));
    }
    Ok(())
}

/// Ends the program where flags are given that a resumed job would ignore: its recipe has them.
pub(crate) fn refuse_flags_beside_resume(given: &clap::ArgMatches) -> Result<(), clap::Error> {
    const ALLOWED: &[&str] =
        &["resume", "json", "threads", "isa", "quiet", "all", "checkpoint_seconds", "report"];
    let by_hand = |id: &&str| given.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    if given.get_one::<PathBuf>("resume").is_none() {
        return Ok(());
    }
    // Groups of flags have the names of their types.
    let single = |id: &&str| id.starts_with(|c: char| c.is_ascii_lowercase()) && !ALLOWED.contains(id);
    if let Some(id) = given.ids().map(clap::Id::as_str).filter(single).find(by_hand) {
        let flag = id.replace('_', "-");
        let text =
            format!("--{flag} cannot stand beside --resume: a run goes on with the settings it began with");
        return Err(clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, format!("{text}\n")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    #[test]
    fn the_arguments_are_sound() {
        super::Args::augment_args(clap::Command::new("slq compress")).debug_assert();
    }
}
