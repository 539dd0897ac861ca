//! `slq sensitivity`: what quantizing each layer and cluster costs.

use std::path::PathBuf;

use serde_json::json;
use slq::methods::{Estimate, LayerRule, MethodName, Sensitivity, SensitivityOptions, sensitivity};
use slq::{Granularity, Quantize};

use crate::batch::BatchSize;
use crate::common::{Common, ModelArgs};
use crate::compress::named;
use crate::data::DataArgs;
use crate::progress::Progress;
use crate::table::{self, thousands};

/// Show how much the loss rises when a layer, or one cluster of it, is quantized.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  slq sensitivity lenet.onnx --data mnist-10k --bits 3 -o lenet-sensitivity.json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// Bits of a code, as in compress [default: 4]
    #[arg(long, value_name = "B")]
    bits: Option<u8>,
    /// Number of values K, where it does not follow from the bits
    #[arg(long, value_name = "K")]
    codebook_size: Option<usize>,
    /// Method whose number of values for the bits is used [default: slq]
    #[arg(long, value_parser = named::<MethodName>)]
    method: Option<MethodName>,
    /// Weights that share a codebook: tensor, channel or group:N [default: tensor]
    #[arg(long)]
    granularity: Option<Granularity>,
    /// Bits of single layers: GLOB=BITS or GLOB=skip
    #[arg(long, value_name = "GLOB=BITS")]
    layers: Vec<LayerRule>,
    /// Training images to measure on [default: 1000]
    #[arg(long, value_name = "N", alias = "calibration")]
    partition_images: Option<usize>,
    /// A test ends when its standard error is below this share of the rise; 0 uses all images
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    tolerance: f64,
    /// Images at once, or auto: as many as fit into memory, up to the default; moves the standard errors [default: 64]
    #[arg(long, value_name = "N|auto")]
    batch: Option<BatchSize>,
    /// Whole layers only
    #[arg(long)]
    layers_only: bool,
    /// Write the table as JSON, for compress --sensitivity
    #[arg(short, long, value_name = "OUT.json")]
    output: Option<PathBuf>,
}

/// The largest batch, as in trainings.
const MOST: usize = 1 << 16;

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let base = Quantize::new(args.method.unwrap_or_default().with_defaults(), args.bits.unwrap_or(4));
    let settings = Quantize {
        codebook_size: args.codebook_size,
        granularity: args.granularity.unwrap_or(base.granularity),
        layers: args.layers,
        partition_images: args.partition_images.unwrap_or(base.partition_images),
        ..base
    };
    if !(args.tolerance >= 0.0 && args.tolerance.is_finite()) {
        return Err(slq::Error::Argument(format!("--tolerance {}: give 0 or more", args.tolerance)));
    }
    if let Some(output) = &args.output {
        slq::files::check_no_model(output, "a table", ".json")?;
        slq::files::check_paths(&[output], &args.model.job(&args.data, common.seed()).input_files())?;
    }
    let model = args.model.open(common.seed())?;
    let data = common.prepared(args.data.options().require(&model, common.isa())?);
    let reducer = common.processes.reducer;
    let (clusters, tolerance, isa) = (!args.layers_only, args.tolerance, common.isa());
    let most = settings.method.batch();
    let (found, batch) = BatchSize::run(args.batch, most, common, |batch| {
        if !(1..=MOST).contains(&batch) {
            return Err(slq::Error::Argument(format!("--batch {batch}: give 1 to {MOST}, or auto")));
        }
        let options = SensitivityOptions { clusters, tolerance, batch: Some(batch), isa, reducer };
        let mut progress = Progress::new(common);
        Ok(sensitivity(&model.graph, &data, &settings, common.seed(), options, &mut progress)?)
    })?;
    if let Some(path) = args.output.iter().find(|_| reducer.rank() == 0) {
        let fail = |e: &dyn std::fmt::Display| slq::Error::File { path: path.clone(), reason: e.to_string() };
        let text = serde_json::to_vec_pretty(&found).map_err(|e| fail(&e))?;
        slq::files::write_atomically(path, &text).map_err(|e| fail(&e))?;
    }
    let mut json = json!(found);
    json["batch"] = batch.into();
    common.print(&json, text(&found));
    Ok(())
}

fn text(found: &Sensitivity) -> String {
    let bar = |e: &Estimate| match e.error.is_finite() {
        true => format!("{:+.5} ± {:.5}", e.mean, e.error),
        false => format!("{:+.5}", e.mean),
    };
    let header = ["layer", "cluster", "weights", "rise of the loss", "to second order", "images"];
    let rows = found.layers.iter().flat_map(|layer| {
        let whole = vec![
            layer.weight.clone(),
            "all".into(),
            thousands(layer.count as u64),
            bar(&layer.rise),
            bar(&layer.taylor),
            String::new(),
        ];
        let clusters = layer.clusters.iter().map(|c| {
            vec![
                String::new(),
                format!("{:+.4}", c.centroid),
                thousands(c.count as u64),
                bar(&c.rise),
                bar(&c.taylor),
                c.images.to_string(),
            ]
        });
        std::iter::once(whole).chain(clusters)
    });
    format!(
        "{}\n\nloss {:.4} on {} training images held out",
        table::table(&header, 1, rows),
        found.loss,
        found.images
    )
}
