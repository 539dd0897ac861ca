//! `slq bench`.

use serde_json::json;

use crate::common::{Common, ModelArgs};

/// Images a second, forward and training step, on random data in memory.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq bench zoo:lenet --batch 64")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Images in a batch
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seconds for each of the two measurements
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let model = args.model.open(common.seed())?;
    let speed = slq::inference::measure_speed(&model.graph, args.batch, args.seconds, common.isa())?;
    let json = json!({
        "forward": { "images_per_second": speed.forward },
        "train": { "images_per_second": speed.train },
        "peak_bytes": speed.peak_bytes,
        "packed": null,
        "batch": args.batch,
    });
    let text = format!(
        "forward {:.1} images/s, training step {:.1} images/s, peak {:.1} MB",
        speed.forward,
        speed.train,
        speed.peak_bytes as f64 / 1e6
    );
    common.print(&json, text);
    Ok(())
}
