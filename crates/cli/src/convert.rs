//! `slq convert`.

use std::path::PathBuf;

use serde_json::json;
use slq::SaveOptions;

use crate::common::{Common, ModelArgs};
use crate::table;

/// Convert a model (.onnx, .slq, .caffemodel, .safetensors) or a dataset (.npz, .lmdb).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq convert lenet.prototxt --weights lenet.caffemodel lenet.onnx
  slq convert fashion-mnist fashion.npz
  slq convert images/ images.lmdb      (databases images.lmdb/train and images.lmdb/test for Caffe)")]
pub(crate) struct Args {
    #[command(flatten)]
    input: ModelArgs,
    /// Output; the ending decides
    output: PathBuf,
    /// Keep float32 weights in an ONNX output
    #[arg(long)]
    dense: bool,
    /// Describe the shapes of a caffemodel's blobs by four extents, as files before 2015 did
    #[arg(long)]
    legacy_blobs: bool,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let saved = match args.output.extension().and_then(|e| e.to_str()) {
        Some("npz") => {
            let dataset = slq::data::Dataset::find(&args.input.model, &Default::default())?;
            slq::files::write_npz(&dataset, &args.output)?
        }
        Some("lmdb") => {
            let dataset = slq::data::Dataset::find(&args.input.model, &Default::default())?;
            slq::files::write_lmdb(&dataset, &args.output, common.seed())?
        }
        _ => {
            slq::files::check_output(&args.output)?;
            let model = args.input.open(common.seed())?;
            let (dense, legacy_blobs) = (args.dense, args.legacy_blobs);
            model.save_with(&args.output, &SaveOptions { dense, legacy_blobs })?
        }
    };
    let json = json!({ "outputs": [saved] });
    let text = format!("{}, {} bytes", saved.path.display(), table::thousands(saved.file_bytes));
    common.print(&json, text);
    Ok(())
}
