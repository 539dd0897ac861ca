//! `slq eval`.

use std::path::PathBuf;
use std::time::Instant;

use clap::ValueEnum;
use serde_json::json;
use slq::inference::{evaluate_model, evaluate_on, predict, predict_on};

use crate::batch::BatchSize;
use crate::common::Common;
use crate::data::DataArgs;
use crate::packed::{PackedArgs, Tries};
use crate::solver::SolverModelArgs;
use crate::table::percent;

/// Accuracy and loss; never changes a weight.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq eval small.onnx --data mnist-10k
  slq eval train_val.prototxt --weights net.caffemodel
  slq eval --solver solver.prototxt --weights net.caffemodel")]
pub(crate) struct Args {
    #[command(flatten)]
    model: SolverModelArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    packed: PackedArgs,
    /// Which images
    #[arg(long, value_enum, default_value_t = Part::Test)]
    split: Part,
    /// Images at once, or auto: as many as fit into memory, up to 100 [default: 100]
    #[arg(long, value_name = "N|auto")]
    batch: Option<BatchSize>,
    /// Write each image's largest output as a NumPy array of int64
    #[arg(long, value_name = "NPY")]
    predictions: Option<PathBuf>,
}

/// Images at once.
const BATCH: usize = 100;

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum Part {
    Test,
    Train,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    if let Some(output) = &args.predictions {
        slq::files::check_paths(&[output], &args.model.job(&args.data, common.seed()).input_files())?;
    }
    let packed = match args.model.name() {
        Some(name) => args.packed.open(name, common)?,
        None => None,
    };
    let (graph, data) = match args.model.solver(&args.data, None, common)? {
        Some(job) => (job.model.for_use(), job.data),
        None => {
            let model = match &packed {
                // Where its file says how images are prepared, nothing needs the network as floats.
                Some(packed) if packed.about.transform.is_some() => packed.about.clone(),
                _ => args.model.open(&args.data, common.seed())?,
            };
            let data = match args.split {
                Part::Test => args.data.options().open_test(&model, common.isa())?,
                Part::Train => args.data.options().require(&model, common.isa())?,
            };
            (model.graph, common.prepared(data))
        }
    };
    let split = match args.split {
        Part::Test => &data.test,
        Part::Train => &data.train,
    };
    let began = Instant::now();
    let (transform, isa) = (&data.transform, common.isa());
    let name = args.model.name().unwrap_or_default();
    let mut tries = Tries::new(&args.packed, name, packed);
    let ((accuracy, mut packed), batch) = BatchSize::run(args.batch, BATCH, common, |batch| {
        let mut packed = tries.take()?.map(|p| p.network.executor(batch, isa)).transpose()?;
        let accuracy = match &mut packed {
            Some(executor) => evaluate_on(executor, split, transform)?,
            None => evaluate_model(&graph, split, transform, batch, isa)?,
        };
        Ok((accuracy, packed))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    if let Some(path) = &args.predictions {
        let predictions = match &mut packed {
            Some(executor) => predict_on(executor, split, transform)?,
            None => predict(&graph, split, transform, batch, isa)?,
        };
        slq::arrays::write_i64(path, &[predictions.len()], &predictions)?;
    }
    let json = json!({
        "top1": accuracy.top1, "top5": accuracy.top5, "loss": accuracy.loss,
        "images": accuracy.images, "seconds": seconds, "batch": batch,
    });
    let top5 = accuracy.top5.map(|t| format!(", top-5 {:.2} %", 100.0 * t)).unwrap_or_default();
    let text = format!(
        "top-1 {}{top5}, loss {:.4}, {} images, {seconds:.2} s",
        percent(&accuracy),
        accuracy.loss,
        accuracy.images
    );
    common.print(&json, text);
    Ok(())
}
