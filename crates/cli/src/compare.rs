//! `slq compare`.

use std::path::Path;

use serde_json::{Value, json};
use slq::methods::{CompressError, Damage, Origin, SmallBatches, compare_outputs};
use slq::{CalibrationInputs, Error, Model};

use crate::batch::BatchSize;
use crate::common::{Common, ModelArgs};
use crate::data::DataArgs;
use crate::table::{table, thousands};

/// Compare the outputs and weights of two networks.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq compare net.onnx small.onnx --calibrate images/
  slq compare net.onnx small.onnx --data images.zip --json
  slq compare net.onnx small.onnx")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// The network to compare with it
    other: String,
    /// Weights of the other, if it is a Caffe network
    #[arg(long, value_name = "CAFFEMODEL", hide_short_help = true)]
    other_weights: Option<std::path::PathBuf>,
    /// Inputs without labels: a folder or zip of images, .npy, .npz or random:N [default: random:64]
    #[arg(long, value_name = "INPUTS", conflicts_with = "data")]
    calibrate: Option<String>,
    /// Inputs at once, 1 to 16, or auto: as many as fit into memory [default: 16]
    #[arg(long, value_name = "N|auto", hide_short_help = true)]
    batch: Option<BatchSize>,
    #[command(flatten)]
    data: DataArgs,
}

/// Inputs at once.
const BATCH: usize = 16;

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    if let Some(BatchSize::Images(batch)) = args.batch.filter(|b| !matches!(b, BatchSize::Images(1..=BATCH)))
    {
        return Err(Error::Argument(format!("--batch {batch}: give 1 to {BATCH}, or auto")));
    }
    let a = args.model.open(common.seed())?;
    let other = ModelArgs {
        model: args.other.clone(),
        weights: args.other_weights.clone(),
        graph: args.model.graph.clone(),
        input_shape: args.model.input_shape.clone(),
    };
    let b = other.open(common.seed())?;
    if a.graph.nodes.is_empty() || b.graph.nodes.is_empty() {
        let text = "weights without a network have no outputs: give the network with --graph model.onnx";
        return Err(Error::Argument(text.into()));
    }
    let inputs = inputs(&args, &a, common)?;
    let (damage, batch) = BatchSize::run(args.batch, BATCH, common, |batch| {
        let parts = SmallBatches::new(&inputs, batch).map_err(CompressError::from)?;
        Ok(compare_outputs(&a.graph, &b.graph, &parts, common.isa())?)
    })?;
    let bytes = [file_bytes(&args.model.model), file_bytes(&args.other)];
    let layers = layers(&a, &b);
    let json = json!({
        "max_abs": damage.max_abs, "relative": damage.relative, "snr_db": damage.snr_db,
        "agreement": damage.agreement, "kl": damage.kl, "images": damage.images, "inputs": damage.inputs,
        "outputs": damage.outputs, "bytes": bytes, "layers": layers, "batch": batch,
    });
    common.print(&json, text(&damage, bytes, &layers));
    Ok(())
}

/// What the networks are compared on: the test images of a dataset, named inputs, or random ones.
fn inputs(args: &Args, model: &Model, common: &Common) -> Result<CalibrationInputs, Error> {
    let (options, seed, isa) = (args.data.options(), common.seed(), common.isa());
    let inputs = match (&args.calibrate, &options.path) {
        (Some(text), _) => CalibrationInputs::open(text, model, &options, seed, isa)?,
        (None, Some(_)) => {
            let prepared = options.require(model, isa)?;
            CalibrationInputs::images(model, prepared.data.test, prepared.preprocessing, seed)?
        }
        (None, None) => {
            common.note("note: compared on random inputs; --data and --calibrate name real ones");
            CalibrationInputs::random(&model.graph, 64, seed)?
        }
    };
    let notes = inputs.preprocessing.iter().filter_map(|p| p.note());
    notes.for_each(|note| common.note(format_args!("note: {note}")));
    Ok(inputs)
}

fn file_bytes(path: &str) -> Option<u64> {
    std::fs::metadata(Path::new(path)).ok().map(|m| m.len())
}

/// Weights that both networks have under one name, with the same shape, in the first one's order.
fn layers(a: &Model, b: &Model) -> Vec<Value> {
    let mut rows = Vec::new();
    for (name, weight) in &a.graph.weights {
        let Some(other) = b.graph.weights.get(name).filter(|o| o.tensor.shape() == weight.tensor.shape())
        else {
            continue;
        };
        let (Some(x), Some(y)) = (weight.tensor.as_f32(), other.tensor.as_f32()) else { continue };
        if weight.tensor.shape().len() < 2 {
            continue;
        }
        let pairs = || x.iter().zip(y).map(|(&p, &q)| (f64::from(p), f64::from(q)));
        let noise: f64 = pairs().map(|(p, q)| (p - q).powi(2)).sum();
        let signal: f64 = pairs().map(|(p, _)| p * p).sum();
        let largest = pairs().map(|(p, q)| (p - q).abs()).fold(0.0, f64::max);
        let bits = other.palette.as_ref().filter(|p| p.is_fully_fixed()).map_or(32, |p| p.bits());
        rows.push(json!({
            "name": name, "count": x.len(), "bits": bits, "max_abs": largest,
            "relative": (noise / signal.max(f64::MIN_POSITIVE)).sqrt(),
            "snr_db": (noise > 0.0).then(|| 10.0 * (signal / noise).log10()),
        }));
    }
    rows
}

fn text(damage: &Damage, bytes: [Option<u64>; 2], layers: &[Value]) -> String {
    let db = |v: &Value| v.as_f64().map_or("equal".into(), |v| format!("{v:.1} dB"));
    let rows: Vec<Vec<String>> = layers
        .iter()
        .map(|l| {
            let name = l["name"].as_str().unwrap_or_default().to_owned();
            vec![
                name,
                thousands(l["count"].as_u64().unwrap_or(0)),
                l["bits"].to_string(),
                format!("{:.2e}", l["max_abs"].as_f64().unwrap_or(0.0)),
                db(&l["snr_db"]),
            ]
        })
        .collect();
    let mut text = String::new();
    if !rows.is_empty() {
        let header = ["weight", "count", "bits", "largest difference", "signal to noise"];
        text += &format!("{}\n\n", table(&header, 1, rows));
    }
    let inputs = if damage.inputs == Origin::Random { "random inputs" } else { "inputs" };
    if let (Some(share), Some(kl)) = (damage.agreement, damage.kl) {
        text += &format!(
            "classes   the same for {:.2} % of {} {inputs}, mean KL divergence {kl:.4}\n",
            100.0 * share,
            damage.images
        );
    }
    text += &format!(
        "outputs   signal to noise {}, largest difference {:.3e}, relative error {:.3e} ({} {inputs})\n",
        damage.snr_db.map_or("unlimited (equal)".into(), |v| format!("{v:.1} dB")),
        damage.max_abs,
        damage.relative,
        damage.images
    );
    let size = |b: Option<u64>| b.map_or("built in".into(), |b| format!("{} bytes", thousands(b)));
    text += &format!("files     {} and {}", size(bytes[0]), size(bytes[1]));
    text
}
