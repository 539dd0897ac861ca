//! `slq decompose`: layers into thin ones of low rank.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;
use slq::inference::measure_speed;
use slq::jobs::{Output, check_network};
use slq::methods::{
    DecomposeReport, RankChoice, RankRule, RankRuleFor, Scheme, TrainingSettings, TrpSettings,
};
use slq::{Decompose, Done, JobReport, Length, SaveOptions, Stage};

use crate::batch::fit_job;
use crate::common::{Common, ModelArgs};
use crate::compress::length;
use crate::data::DataArgs;
use crate::job::{Keep, Place, RunArgs, check_files, go};
use crate::table::{self, percent};
use crate::training::TrainingArgs;

/// Split layers into thin ones of low rank, so that the network computes less.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq decompose net.onnx --scheme spatial --macs 2.5 -o thin.onnx
  slq decompose net.onnx --scheme channel,svd --energy 0.9 --data DATASET --fine-tune-epochs 2 -o thin.onnx
  slq decompose net.onnx --scheme spatial --macs 2.5 --target-size 3x -o thin.onnx
  slq decompose net.onnx --scheme spatial --macs 2.84 --data DATASET --trp --epochs 4 --lr 0.01 -o thin.onnx")]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    data: DataArgs,
    /// How layers are split: channel, spatial or decouple for convolutions, svd for fully connected layers; one of
    /// the former and svd may stand together
    #[arg(long, value_enum, value_delimiter = ',', required = true)]
    scheme: Vec<SchemeName>,
    #[command(flatten)]
    ranks: RankArgs,
    /// Ranks of single layers: GLOB=RANK, GLOB=skip, or GLOB=auto to split layers that are left whole by default (first
    /// convolution, 1x1); may be given several times, the last match counts
    #[arg(long, value_name = "GLOB=RANK")]
    layers: Vec<RankRuleFor>,
    /// Split also where that costs more than it saves
    #[arg(long)]
    force: bool,
    /// Trained rank pruning: train with weights truncated to low rank every few steps, then split
    #[arg(long, requires = "data")]
    trp: bool,
    /// Steps from one truncation to the next [default: 1]
    #[arg(long, value_name = "M", requires = "trp")]
    trp_period: Option<u64>,
    /// Share of a weight's energy that a truncation keeps [default: 0.9]
    #[arg(long, value_name = "E", requires = "trp", allow_negative_numbers = true)]
    train_energy: Option<f64>,
    /// Weight of the nuclear norm in the loss [default: 0.0003]
    #[arg(long, value_name = "L", requires = "trp", allow_negative_numbers = true)]
    nuclear_weight: Option<f64>,
    /// Share of the training after which the ranks stay, with --macs, --target-size, --rank or --rate [default: 0.5]
    #[arg(long, value_name = "SHARE", requires = "trp", allow_negative_numbers = true)]
    trp_freeze: Option<f64>,
    /// Passes over the training images with --trp [default: 1]
    #[arg(long, value_name = "N", requires = "trp", conflicts_with = "iterations")]
    epochs: Option<f64>,
    /// Steps of one batch each with --trp
    #[arg(long, value_name = "N", requires = "trp")]
    iterations: Option<u64>,
    /// Passes over the training images after the split [default: 0]
    #[arg(long, value_name = "N", requires = "data")]
    fine_tune_epochs: Option<f64>,
    /// Base learning rate after the split [default: that of --lr]
    #[arg(long, value_name = "X", requires = "fine_tune_epochs", allow_negative_numbers = true)]
    fine_tune_lr: Option<f64>,
    #[command(flatten)]
    training: TrainingArgs,
    /// Also measure how fast the network runs before and after
    #[arg(long)]
    speed: bool,
    /// Output; may be given several times, the ending decides: .onnx, .tflite, .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required = true)]
    output: Vec<PathBuf>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq)]
enum SchemeName {
    /// kh x kw convolution to r channels, then 1 x 1
    Channel,
    /// kh x 1 convolution to r channels, then 1 x kw
    Spatial,
    /// Sum of r pairs of a pointwise and a depthwise convolution
    Decouple,
    /// Fully connected layers in two
    Svd,
}

impl From<SchemeName> for Scheme {
    fn from(name: SchemeName) -> Self {
        match name {
            SchemeName::Channel => Self::Channel,
            SchemeName::Spatial => Self::Spatial,
            SchemeName::Decouple => Self::Decouple,
            SchemeName::Svd => Self::Svd,
        }
    }
}

