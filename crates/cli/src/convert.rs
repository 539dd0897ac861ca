//! `slq convert`.

use std::borrow::Cow;
use std::path::PathBuf;

use serde_json::json;
use slq::files::Planned;
use slq::jobs::Output;
use slq::methods::Size;
use slq::{CalibrationInputs, Error, Model, SaveOptions, Saved};

use crate::common::{Common, ModelArgs};
use crate::data::DataArgs;
use crate::job::{FormatFlags, VerifyFlags, tell_unverified};
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
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    format: FormatFlags,
    /// Inputs to measure ranges on, for --int8: a folder or zip of images, .npy or .npz
    #[arg(long, value_name = "INPUTS", conflicts_with = "data", hide_short_help = true)]
    calibrate: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// Replace a Core ML package, or a prototxt beside a caffemodel, that slq did not write
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    verify: VerifyFlags,
}

/// The output, by its place or as other commands take it.
#[derive(clap::Args)]
struct OutputArgs {
    /// Output; the ending decides
    #[arg(value_name = "OUTPUT", required_unless_present = "output")]
    placed: Option<PathBuf>,
    /// The output as a flag, as other commands take it
    #[arg(short, long, value_name = "OUTPUT", conflicts_with = "placed")]
    output: Option<PathBuf>,
}

impl OutputArgs {
    fn path(&self) -> &PathBuf {
        self.placed.as_ref().or(self.output.as_ref()).expect("one of them is required")
    }
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let inputs = args.input.job(&DataArgs::default(), common.seed()).input_files();
    let (saved, json) = match args.output.path().extension().and_then(|e| e.to_str()) {
        Some("npz" | "lmdb") => {
            let saved = dataset(&args, &inputs, common)?;
            (saved.clone(), json!(saved))
        }
        _ => {
            let (saved, output) = model(&args, inputs, common)?;
            (saved, json!(output))
        }
    };
    let text = format!("{}, {} bytes", saved.path.display(), table::thousands(saved.file_bytes));
    common.print(&json!({ "outputs": [json] }), text);
    Ok(())
}

/// Writes a dataset.
fn dataset(args: &Args, inputs: &[PathBuf], common: &Common) -> Result<Saved, Error> {
    let output = args.output.path();
    if args.verify.asked().is_some() {
        let text = format!("--verify and --no-verify serve models, and '{}' is a dataset", output.display());
        return Err(Error::Argument(text));
    }
    let plain = SaveOptions::default();
    if args.format.over(plain) != plain || args.calibrate.is_some() || describes_inputs(args) {
        let text = format!(
            "--dense, --int8, --calibrate, --mean and their like serve models, and '{}' is a dataset",
            output.display()
        );
        return Err(Error::Argument(text));
    }
    let find = || slq::data::Dataset::find(&args.input.model, &Default::default());
    if output.extension().is_some_and(|e| e == "npz") {
        slq::files::check_paths(&[output], inputs)?;
        return slq::files::write_npz(&find()?, output);
    }
    slq::files::check_folder(output, inputs)?;
    slq::files::write_lmdb(&find()?, output, common.seed())
}

/// Whether a flag says what inputs are or how they are prepared.
fn describes_inputs(args: &Args) -> bool {
    args.data.options() != DataArgs::default().options()
}

/// The model with the ranges of its values, where integers are asked for.
fn measured<'m>(
    args: &Args,
    model: Cow<'m, Model>,
    options: &SaveOptions,
    common: &Common,
) -> Result<Cow<'m, Model>, Error> {
    let named = args.calibrate.is_some() || args.data.options().path.is_some();
    if options.activations == slq::files::Activations::Float {
        return match named || describes_inputs(args) {
            true => Err(Error::Argument(
                "--calibrate, --data and flags of preprocessing serve --int8 here: give it, too, or leave them out".into(),
            )),
            false => Ok(model),
        };
    }
    let real = named && args.calibrate.as_deref().is_none_or(|c| !c.starts_with("random:"));
    slq::files::check_int8(std::slice::from_ref(args.output.path()), real)?;
    let inputs = unlabelled(args, &model, common)?;
    common.note("measuring the ranges of the network's values on up to 256 inputs");
    Ok(Cow::Owned(model.measured(inputs, common.isa())?))
}

/// The inputs that ranges are measured on.
fn unlabelled(args: &Args, model: &Model, common: &Common) -> Result<CalibrationInputs, Error> {
    let (options, seed, isa) = (args.data.options(), common.seed(), common.isa());
    let inputs = match &args.calibrate {
        Some(text) => CalibrationInputs::open(text, model, &options, seed, isa)?,
        None => {
            let prepared = options.require(model, isa)?;
            CalibrationInputs::images(model, prepared.data.train, prepared.preprocessing, seed)?
        }
    };
    inputs.preprocessing.iter().filter_map(|p| p.note()).for_each(|n| common.note(format_args!("note: {n}")));
    Ok(inputs)
}

/// Writes a model, reads it again and compares it.
fn model(args: &Args, mut inputs: Vec<PathBuf>, common: &Common) -> Result<(Saved, Output), Error> {
    let (output, overwrite) = (std::slice::from_ref(args.output.path()), args.overwrite);
    slq::files::plan_models(output, &inputs, overwrite)?;
    let model = args.input.open(common.seed())?;
    inputs.extend(model.caffe_files());
    let plan = slq::files::plan_models(output, &inputs, overwrite)?;
    plan.iter().filter_map(Planned::note).for_each(|n| common.note(format_args!("note: {n}")));
    let options = args.format.over(SaveOptions { overwrite, ..SaveOptions::default() });
    let (model, rounding) = options.rounded(&model);
    rounding.iter().for_each(|n| common.note(format_args!("note: {n}")));
    let model = measured(args, model, &options, common)?;
    let planned = plan.first().ok_or_else(|| Error::UnknownOutput(args.output.path().clone()))?;
    let saved = model.save_planned(planned, &options)?;
    saved.notes.iter().for_each(|n| common.note(format_args!("note: {n}")));
    let dense = Size::of(&model.graph).dense_bytes;
    let checked = Output::checked(&model, (saved.clone(), dense), args.verify.asked(), common.isa())?;
    tell_unverified(std::slice::from_ref(&checked), common);
    Ok((saved, checked))
}
