//! `slq convert`.

use std::path::PathBuf;

use serde_json::json;
use slq::SaveOptions;
use slq::files::Planned;

use crate::common::{Common, ModelArgs};
use crate::data::DataArgs;
use crate::job::FormatFlags;
use crate::table;

/// Convert a model (.onnx, .slq, .tflite, .mlpackage, .caffemodel, .safetensors) or a dataset (.npz, .lmdb).
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq convert lenet.prototxt --weights lenet.caffemodel lenet.onnx
  slq convert small.onnx small.tflite
  slq convert fashion-mnist fashion.npz
  slq convert images/ images.lmdb      (databases images.lmdb/train and images.lmdb/test for Caffe)")]
pub(crate) struct Args {
    #[command(flatten)]
    input: ModelArgs,
    /// Output; the ending decides
    output: PathBuf,
    #[command(flatten)]
    format: FormatFlags,
    /// Replace a Core ML package, or a prototxt beside a caffemodel, that slq did not write
    #[arg(long)]
    overwrite: bool,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let inputs = args.input.job(&DataArgs::default(), common.seed()).input_files();
    let saved = match args.output.extension().and_then(|e| e.to_str()) {
        Some("npz") => {
            slq::files::check_paths(&[&args.output], &inputs)?;
            let dataset = slq::data::Dataset::find(&args.input.model, &Default::default())?;
            slq::files::write_npz(&dataset, &args.output)?
        }
        Some("lmdb") => {
            slq::files::check_folder(&args.output, &inputs)?;
            let dataset = slq::data::Dataset::find(&args.input.model, &Default::default())?;
            slq::files::write_lmdb(&dataset, &args.output, common.seed())?
        }
        _ => {
            slq::files::plan_models(std::slice::from_ref(&args.output), &inputs, args.overwrite)?;
            let model = args.input.open(common.seed())?;
            let overwrite = args.overwrite;
            let mut all = inputs;
            all.extend(model.caffe_files());
            let plan = slq::files::plan_models(std::slice::from_ref(&args.output), &all, overwrite)?;
            plan.iter().filter_map(Planned::note).for_each(|n| common.note(format_args!("note: {n}")));
            let options = args.format.over(SaveOptions { overwrite, ..SaveOptions::default() });
            let saved =
                plan.iter().map(|p| model.save_planned(p, &options)).collect::<Result<Vec<_>, _>>()?;
            saved.into_iter().next().ok_or_else(|| slq::Error::UnknownOutput(args.output.clone()))?
        }
    };
    saved.notes.iter().for_each(|n| common.note(format_args!("note: {n}")));
    let json = json!({ "outputs": [saved] });
    let text = format!("{}, {} bytes", saved.path.display(), table::thousands(saved.file_bytes));
    common.print(&json, text);
    Ok(())
}
