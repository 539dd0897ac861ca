//! `slq convert`.

use std::path::PathBuf;

use serde_json::json;
use slq::SaveOptions;

use super::common::{Common, ModelArgs};
use super::table;

/// Convert a model (.onnx, .caffemodel, .safetensors) or a dataset (.npz).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq convert lenet.prototxt --weights lenet.caffemodel lenet.onnx
  slq convert fashion-mnist fashion.npz")]
pub(crate) struct Args {
    #[command(flatten)]
    input: ModelArgs,
    /// Output; the ending decides
    output: PathBuf,
    /// Keep float32 weights in an ONNX output
    #[arg(long)]
    dense: bool,
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    let saved = match args.output.extension().and_then(|e| e.to_str()) {
        Some("npz") => {
            let dataset = slq::Dataset::find(&args.input.model, &Default::default())?;
            slq::write_npz(&dataset, &args.output)?
        }
        Some("lmdb") => return Err(slq::Error::NotYet("writing LMDB datasets")),
        _ => {
            slq::check_output(&args.output)?;
            let model = args.input.open(common.seed())?;
            slq::save(&model.graph, &args.output, &SaveOptions { dense: args.dense, caffe: model.caffe })?
        }
    };
    let json = json!({ "outputs": [saved] });
    let text = format!("{}, {} bytes", saved.path.display(), table::thousands(saved.file_bytes));
    common.print(&json, text);
    Ok(())
}