/// One of these, or the last two together; with --trp a threshold of 0.05 by default (decouple: energy 0.85).
#[derive(clap::Args)]
struct RankArgs {
    /// Ranks that keep this share of the energy (sum of squared singular values)
    #[arg(long, value_name = "E", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["threshold", "rank", "rate", "macs", "target_size"])]
    energy: Option<f64>,
    /// Ranks that keep the singular values of at least T
    #[arg(long, value_name = "T", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["rank", "rate", "macs", "target_size"])]
    threshold: Option<f64>,
    /// This rank for every layer (at most its full rank)
    #[arg(long, value_name = "R", conflicts_with_all = ["rate", "macs", "target_size"])]
    rank: Option<usize>,
    /// This share of the full rank for every layer
    #[arg(long, value_name = "SHARE", allow_negative_numbers = true)]
    #[arg(conflicts_with_all = ["macs", "target_size"])]
    rate: Option<f64>,
    /// Ranks shared over the layers so that the multiply-accumulates (MACs) fall by this factor; with --target-size both
    /// hold
    #[arg(long, value_name = "RATIO", visible_alias = "flops", allow_negative_numbers = true)]
    macs: Option<f64>,
    /// Ranks shared over the layers so that the parameters take this size: 50000, 50KB, 2x
    #[arg(long, value_name = "SIZE")]
    target_size: Option<slq::Budget>,
}

impl RankArgs {
    fn choice(&self, dense_bytes: u64) -> Option<RankChoice> {
        let rule = |r: RankRule| Some(RankChoice::Rule(r));
        match self {
            Self { energy: Some(v), .. } => rule(RankRule::Energy(*v)),
            Self { threshold: Some(v), .. } => rule(RankRule::Threshold(*v)),
            Self { rank: Some(v), .. } => rule(RankRule::Rank(*v)),
            Self { rate: Some(v), .. } => rule(RankRule::Rate(*v)),
            Self { macs: Some(macs), target_size: Some(size), .. } => {
                size.bytes(dense_bytes).map(|target_size| RankChoice::Both { macs: *macs, target_size })
            }
            Self { macs: Some(v), .. } => Some(RankChoice::Macs(*v)),
            Self { target_size: Some(v), .. } => v.bytes(dense_bytes).map(RankChoice::TargetSize),
            _ => None,
        }
    }
}

impl Args {
    fn settings(&self, dense_bytes: u64) -> Result<Decompose, slq::Error> {
        let mut convolutions = self.scheme.iter().filter(|s| **s != SchemeName::Svd);
        let scheme = convolutions.next().copied();
        if convolutions.any(|s| Some(*s) != scheme) {
            return Err(slq::Error::Argument("--scheme: give one of channel, spatial and decouple".into()));
        }
        let published = match scheme {
            Some(SchemeName::Decouple) => RankRule::Energy(0.85),
            _ => RankRule::Threshold(0.05),
        };
        let ranks = match self.ranks.choice(dense_bytes) {
            Some(ranks) => ranks,
            None if self.trp => RankChoice::Rule(published),
            None => {
                let flags = "--energy, --threshold, --rank, --rate, --macs or --target-size";
                return Err(slq::Error::Argument(format!("no ranks: give one of {flags}")));
            }
        };
        let training = self.training.float()?;
        let fine_tune = self.fine_tune_epochs.filter(|&n| n != 0.0).map(|epochs| TrainingSettings {
            length: Length::Epochs(epochs),
            learning_rate: self.fine_tune_lr.unwrap_or(training.learning_rate),
            ..training.clone()
        });
        Ok(Decompose {
            convolutions: scheme.map(Scheme::from),
            fully_connected: self.scheme.contains(&SchemeName::Svd),
            ranks,
            layers: self.layers.clone(),
            force: self.force,
            batch: training.batch,
            trp: self.trp.then(|| self.trp_settings(training)),
            fine_tune,
        })
    }

    fn trp_settings(&self, training: TrainingSettings) -> TrpSettings {
        let default = TrpSettings::default();
        TrpSettings {
            period: self.trp_period.unwrap_or(default.period),
            energy: self.train_energy.unwrap_or(default.energy),
            nuclear_weight: self.nuclear_weight.unwrap_or(default.nuclear_weight),
            freeze_after: self.trp_freeze.unwrap_or(default.freeze_after),
            training: TrainingSettings {
                length: length(self.epochs, self.iterations).unwrap_or(Length::Epochs(1.0)),
                ..training
            },
        }
    }
}

