//! `slq inspect`.

use serde_json::json;

use crate::common::{Common, ModelArgs};
use crate::table;

/// Show the layers of a network: shapes, distinct values, bits, zeros, bytes.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq inspect small.onnx")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let model = args.model.open(common.seed())?;
    let summary = slq::graph::stats::summary(&model.graph);
    let total = &summary.total;
    let capability = slq::inference::Capability::of(&model.graph, common.isa());
    let json = json!({
        "capability": capability,
        "layers": summary.layers,
        "notes": model.notes(),
        "parameters": summary.parameters,
        "total": {
            "dense_bytes": total.dense_bytes, "stored_bytes": total.stored_bytes, "entropy_bytes": total.entropy_bytes,
        },
    });
    let text = format!(
        "{}\n\n{} parameters: {} bytes dense, {} stored, {} at the entropy of the codes\n{}",
        table::layers(&summary.layers, common.all),
        table::thousands(summary.parameters as u64),
        table::thousands(total.dense_bytes),
        table::thousands(total.stored_bytes),
        table::thousands(total.entropy_bytes),
        capability.line(),
    );
    model.notes().iter().for_each(|note| common.note(format_args!("note: {note}")));
    common.print(&json, text);
    Ok(())
}
