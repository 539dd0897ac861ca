//! `slq compress`: the main job.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;
use slq::{
    Duration, Granularity, Initialisation, LayerRule, MethodName, PartitionRule, PartitionScope, Report,
    RunOptions, SaveOptions, Saved, Settings,
};

use super::common::{Common, ModelArgs, free_path};
use super::data::DataArgs;
use super::progress::{Progress, percent};
use super::table;
use super::training::TrainingArgs;

const COMMAND: &str = "command.json";

/// Share the weights of a trained network, round by round, and re-train what is still free.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  slq compress lenet.onnx --data mnist-10k --bits 5 -o small.onnx
  slq compress net.onnx --method kmeans --bits 8 -o small.onnx
  slq compress --resume slq-runs/lenet")]
pub(crate) struct Args {
    #[command(flatten)]
    job: Job,
    /// Go on with a run that was stopped; needs no other argument
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "output"])]
    resume: Option<PathBuf>,
}

/// Everything that describes a compression; kept in the run directory.
#[derive(clap::Args, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// x.onnx, x.prototxt (with --weights), x.safetensors (with --graph), or zoo:NAME
    #[arg(required_unless_present = "resume")]
    model: Option<String>,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX")]
    graph: Option<PathBuf>,
    #[command(flatten)]
    data: DataArgs,
    /// Bits of a weight: K = 2^(B-1)+1 values for slq, 2^B for kmeans [default: 5]
    #[arg(long, value_name = "B")]
    bits: Option<u8>,
    /// Number of values K, where it is not to follow from the bits
    #[arg(long, value_name = "K")]
    codebook_size: Option<usize>,
    /// The method
    #[arg(long, value_enum, default_value_t = Method::Slq)]
    method: Method,
    /// Which values a codebook may hold
    #[arg(long, value_enum, default_value_t = CodebookKind::Free)]
    codebook: CodebookKind,
    /// Order in which clusters are fixed [default: magnitude, which measures best]
    #[arg(long, value_enum)]
    partition: Option<Partition>,
    /// Compare clusters within each layer or across the network (loss and taylor)
    #[arg(long, value_enum)]
    partition_scope: Option<Scope>,
    /// Where the first centroids come from [default: published]
    #[arg(long, value_enum)]
    init: Option<Init>,
    /// Lloyd iterations at the start of a round [default: 10]
    #[arg(long, value_name = "N")]
    lloyd_iterations: Option<usize>,
    /// Do not fix a free weight because a fixed centroid is the nearest
    #[arg(long)]
    no_join: bool,
    /// Cumulative numbers of fixed clusters: 5,9,13,15,17
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    schedule: Option<Vec<usize>>,
    /// Weights that share a codebook: tensor, channel or group:N [default: tensor]
    #[arg(long)]
    granularity: Option<Granularity>,
    /// Bits of single layers: GLOB=BITS or GLOB=skip; may be given several times, the last match counts
    #[arg(long, value_name = "GLOB=BITS")]
    layers: Vec<LayerRule>,
    /// Training images set aside to measure partitions on [default: 1000]
    #[arg(long, value_name = "N")]
    calibration: Option<usize>,
    /// Passes over the training images in each round [default: 1]
    #[arg(long, value_name = "N", conflicts_with = "iterations_per_round")]
    epochs_per_round: Option<f64>,
    /// Steps of one batch each in each round
    #[arg(long, value_name = "N")]
    iterations_per_round: Option<u64>,
    #[command(flatten)]
    training: TrainingArgs,
    /// Most accurate network that fits (not available in this version)
    #[arg(long, value_name = "SIZE")]
    target_size: Option<String>,
    /// Smallest network that loses at most so much (not available in this version)
    #[arg(long, value_name = "POINTS")]
    max_drop: Option<f64>,
    /// Caffe's solver.prototxt (not available in this version)
    #[arg(long, value_name = "FILE")]
    solver: Option<PathBuf>,
    /// Settings from a file (not available in this version)
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Where checkpoints go [default: slq-runs/NAME]
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Output; may be given several times, the ending decides: .onnx (palettized), .caffemodel, .safetensors
    #[arg(short, long, value_name = "OUT", required_unless_present = "resume")]
    output: Vec<PathBuf>,
    /// Keep float32 weights in ONNX outputs
    #[arg(long)]
    dense: bool,
    /// The seed of the run (kept for --resume)
    #[arg(skip)]
    seed: u64,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Method {
    Slq,
    Mlq,
    Inq,
    DeepCompression,
    Kmeans,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum CodebookKind {
    Free,
    Pow2,
    Uniform,
}

#[derive(ValueEnum, Clone, Copy, Serialize, Deserialize)]
enum Partition {
    Loss,
    Taylor,
    Magnitude,
    Reversed,
}

#[derive(ValueEnum, Clone, Copy, Serialize, Deserialize)]
enum Scope {
    Layer,
    Network,
}

#[derive(ValueEnum, Clone, Copy, Serialize, Deserialize)]
enum Init {
    Published,
    KmeansPlusPlus,
    Exact,
}

impl Job {
    /// What the flags ask for, or a clear word on what this version lacks.
    fn settings(&self) -> Result<Settings, slq::Error> {
        let lacking = [
            (self.target_size.is_some(), "--target-size"),
            (self.max_drop.is_some(), "--max-drop"),
            (self.solver.is_some(), "--solver (Caffe's solver.prototxt)"),
            (self.recipe.is_some(), "--recipe"),
            (self.method == Method::Mlq, "--method mlq"),
            (self.method == Method::Inq, "--method inq"),
            (self.method == Method::DeepCompression, "--method deep-compression"),
            (self.codebook == CodebookKind::Pow2, "--codebook pow2"),
            (self.codebook == CodebookKind::Uniform, "--codebook uniform"),
        ];
        if let Some((_, what)) = lacking.iter().find(|(asked, _)| *asked) {
            return Err(slq::Error::NotYet(what));
        }
        let base = Settings::default();
        let duration = match (self.epochs_per_round, self.iterations_per_round) {
            (Some(epochs), _) => Duration::Epochs(epochs),
            (None, Some(iterations)) => Duration::Iterations(iterations),
            (None, None) => base.training.duration,
        };
        let mut training = self.training.settings(base.training);
        training.duration = duration;
        let settings = Settings {
            method: if self.method == Method::Kmeans { MethodName::Kmeans } else { MethodName::Slq },
            bits: self.bits.unwrap_or(base.bits),
            codebook_size: self.codebook_size,
            partition: self.partition.map_or(base.partition, |p| match p {
                Partition::Loss => PartitionRule::Loss,
                Partition::Taylor => PartitionRule::Taylor,
                Partition::Magnitude => PartitionRule::Magnitude,
                Partition::Reversed => PartitionRule::Reversed,
            }),
            partition_scope: self.partition_scope.map_or(base.partition_scope, |s| match s {
                Scope::Layer => PartitionScope::Layer,
                Scope::Network => PartitionScope::Network,
            }),
            initialisation: self.init.map_or(base.initialisation, |i| match i {
                Init::Published => Initialisation::Published,
                Init::KmeansPlusPlus => Initialisation::KmeansPlusPlus,
                Init::Exact => Initialisation::Exact,
            }),
            lloyd_iterations: self.lloyd_iterations.unwrap_or(base.lloyd_iterations),
            join: !self.no_join,
            schedule: self.schedule.clone(),
            granularity: self.granularity.unwrap_or(base.granularity),
            layers: self.layers.clone(),
            calibration: self.calibration.unwrap_or(base.calibration),
            training,
            seed: self.seed,
        };
        settings.check()?;
        Ok(settings)
    }

    fn named_model(&self) -> ModelArgs {
        let model = self.model.clone().unwrap_or_default();
        ModelArgs { model, weights: self.weights.clone(), graph: self.graph.clone() }
    }

    fn default_run_dir(&self) -> PathBuf {
        let model = self.model.as_deref().unwrap_or_default();
        let name = Path::new(model).file_stem().map(|s| s.to_string_lossy().replace(':', "-"));
        free_path(Path::new("slq-runs").join(name.unwrap_or_default()))
    }
}

pub(crate) fn run(args: Args, common: &Common) -> super::Outcome {
    let resume = args.resume.is_some();
    let (job, run_dir) = match args.resume {
        Some(dir) => (read_command(&dir)?, Some(dir)),
        None => {
            let job = Job { seed: common.seed, ..args.job };
            let has_rounds = job.method != Method::Kmeans;
            let dir = has_rounds.then(|| job.run_dir.clone().unwrap_or_else(|| job.default_run_dir()));
            (job, dir)
        }
    };
    job.output.iter().try_for_each(|o| slq::check_output(o))?;
    let settings = job.settings()?;
    let model = job.named_model().open(job.seed)?;
    let data = job.data.open(&model)?;
    if settings.needs_data() && data.is_none() {
        return Err(slq::Error::Compress(slq::CompressError::NoData));
    }
    slq::check(&model.graph, &settings)?;
    if let (Some(dir), false) = (&run_dir, resume) {
        write_command(dir, &job)?;
    }
    let mut progress = Progress::new(common);
    let options = RunOptions { run_dir: run_dir.as_deref(), resume, isa: common.isa() };
    let mut outcome = slq::compress(model.graph, data.as_ref(), &settings, options, &mut progress)?;
    if let Some(data) = &data {
        slq::preprocessing::store(&mut outcome.graph, &data.transform);
    }
    let save = SaveOptions { dense: job.dense, caffe: model.caffe };
    let saved =
        job.output.iter().map(|o| slq::save(&outcome.graph, o, &save)).collect::<Result<Vec<_>, _>>()?;
    let json = report_json(&outcome.report, &saved, run_dir.as_deref());
    common.print(&json, summary(&outcome, &saved));
    Ok(())
}

/// The JSON of docs/cli.md.
pub(crate) fn report_json(report: &Report, saved: &[Saved], run_dir: Option<&Path>) -> serde_json::Value {
    let dense = report.size.dense_bytes as f64;
    let outputs: Vec<_> = saved
        .iter()
        .map(|s| json!({ "path": s.path, "file_bytes": s.file_bytes, "ratio": dense / s.file_bytes.max(1) as f64 }))
        .collect();
    let mut json = serde_json::to_value(report).unwrap_or_default();
    json["outputs"] = json!(outputs);
    json["run_dir"] = json!(run_dir);
    json
}

/// The final table: layers, rounds, accuracy before and after, sizes, files.
pub(crate) fn summary(outcome: &slq::Outcome, saved: &[Saved]) -> String {
    let report = &outcome.report;
    let mut text = format!("{}\n", table::layers(&slq::summarize(&outcome.graph).layers));
    if !report.rounds.is_empty() {
        text += &format!("\n{}\n", table::rounds(report));
    }
    text += "\n";
    if let (Some(before), Some(after)) = (&report.baseline, &report.final_accuracy) {
        let points = 100.0 * (after.top1 - before.top1);
        text += &format!(
            "top-1     {} before, {} after ({points:+.2} points)\n",
            percent(before),
            percent(after)
        );
    }
    let size = &report.size;
    text += &format!(
        "size      {} bytes before, {} stored ({:.1}x smaller), {} at the entropy of the codes ({:.1}x)\n",
        table::thousands(size.dense_bytes),
        table::thousands(size.stored_bytes),
        size.ratio,
        table::thousands(size.entropy_bytes),
        size.dense_bytes as f64 / size.entropy_bytes.max(1) as f64,
    );
    for s in saved {
        let ratio = size.dense_bytes as f64 / s.file_bytes.max(1) as f64;
        text += &format!(
            "written   {}, {} bytes ({ratio:.1}x)\n",
            s.path.display(),
            table::thousands(s.file_bytes)
        );
    }
    text.trim_end().into()
}

fn file_error(path: &Path, error: &dyn std::fmt::Display) -> slq::Error {
    slq::Error::File { path: path.into(), reason: error.to_string() }
}

fn write_command(dir: &Path, job: &Job) -> super::Outcome {
    let path = dir.join(COMMAND);
    if path.exists() {
        return Err(file_error(dir, &"it already holds a run: --resume it, or name another --run-dir"));
    }
    std::fs::create_dir_all(dir).map_err(|e| file_error(dir, &e))?;
    let text = serde_json::to_vec_pretty(job).map_err(|e| file_error(&path, &e))?;
    slq::write_atomically(&path, &text).map_err(|e| file_error(&path, &e))
}

fn read_command(dir: &Path) -> Result<Job, slq::Error> {
    let path = dir.join(COMMAND);
    let text = std::fs::read_to_string(&path).map_err(|e| file_error(&path, &e))?;
    serde_json::from_str(&text).map_err(|e| file_error(&path, &e))
}
