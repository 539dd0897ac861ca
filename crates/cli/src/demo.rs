//! `slq demo`.

use std::path::{Path, PathBuf};

use slq::{Duration, LayerOrder, MethodName, Outcome, RunOptions, Sample, SaveOptions, Saved, Settings};

use super::common::Common;
use super::compress::{report_json, summary};
use super::progress::Progress;

/// The main job on the built-in sample of MNIST: a pretrained LeNet in, a 5-bit network (SLQ) and a ternary one (MLQ) out.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  slq demo")]
pub(crate) struct Args {
    /// Where the 5-bit network goes
    #[arg(short, long, value_name = "OUT", default_value = "lenet-5bit.onnx")]
    output: Vec<PathBuf>,
    /// Where the ternary network goes
    #[arg(long, value_name = "OUT", default_value = "lenet-ternary.onnx")]
    ternary: PathBuf,
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    let ternary = std::slice::from_ref(&args.ternary);
    args.output.iter().chain(ternary).try_for_each(|o| slq::check_output(o))?;
    let sample = slq::sample()?;
    common.note("LeNet, trained on 8000 images of MNIST; 5 bits (17 values), five rounds of 2 epochs");
    let (five_bits, saved) = compress(&sample, slq_settings(), &args.output, common)?;
    let mut text = summary(&five_bits, &saved);
    let mut json = report_json(&five_bits.report, &saved, None);

    common.note("\nthe same LeNet to ternary weights, layer after layer, eight steps of 2 epochs");
    let (ternary, saved) = compress(&sample, mlq_settings(), ternary, common)?;
    json["ternary"] = report_json(&ternary.report, &saved, None);
    text += &format!("\n\n{}", summary(&ternary, &saved));
    common.print(&json, text);
    Ok(())
}

fn slq_settings() -> Settings {
    let mut settings = Settings::default();
    settings.training.duration = Duration::Epochs(2.0);
    settings
}

/// Ternary: the small layers first, at a rate that lets the large ones make up for them.
fn mlq_settings() -> Settings {
    let mut settings = Settings { method: MethodName::Mlq, bits: 2, ..slq_settings() };
    settings.mlq.rank_by = LayerOrder::Size;
    settings.training.learning_rate = 0.01;
    settings
}

fn compress(
    sample: &Sample,
    settings: Settings,
    outputs: &[impl AsRef<Path>],
    common: &Common,
) -> Result<(Outcome, Vec<Saved>), slq::Error> {
    let settings = Settings { seed: common.seed(), ..settings };
    let options = RunOptions { isa: common.isa(), ..RunOptions::default() };
    let (graph, data) = (sample.graph.clone(), Some(&sample.data));
    let mut outcome = slq::compress(graph, data, &settings, options, &mut Progress::new(common))?;
    slq::preprocessing::store(&mut outcome.graph, &sample.data.transform);
    let save = |o: &_| slq::save(&outcome.graph, AsRef::<Path>::as_ref(o), &SaveOptions::default());
    let saved = outputs.iter().map(save).collect::<Result<Vec<_>, _>>()?;
    Ok((outcome, saved))
}
