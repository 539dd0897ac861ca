//! `slq train`.

use std::path::PathBuf;

use serde_json::json;
use slq::methods::{Standing, TrainOptions, Trained, TrainingSettings};
use slq::solver::{Snapshots, SolverJob};
use slq::{Model, SaveOptions};

use crate::common::Common;
use crate::compress::length;
use crate::data::DataArgs;
use crate::progress::Progress;
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
    /// Output; may be given several times, the ending decides: .onnx, .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required_unless_present = "solver")]
    output: Vec<PathBuf>,
    /// Describe the shapes of a caffemodel's blobs by four extents, as files before 2015 did
    #[arg(long)]
    legacy_blobs: bool,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    args.output.iter().try_for_each(|o| slq::files::check_output(o))?;
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

/// Opens the network that `--teacher` names.
fn teacher(args: &Args, settings: &TrainingSettings) -> Result<Option<slq::graph::Graph>, slq::Error> {
    if args.teacher.is_some() && settings.distill.is_none() {
        return Err(slq::Error::Argument("--teacher: give --distill, too; labels need no teacher".into()));
    }
    args.teacher.as_deref().map(|name| Model::open(name).map(|model| model.graph)).transpose()
}

fn by_flags(args: &Args, common: &Common) -> crate::common::Outcome {
    let mut model = args.model.open(&args.data, common.seed())?;
    let data = common.prepared(args.data.options().require(&model, common.isa())?);
    let settings = settings(args, args.training.float()?)?;
    let teacher = teacher(args, &settings)?;
    let options = TrainOptions {
        seed: common.seed(),
        isa: common.isa(),
        teacher: teacher.as_ref(),
        ..Default::default()
    };
    let graph = std::mem::take(&mut model.graph);
    let trained = slq::methods::train(graph, &data, &settings, options, &mut Progress::new(common))?;
    model.transform = Some(data.transform);
    report(args, common, model, trained, &settings, &[])
}

fn by_solver(args: &Args, mut job: SolverJob, common: &Common) -> crate::common::Outcome {
    let solver = args.model.solver.clone().unwrap_or_default();
    let mut snapshots = Snapshots::of(&solver, &job, args.legacy_blobs)?;
    if args.output.is_empty() && !snapshots.as_ref().is_some_and(|s| s.at_end) {
        let reason = "nothing would be written at the end: name an output with -o, or set snapshot_prefix";
        return Err(slq::Error::Argument(format!("{}: {reason}", solver.display())));
    }
    let settings = settings(args, job.training.clone())?;
    let resume = args.snapshot.as_ref().map(|state| slq::solver::resume(&job, state)).transpose()?;
    let (every, at_end) = snapshots.as_ref().map_or((None, false), |s| (s.every, s.at_end));
    let network = std::mem::take(&mut job.model.graph);
    let mut write = |graph: &slq::graph::Graph, standing: &Standing| match &mut snapshots {
        Some(snapshots) => snapshots.write(&job, graph, standing).map_err(|e| Box::new(e) as _),
        None => Ok(()),
    };
    let teacher = teacher(args, &settings)?;
    let options = TrainOptions {
        seed: job.seed,
        isa: common.isa(),
        teacher: teacher.as_ref(),
        resume,
        snapshots: Some((every.unwrap_or(u64::MAX), &mut write)),
        snapshot_at_end: at_end,
    };
    let trained = slq::methods::train(network, &job.data, &settings, options, &mut Progress::new(common))?;
    let written = snapshots.as_ref().map(|s| s.written().to_vec()).unwrap_or_default();
    report(args, common, job.model, trained, &settings, &written)
}

/// Writes the trained network and prints the figures.
fn report(
    args: &Args,
    common: &Common,
    model: Model,
    trained: Trained,
    settings: &TrainingSettings,
    snapshots: &[PathBuf],
) -> crate::common::Outcome {
    let model = Model { graph: trained.graph, ..model };
    let options = SaveOptions { dense: true, legacy_blobs: args.legacy_blobs };
    let save = |o: &PathBuf| model.save_with(o, &options);
    let outputs = args.output.iter().map(save).collect::<Result<Vec<_>, _>>()?;
    let report = trained.report;
    let tests: Vec<_> = report
        .tests
        .iter()
        .map(|(iteration, a)| json!({ "iteration": iteration, "top1": a.top1, "top5": a.top5, "loss": a.loss }))
        .collect();
    let json = json!({
        "baseline": report.baseline, "final": report.final_accuracy, "iterations": report.iterations,
        "seconds": report.seconds, "settings": settings, "tests": tests, "snapshots": snapshots,
        "outputs": outputs,
    });
    let text = format!(
        "{} top-1 before, {} after {} steps of {} images in {:.1} s",
        percent(&report.baseline),
        percent(&report.final_accuracy),
        report.iterations,
        settings.images_per_step(),
        report.seconds,
    );
    common.print(&json, text);
    Ok(())
}
