//! `slq train`.

use std::path::PathBuf;

use serde_json::json;
use slq::files::Planned;
use slq::jobs::{FittedBatch, Output};
use slq::methods::{FineTuneReport, Size, StageReport, Standing, TrainOptions, TrainingSettings};
use slq::solver::{Snapshots, SolverJob};
use slq::{Done, FineTune, JobReport, Model, Recipe, SaveOptions, Stage};

use crate::batch::{fit_job, fit_training};
use crate::common::Common;
use crate::compress::length;
use crate::data::DataArgs;
use crate::job::{Keep, Place, RunArgs, check_files, go, tell_unverified};
use crate::progress::Progress;
use crate::signals;
use crate::solver::SolverModelArgs;
use crate::table::percent;
use crate::training::TrainingArgs;

/// Train a network from scratch (zoo:NAME) or fine-tune one, at full precision.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq train zoo:lenet --data mnist-10k --epochs 10 --lr 0.01 -o lenet.onnx
  slq train --solver lenet_solver.prototxt -o lenet.caffemodel
  slq train --solver lenet_solver.prototxt --snapshot lenet_iter_5000.solverstate")]
pub(crate) struct Args {
    #[command(flatten)]
    model: SolverModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Passes over the training images
    #[arg(long, value_name = "N", conflicts_with = "iterations", required_unless_present_any = ["iterations", "solver"])]
    epochs: Option<f64>,
    /// Steps of one batch each
    #[arg(long, value_name = "N")]
    iterations: Option<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    /// Network whose outputs --distill trains towards [default: the network before the training]
    #[arg(long, value_name = "MODEL")]
    teacher: Option<String>,
    /// Go on from a solver state, with the caffemodel that it names or --weights
    #[arg(long, value_name = "SOLVERSTATE", requires = "solver")]
    snapshot: Option<PathBuf>,
    /// Output; may be given several times, the ending decides: .onnx, .tflite, .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required_unless_present = "solver")]
    output: Vec<PathBuf>,
    /// Describe the shapes of a caffemodel's blobs by four extents, as files before 2015 did
    #[arg(long)]
    legacy_blobs: bool,
    #[command(flatten)]
    run: RunArgs,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    common.check_outputs(&args.output)?;
    let learned = match &args.snapshot {
        Some(state) if args.model.weights.is_none() => {
            let named = slq::caffe::learned_net(state)?;
            named.map(|name| slq::caffe::resolve(&name, state)).transpose()?
        }
        _ => None,
    };
    match args.model.solver(&args.data, learned.as_deref(), common)? {
        Some(job) => by_solver(&args, job, common),
        None => by_flags(&args, common),
    }
}

/// `base` with the flags on top.
fn settings(args: &Args, base: TrainingSettings) -> Result<TrainingSettings, slq::Error> {
    let settings = args.training.settings(base)?;
    let length = length(args.epochs, args.iterations).unwrap_or(settings.length);
    Ok(TrainingSettings { length, ..settings })
}

fn check_teacher(args: &Args, settings: &TrainingSettings) -> Result<(), slq::Error> {
    if args.teacher.is_some() && settings.distill.is_none() {
        return Err(slq::Error::Argument("--teacher: give --distill, too; labels need no teacher".into()));
    }
    Ok(())
}

fn by_flags(args: &Args, common: &Common) -> crate::common::Outcome {
    let mut job = args.model.job(&args.data, common.seed());
    (job.teacher, job.outputs) = (args.teacher.clone(), args.output.clone());
    job.save = SaveOptions {
        dense: true,
        legacy_blobs: args.legacy_blobs,
        overwrite: args.run.overwrite,
        ..SaveOptions::default()
    };
    let settings = settings(args, args.training.float()?)?;
    check_teacher(args, &settings)?;
    let stages = [Stage::FineTune(FineTune { training: settings.clone() })];
    let inputs =
        job.open_checked(common.isa(), |model| check_files(&job, (model, &stages), &args.run, &[], common))?;
    inputs.notes.iter().for_each(|note| common.note(format_args!("note: {note}")));
    if inputs.data.is_none() {
        // Says how to name a dataset.
        args.data.options().require(&inputs.model, common.isa())?;
    }
    job.stages = vec![Stage::FineTune(FineTune { training: settings })];
    fit_job(args.training.batch, &mut job, &inputs, common)?;
    let (done, report) = go(&mut job, &inputs, &args.run, &Place::New(Keep::UntilDone), &[], common)?;
    if let Some(Stage::FineTune(stage)) = job.stages.first() {
        print(&stage.training, &done, &report, common);
    }
    Ok(())
}

/// Prints the figures of a training that was a job.
pub(crate) fn print(settings: &TrainingSettings, done: &Done, report: &JobReport, common: &Common) {
    let Some(StageReport::FineTune(figures)) = done.stages.first() else { return };
    tell((settings, report.batch), figures, &report.outputs, &[], common);
}

