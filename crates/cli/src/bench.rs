//! `slq bench`.

use serde_json::{Value, json};
use slq::PackedModel;
use slq::inference::{measure_forward, measure_speed};

use crate::common::{Common, ModelArgs};
use crate::packed::PackedArgs;

/// Images a second, forward and training step, on random data in memory.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq bench zoo:lenet --batch 64
  slq bench small.slq --batch 1 --only-packed")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    packed: PackedArgs,
    /// Of a .slq file: measure the packed network alone, without its float twin
    #[arg(long)]
    only_packed: bool,
    /// Images in a batch
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let packed = args.packed.open(&args.model.model, common)?;
    if args.only_packed && packed.is_none() {
        let reason = format!("--only-packed is for .slq files, '{}' is none", args.model.model);
        return Err(slq::Error::Argument(reason));
    }
    let mut json =
        json!({ "forward": null, "train": null, "peak_bytes": null, "packed": null, "batch": args.batch });
    let mut text = Vec::new();
    if let Some(packed) = packed {
        let (value, line) = measure_packed(packed, &args, common)?;
        json["packed"] = value;
        text.push(line);
    }
    if !args.only_packed {
        let model = args.model.open(common.seed())?;
        let speed = measure_speed(&model.graph, args.batch, args.seconds, common.isa())?;
        json["forward"] = json!({ "images_per_second": speed.forward });
        json["train"] = json!({ "images_per_second": speed.train });
        json["peak_bytes"] = speed.peak_bytes.into();
        text.push(format!(
            "forward {:.1} images/s, training step {:.1} images/s, peak {:.1} MB",
            speed.forward,
            speed.train,
            speed.peak_bytes as f64 / 1e6
        ));
    }
    common.print(&json, text.join("\n"));
    Ok(())
}

/// Most memory that this process has had so far (`VmHWM`); `None` where the system does not say.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Speed and memory of a packed network.
fn measure_packed(packed: PackedModel, args: &Args, common: &Common) -> Result<(Value, String), slq::Error> {
    let report = packed.network.report().clone();
    let mut executor = packed.network.executor(args.batch, common.isa())?;
    let speed = measure_forward(&mut executor, args.seconds)?;
    let planned = slq::engine::Executor::peak_bytes(&executor);
    let json = json!({
        "images_per_second": speed,
        "packed_bytes": report.packed_bytes(),
        "expanded_bytes": report.expanded_bytes(),
        "planned_bytes": planned,
        "peak_resident_bytes": peak_resident(),
    });
    let text = format!(
        "packed {speed:.1} images/s, {:.1} MB planned: {:.1} MB of codes in {} weights, {:.1} MB of floats in {}",
        planned as f64 / 1e6,
        report.packed_bytes() as f64 / 1e6,
        report.packed.len(),
        report.expanded_bytes() as f64 / 1e6,
        report.expanded.len(),
    );
    Ok((json, text))
}