pub(crate) fn run(args: Args, common: &Common) -> crate::common::Outcome {
    let mut job = args.model.job(&args.data, common.seed());
    job.outputs.clone_from(&args.output);
    common.check_outputs(&job.outputs)?;
    job.save = SaveOptions { dense: true, overwrite: args.run.overwrite, ..SaveOptions::default() };
    let mut stages = Vec::new();
    let inputs = job.open_checked(common.isa(), |model| {
        let graph = &model.graph;
        if graph.nodes.is_empty() {
            return Err(slq::Error::NeedsGraph(args.model.model.clone().into()));
        }
        stages.push(Stage::Decompose(args.settings(4 * graph.parameter_count() as u64)?));
        check_network(graph, &stages)?;
        check_files(&job, (model, &stages), &args.run, &[], common)
    })?;
    let model = &inputs.model;
    inputs.notes.iter().for_each(|note| common.note(format_args!("note: {note}")));
    job.stages = stages;
    fit_job(args.training.batch, &mut job, &inputs, common)?;
    let batch = job.stages.first().map_or(1, |s| if let Stage::Decompose(d) = s { d.batch } else { 1 });
    let (done, written) = go(&mut job, &inputs, &args.run, &Place::New(Keep::UntilDone), &[], common)?;
    let left_whole = done.report.decompose.iter().flat_map(|r| &r.left_whole);
    for layer in left_whole.filter(|l| l.warning) {
        common.note(format!("warning: layer '{}' is left whole: {}", layer.name, layer.reason));
    }
    let (mut json, mut text) = report(&done, &written);
    if args.speed {
        let rate = |graph| measure_speed(graph, batch, 2.0, common.isa()).map(|s| s.forward);
        let (before, after) = (rate(&model.graph)?, rate(&done.model.graph)?);
        let ratio = after / before;
        json["speed"] = json!({ "before": before, "after": after, "ratio": ratio });
        text += &format!("\nforward   {before:.0} images/s before, {after:.0} after ({ratio:.2}x as fast)");
    }
    common.print(&json, text);
    Ok(())
}

/// The figures of a decomposition as JSON and as text.
pub(crate) fn report(done: &Done, written: &JobReport) -> (serde_json::Value, String) {
    let Some(report) = &done.report.decompose else { return Default::default() };
    let mut json = serde_json::to_value(report).unwrap_or_default();
    json["outputs"] = json!(written.outputs);
    if let Some(batch) = written.batch {
        json["batch"] = json!(batch);
    }
    (json, summary(report, &written.outputs))
}

/// The final table: layers, layers left whole with the reason, accuracy, MACs, parameters, files.
fn summary(report: &DecomposeReport, outputs: &[Output]) -> String {
    let header =
        ["layer", "scheme", "rank", "of", "error", "MACs before", "after", "parameters before", "after"];
    let rows = report.layers.iter().map(|l| {
        vec![
            l.name.clone(),
            l.scheme.text().into(),
            l.rank.to_string(),
            l.of.to_string(),
            format!("{:.2} %", 100.0 * l.error),
            table::thousands(l.flops.before),
            table::thousands(l.flops.after),
            table::thousands(l.parameters.before),
            table::thousands(l.parameters.after),
        ]
    });
    let mut text = format!("{}\n\n", table::table(&header, 2, rows));
    if report.layers.is_empty() {
        text += "no layer was split: the network is unchanged\n";
    }
    for layer in &report.left_whole {
        text += &format!("whole     {}: {}\n", layer.name, layer.reason);
    }
    if let Some(trp) = &report.trp {
        text += &format!(
            "training  {} steps at low rank in {:.1} s, {} truncations take {:.1} % of it; {} before the split\n",
            trp.iterations,
            trp.seconds,
            trp.truncations,
            100.0 * trp.svd_share,
            percent(&trp.trained)
        );
    }
    if let Some(tuned) = &report.fine_tune {
        let before = percent(&tuned.before);
        text += &format!("split     {before}, then {} steps in {:.1} s\n", tuned.iterations, tuned.seconds);
    }
    if let (Some(before), Some(after)) = (&report.baseline, &report.final_accuracy) {
        let points = 100.0 * (after.top1 - before.top1);
        text += &format!(
            "top-1     {} before, {} after ({points:+.2} points)\n",
            percent(before),
            percent(after)
        );
    }
    text += &format!(
        "operations {} MACs before, {} after ({:.2}x fewer)\n",
        table::thousands(report.flops.before),
        table::thousands(report.flops.after),
        report.flops.ratio
    );
    text += &format!(
        "parameters {} before, {} after\n",
        table::thousands(report.parameters.before),
        table::thousands(report.parameters.after)
    );
    for s in outputs {
        text += &format!("written   {}, {} bytes\n", s.path.display(), table::thousands(s.file_bytes));
    }
    text.trim_end().into()
}
