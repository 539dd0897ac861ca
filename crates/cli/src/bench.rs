//! `slq bench`.

use serde_json::{Value, json};
use slq::inference::{measure_forward, measure_speed};
use slq::{Model, PackedModel};

use crate::batch::BatchSize;
use crate::common::{Common, ModelArgs};
use crate::number::positive;
use crate::packed::{PackedArgs, Tries};

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
    /// Images in a batch, or auto: as many as fit into memory, up to 64 [default: 64]
    #[arg(long, value_name = "N|auto")]
    batch: Option<BatchSize>,
    /// Seconds for each measurement
    #[arg(long, default_value_t = 3.0, value_parser = positive)]
    seconds: f64,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let packed = args.packed.open(&args.model.model, common)?;
    if args.only_packed && packed.is_none() {
        let reason = format!("--only-packed is for .slq files, '{}' is none", args.model.model);
        return Err(slq::Error::Argument(reason));
    }
    let model = match args.only_packed {
        true => None,
        false => Some(args.model.open(common.seed())?),
    };
    let mut tries = Tries::new(&args.packed, &args.model.model, packed);
    let ((mut json, text), batch) = BatchSize::run(args.batch, BATCH, common, |batch| {
        measure(tries.take()?, model.as_ref(), (batch, args.seconds), common)
    })?;
    json["batch"] = batch.into();
    common.print(&json, text.join("\n"));
    Ok(())
}

/// Images in a batch.
const BATCH: usize = 64;

/// Measures what there is; as JSON and as lines of text.
fn measure(
    packed: Option<PackedModel>,
    model: Option<&Model>,
    (batch, seconds): (usize, f64),
    common: &Common,
) -> Result<(Value, Vec<String>), slq::Error> {
    let mut json = json!({ "forward": null, "train": null, "peak_bytes": null, "packed": null });
    let mut text = Vec::new();
    if let Some(packed) = packed {
        let (value, line) = measure_packed(packed, (batch, seconds), common)?;
        json["packed"] = value;
        text.push(line);
    }
    if let Some(model) = model {
        let speed = measure_speed(&model.graph, batch, seconds, common.isa())?;
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
    Ok((json, text))
}

/// Most memory that this process has had so far (`VmHWM`); `None` where the system does not say.
fn peak_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Speed and memory of a packed network.
fn measure_packed(
    packed: PackedModel,
    (batch, seconds): (usize, f64),
    common: &Common,
) -> Result<(Value, String), slq::Error> {
    let report = packed.network.report().clone();
    let mut executor = packed.network.executor(batch, common.isa())?;
    let speed = measure_forward(&mut executor, seconds)?;
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
