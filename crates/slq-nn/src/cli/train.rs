//! `slq train`.

use std::path::PathBuf;

use serde_json::json;
use slq::{Duration, LearningRate, SaveOptions, TrainingSettings};

use super::common::{Common, ModelArgs};
use super::data::DataArgs;
use super::progress::{Progress, percent};
use super::training::TrainingArgs;

/// Train a network from scratch (zoo:NAME) or fine-tune one, at full precision.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  slq train zoo:lenet --data mnist-10k --epochs 10 --lr 0.01 -o lenet.onnx"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
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
    /// Caffe's solver.prototxt (not available in this version)
    #[arg(long, value_name = "FILE")]
    solver: Option<PathBuf>,
    /// Output; may be given several times, the ending decides: .onnx, .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required = true)]
    output: Vec<PathBuf>,
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    if args.solver.is_some() {
        return Err(slq::Error::NotYet("--solver (Caffe's solver.prototxt)"));
    }
    args.output.iter().try_for_each(|o| slq::check_output(o))?;
    let mut model = args.model.open(common.seed())?;
    let data = args.data.require(&model)?;
    let duration = match (args.epochs, args.iterations) {
        (Some(epochs), _) => Duration::Epochs(epochs),
        (None, iterations) => Duration::Iterations(iterations.unwrap_or_default()),
    };
    let base = TrainingSettings {
        learning_rate: 0.01,
        lr_policy: LearningRate::Cosine { max: 0 },
        ..Default::default()
    };
    let settings = TrainingSettings { duration, ..args.training.settings(base) };
    let mut progress = Progress::new(common);
    let trained = slq::train(model.graph, &data, &settings, common.seed(), common.isa(), &mut progress)?;
    model.graph = trained.graph;
    slq::preprocessing::store(&mut model.graph, &data.transform);
    let options = SaveOptions { dense: true, caffe: model.caffe };
    let outputs =
        args.output.iter().map(|o| slq::save(&model.graph, o, &options)).collect::<Result<Vec<_>, _>>()?;
    let json = json!({
        "baseline": trained.baseline, "final": trained.accuracy, "iterations": trained.iterations,
        "seconds": trained.seconds, "settings": settings,
        "outputs": outputs,
    });
    let text = format!(
        "{} top-1 before, {} after {} steps of {} images in {:.1} s",
        percent(&trained.baseline),
        percent(&trained.accuracy),
        trained.iterations,
        settings.batch,
        trained.seconds,
    );
    common.print(&json, text);
    Ok(())
}