fn by_solver(args: &Args, mut job: SolverJob, common: &Common) -> crate::common::Outcome {
    if common.processes.reducer.size() > 1 {
        let text = "train --solver runs on one process; on several, train takes the same settings as flags";
        return Err(slq::Error::Argument(text.into()));
    }
    let solver = args.model.solver.clone().unwrap_or_default();
    let mut snapshots = Snapshots::of(&solver, &job, args.legacy_blobs)?;
    if args.output.is_empty() && !snapshots.as_ref().is_some_and(|s| s.at_end) {
        let reason = "nothing would be written at the end: name an output with -o, or set snapshot_prefix";
        return Err(slq::Error::Argument(format!("{}: {reason}", solver.display())));
    }
    let mut settings = settings(args, job.training.clone())?;
    let batch = fit_training(args.training.batch, &job, &mut settings, common)?;
    check_teacher(args, &settings)?;
    let stage = FineTune { training: settings.clone() };
    let idle = Recipe::new(stage).idle_sync(&job.model.graph, 1);
    idle.iter().for_each(|text| common.note(format_args!("note: {text}")));
    let plan = plan(args, &job)?;
    plan.iter().filter_map(Planned::note).for_each(|n| common.note(format_args!("note: {n}")));
    let resume = args.snapshot.as_ref().map(|state| slq::solver::resume(&job, state)).transpose()?;
    let (every, at_end) = snapshots.as_ref().map_or((None, false), |s| (s.every, s.at_end));
    let how = match snapshots {
        Some(_) => "go on with the same command and --snapshot, naming the last .solverstate",
        None => "nothing was kept: the solver file has no snapshot_prefix",
    };
    signals::listen(Some(how.into()))?;
    let network = std::mem::take(&mut job.model.graph);
    let mut write = |graph: &slq::graph::Graph, standing: &Standing| match &mut snapshots {
        Some(snapshots) => snapshots.write(&job, graph, standing).map_err(|e| Box::new(e) as _),
        None => Ok(()),
    };
    let teacher = args.teacher.as_deref().map(|name| Model::open(name).map(|m| m.graph)).transpose()?;
    let options = TrainOptions {
        seed: job.seed,
        isa: common.isa(),
        teacher: teacher.as_ref(),
        resume,
        snapshots: Some((every.unwrap_or(u64::MAX), &mut write)),
        snapshot_at_end: at_end,
        reducer: None,
    };
    let trained = slq::methods::train(network, &job.data, &settings, options, &mut Progress::new(common));
    signals::busy(false);
    let written = snapshots.as_ref().map(|s| s.written().to_vec()).unwrap_or_default();
    let trained = trained.map_err(slq::Error::from).inspect_err(|e| match written.last() {
        Some(state) => {
            let how = format!("go on with the same command and --snapshot {}", state.display());
            signals::end_if_stopped(e, Some(&how));
        }
        None => signals::end_if_stopped(e, Some(how)),
    })?;
    let model = Model { graph: trained.graph, ..job.model };
    let options = SaveOptions {
        dense: true,
        legacy_blobs: args.legacy_blobs,
        overwrite: args.run.overwrite,
        ..SaveOptions::default()
    };
    let dense = Size::of(&model.graph).dense_bytes;
    let save = |p: &Planned| {
        let saved = model.save_planned(p, &options)?;
        Output::checked(&model, (saved, dense), args.run.verify.asked(), common.isa())
    };
    let outputs = plan.iter().map(save).collect::<Result<Vec<_>, slq::Error>>()?;
    tell_unverified(&outputs, common);
    tell((&settings, batch), &trained.report, &outputs, &written, common);
    Ok(())
}

/// The outputs beside the snapshots; none may replace one of Caffe's files.
fn plan(args: &Args, job: &SolverJob) -> Result<Vec<Planned>, slq::Error> {
    let mut inputs = args.model.job(&args.data, 0).input_files();
    inputs.extend(job.model.caffe_files());
    inputs.extend([&args.snapshot, &args.teacher.as_ref().map(PathBuf::from)].into_iter().flatten().cloned());
    slq::files::plan_models(&args.output, &inputs, args.run.overwrite)
}

/// Prints the figures.
fn tell(
    (settings, batch): (&TrainingSettings, Option<FittedBatch>),
    report: &FineTuneReport,
    outputs: &[Output],
    snapshots: &[PathBuf],
    common: &Common,
) {
    let tests: Vec<_> = report
        .tests
        .iter()
        .map(|(iteration, a)| json!({ "iteration": iteration, "top1": a.top1, "top5": a.top5, "loss": a.loss }))
        .collect();
    let mut json = json!({
        "baseline": report.baseline, "final": report.final_accuracy, "iterations": report.iterations,
        "seconds": report.seconds, "settings": settings, "tests": tests, "snapshots": snapshots,
        "outputs": outputs,
    });
    if let Some(batch) = batch {
        json["batch"] = json!(batch);
    }
    let text = format!(
        "{} top-1 before, {} after {} steps of {} images in {:.1} s",
        percent(&report.baseline),
        percent(&report.final_accuracy),
        report.iterations,
        settings.images_per_step(),
        report.seconds,
    );
    common.print(&json, text);
}
