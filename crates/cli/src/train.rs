//! `slq train`.

use std::path::PathBuf;

use serde_json::json;
use slq::caffe::{Snapshots, SolverJob};
use slq::{Duration, LearningRate, SaveOptions, TrainOptions, Trained, TrainingData, TrainingSettings};

use super::common::Common;
use super::data::DataArgs;
use super::job::teacher;
use super::progress::{Progress, percent};
use super::solver::SolverModelArgs;
use super::training::TrainingArgs;

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
    /// Network whose outputs --distill trains towards [default: the one that is trained, as it came]
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

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    args.output.iter().try_for_each(|o| slq::check_output(o))?;
    let learned = match &args.snapshot {
        Some(state) if args.model.weights.is_none() => {
            let named = slq::caffe::learned_net(state)?;
            named.map(|name| slq::caffe::resolve(&name, state)).transpose()?
        }
        _ => None,
    };
    match args.model.job(&args.data, learned.as_deref(), common)? {
        Some(job) => by_solver(&args, job, common),
        None => by_flags(&args, common),
    }
}

fn duration(args: &Args, default: Duration) -> Duration {
    match (args.epochs, args.iterations) {
        (Some(epochs), _) => Duration::Epochs(epochs),
        (None, Some(iterations)) => Duration::Iterations(iterations),
        (None, None) => default,
    }
}

fn by_flags(args: &Args, common: &Common) -> super::Outcome {
    let model = args.model.open(&args.data, common.seed())?;
    let data = args.data.require(&model)?;
    let base = TrainingSettings {
        learning_rate: 0.01,
        lr_policy: LearningRate::Cosine { max: 0 },
        ..Default::default()
    };
    let settings = args.training.settings(base);
    let settings = TrainingSettings { duration: duration(args, settings.duration), ..settings };
    let mut progress = Progress::new(common);
    let teacher = teacher(args.teacher.as_deref(), settings.distill)?;
    let options = TrainOptions {
        seed: common.seed(),
        isa: common.isa(),
        teacher: teacher.as_ref(),
        ..Default::default()
    };
    let trained = slq::train_with(model.graph, &data, &settings, options, &mut progress)?;
    report(args, common, trained, &data, &settings, &[], |graph| (graph, model.caffe))
}

fn by_solver(args: &Args, mut job: SolverJob, common: &Common) -> super::Outcome {
    let solver = args.model.solver.clone().unwrap_or_default();
    let mut snapshots = Snapshots::of(&solver, &job, args.legacy_blobs)?;
    if args.output.is_empty() && !snapshots.as_ref().is_some_and(|s| s.at_end) {
        let reason = "nothing would be written at the end: name an output with -o, or set snapshot_prefix";
        return Err(slq::Error::Argument(format!("{}: {reason}", solver.display())));
    }
    let settings = args.training.settings(job.training.clone());
    let settings = TrainingSettings { duration: duration(args, settings.duration), ..settings };
    let resume = args.snapshot.as_ref().map(|state| slq::caffe::resume(&job, state)).transpose()?;
    let mut progress = Progress::new(common);
    let (every, at_end) = snapshots.as_ref().map_or((None, false), |s| (s.every, s.at_end));
    let network = job.take_graph();
    let mut write = |graph: &slq::Graph, standing: &slq::Standing| match &mut snapshots {
        Some(snapshots) => snapshots.write(&job, graph, standing).map_err(|e| Box::new(e) as _),
        None => Ok(()),
    };
    let teacher = teacher(args.teacher.as_deref(), settings.distill)?;
    let options = TrainOptions {
        seed: job.seed,
        isa: common.isa(),
        teacher: teacher.as_ref(),
        resume,
        snapshots: Some((every.unwrap_or(u64::MAX), &mut write)),
        snapshot_at_end: at_end,
    };
    let trained = slq::train_with(network, &job.data, &settings, options, &mut progress)?;
    let written = snapshots.as_ref().map(|s| s.written().to_vec()).unwrap_or_default();
    report(args, common, trained, &job.data, &settings, &written, |graph| {
        let (graph, source) = job.finished(graph);
        (graph, Some(source))
    })
}

fn report(
    args: &Args,
    common: &Common,
    trained: Trained,
    data: &TrainingData,
    settings: &TrainingSettings,
    snapshots: &[PathBuf],
    finish: impl FnOnce(slq::Graph) -> (slq::Graph, Option<slq::CaffeSource>),
) -> super::Outcome {
    let (mut graph, caffe) = finish(trained.graph);
    slq::preprocessing::store(&mut graph, &data.transform);
    let options = SaveOptions { dense: true, caffe, legacy_blobs: args.legacy_blobs };
    let outputs =
        args.output.iter().map(|o| slq::save(&graph, o, &options)).collect::<Result<Vec<_>, _>>()?;
    let tests: Vec<_> = trained
        .tests
        .iter()
        .map(|(iteration, a)| json!({ "iteration": iteration, "top1": a.top1, "top5": a.top5, "loss": a.loss }))
        .collect();
    let json = json!({
        "baseline": trained.baseline, "final": trained.accuracy, "iterations": trained.iterations,
        "seconds": trained.seconds, "settings": settings, "tests": tests, "snapshots": snapshots,
        "outputs": outputs,
    });
    let text = format!(
        "{} top-1 before, {} after {} steps of {} images in {:.1} s",
        percent(&trained.baseline),
        percent(&trained.accuracy),
        trained.iterations,
        settings.batch * settings.iter_size,
        trained.seconds,
    );
    common.print(&json, text);
    Ok(())
}
