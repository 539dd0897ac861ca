//! `slq demo`.

use std::path::PathBuf;

use serde_json::{Value, json};
use slq::files::Planned;
use slq::jobs::Output;
use slq::{Dataset, Done, JobReport, Length, Model, Quantize, Recipe};

use crate::common::Common;
use crate::compress::summary;
use crate::job::{VerifyFlags, tell_unverified};
use crate::progress::Progress;

/// The main job on the built-in sample of MNIST: a pretrained LeNet in, a 4-bit network (SLQ) and a ternary one (MLQ) out.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq demo")]
pub(crate) struct Args {
    /// Where the 4-bit network goes
    #[arg(short, long, value_name = "OUT", default_value = "lenet-4bit.onnx")]
    output: Vec<PathBuf>,
    /// Where the ternary network goes
    #[arg(long, value_name = "OUT", default_value = "lenet-ternary.onnx")]
    ternary: PathBuf,
    #[command(flatten)]
    verify: VerifyFlags,
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let ternary = std::slice::from_ref(&args.ternary);
    let all: Vec<PathBuf> = args.output.iter().chain(ternary).cloned().collect();
    let plan = slq::files::plan_models(&all, &[], false)?;
    plan.iter().filter_map(Planned::note).for_each(|n| common.note(format_args!("note: {n}")));
    let sample = slq::sample()?;
    common.note("LeNet, trained on 8000 images of MNIST; 4 bits (16 values), five rounds of 2 epochs");
    let (four_bits, text) = compress(&sample, Quantize::slq(4), (&args.output, args.verify), common)?;

    common.note("\nthe same LeNet to ternary weights, layer after layer, eight steps of 2 epochs");
    let (ternary, ternary_text) = compress(&sample, Quantize::ternary(), (ternary, args.verify), common)?;
    let mut json = json!(four_bits);
    json["ternary"] = ternary;
    common.print(&json, format!("{text}\n\n{ternary_text}"));
    Ok(())
}

/// Runs one job and writes its outputs: the report as JSON and as text.
fn compress(
    (model, data): &(Model, Dataset),
    stage: Quantize,
    (outputs, verify): (&[PathBuf], VerifyFlags),
    common: &Common,
) -> Result<(Value, String), slq::Error> {
    let recipe = Recipe::new(stage.training(|t| t.length = Length::Epochs(2.0))).seed(common.seed());
    let mut progress = Progress::new(common);
    let job = slq::Job::new(recipe).data(data).isa(common.isa()).observe(&mut progress);
    let done: Done = job.run(model)?;
    let dense = done.report.size.dense_bytes;
    let save = |path| {
        let saved = done.model.save(path)?;
        Output::checked(&done.model, (saved, dense), verify.asked(), common.isa())
    };
    let outputs = outputs.iter().map(save).collect::<Result<Vec<_>, slq::Error>>()?;
    tell_unverified(&outputs, common);
    let report = JobReport {
        report: done.report.clone(),
        outputs,
        preprocessing: None,
        folded_batch_norms: Vec::new(),
        batch: None,
        run_dir: None,
    };
    Ok((json!(report), summary(&done, &report, true)))
}
