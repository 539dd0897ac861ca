//! `slq demo`.

use std::path::PathBuf;

use slq::{Duration, RunOptions, SaveOptions, Settings};

use super::common::Common;
use super::compress::{report_json, summary};
use super::progress::Progress;

/// The main job on the built-in sample of MNIST: a pretrained LeNet in, a 5-bit network out.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq demo")]
pub(crate) struct Args {
    /// Where the compressed network goes
    #[arg(short, long, value_name = "OUT", default_value = "lenet-5bit.onnx")]
    output: Vec<PathBuf>,
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    args.output.iter().try_for_each(|o| slq::check_output(o))?;
    let sample = slq::sample()?;
    common.note("LeNet, trained on 8000 images of MNIST; 5 bits (17 values), five rounds of 2 epochs");
    let mut settings = Settings { seed: common.seed(), ..Settings::default() };
    settings.training.duration = Duration::Epochs(2.0);
    let options = RunOptions { isa: common.isa(), ..RunOptions::default() };
    let mut progress = Progress::new(common);
    let mut outcome = slq::compress(sample.graph, Some(&sample.data), &settings, options, &mut progress)?;
    slq::preprocessing::store(&mut outcome.graph, &sample.data.transform);
    let saved = args
        .output
        .iter()
        .map(|o| slq::save(&outcome.graph, o, &SaveOptions::default()))
        .collect::<Result<Vec<_>, _>>()?;
    common.print(&report_json(&outcome.report, &saved, None), summary(&outcome, &saved));
    Ok(())
}
