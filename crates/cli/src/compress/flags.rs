//! The flags of `slq compress`, under the headings of its help. A flag of a method has the name of the setting it
//! changes, so that all of them are applied in one way: see `stages`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use serde::de::{DeserializeOwned, value::StrDeserializer};
use slq::jobs::Effort;
use slq::methods::{
    Advance, CalibrationPart, CodebookKind, Initialisation, LayerOrder, LayerRule, MethodName, PartitionRule,
    PartitionScope, PruneRule, Weighting,
};
use slq::{Budget, Granularity, InputShape};

use crate::data::DataArgs;
use crate::job::{FormatFlags, RunArgs};
use crate::number::finite;
use crate::training::TrainingArgs;

/// The flags of all headings.
#[derive(clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(super) input: InputFlags,
    #[command(flatten)]
    pub(super) data: DataArgs,
    #[command(flatten)]
    pub(super) quantize: QuantizeFlags,
    #[command(flatten)]
    pub(super) cluster: ClusterFlags,
    #[command(flatten)]
    pub(super) slq: SlqFlags,
    #[command(flatten)]
    pub(super) mlq: MlqFlags,
    #[command(flatten)]
    pub(super) calibrate: CalibrateFlags,
    #[command(flatten)]
    pub(super) inq: InqFlags,
    #[command(flatten)]
    pub(super) prune: PruneFlags,
    #[command(flatten)]
    pub(super) rounds: RoundFlags,
    #[command(flatten)]
    pub(super) training: TrainingArgs,
    #[command(flatten)]
    pub(super) budget: BudgetFlags,
    #[command(flatten)]
    pub(super) output: OutputFlags,
}

/// A choice by the name that the library's settings have for it; the error lists the names there are.
pub(crate) fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    T::deserialize(StrDeserializer::<serde::de::value::Error>::new(name)).map_err(|e| e.to_string())
}

/// The model, and files that hold settings.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Input and data")]
pub(crate) struct InputFlags {
    /// x.onnx, x.slq, x.prototxt, x.safetensors, x.pth or zoo:NAME
    #[arg(required_unless_present_any = ["resume", "recipe", "solver"])]
    pub(crate) model: Option<String>,
    /// Weights of a Caffe network
    #[arg(long, value_name = "CAFFEMODEL")]
    pub(crate) weights: Option<PathBuf>,
    /// Network of a safetensors file
    #[arg(long, value_name = "ONNX", hide_short_help = true)]
    pub(crate) graph: Option<PathBuf>,
    /// Sizes of an input that the file leaves open, such as images=1x3x320x320 (repeatable)
    #[arg(long, value_name = "NAME=SIZES", hide_short_help = true)]
    pub(crate) input_shape: Vec<InputShape>,
    /// Caffe's solver.prototxt: net, data and settings come from Caffe's files, flags win over them; max_iter counts
    /// for each round
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) solver: Option<PathBuf>,
    /// Settings, model and data from a file such as recipe.toml in a run directory; flags win over it
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub(crate) recipe: Option<PathBuf>,
    /// Images without labels (folder, zip), arrays (.npy, .npz) or random:N: few bits without training
    ///
    /// Implies --method calibrate. An .npz has an array for each input of the network; random:N draws N inputs and is the
    /// last resort. Without it, calibrate uses the training images of --data, without their labels.
    #[arg(long, value_name = "INPUTS")]
    pub(crate) calibrate: Option<String>,
    /// Model whose outputs --distill trains towards [default: the model before compression]
    #[arg(long, value_name = "MODEL", hide_short_help = true)]
    pub(crate) teacher: Option<String>,
}

/// What is quantized, and to how many values.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Method")]
pub(crate) struct QuantizeFlags {
    /// slq, mlq, inq, deep-compression, calibrate or kmeans
    ///
    /// With --data: slq (single level, the default), mlq (multiple levels: layer after layer), inq (powers of two),
    /// deep-compression (pruning and k-means). With --calibrate: calibrate (the default then; no labels, no training).
    /// With neither: kmeans (no data needed).
    #[arg(long, value_name = "NAME", value_parser = named::<MethodName>)]
    pub(crate) method: Option<MethodName>,
    /// Bits of a code, for 2^B values [default: 4]
    #[arg(long, value_name = "B")]
    pub(crate) bits: Option<u8>,
    /// Three values (-, 0, +), by mlq
    #[arg(long, conflicts_with_all = ["bits", "codebook_size", "recipe"])]
    pub(crate) ternary: bool,
    /// The settings of the publication: 2^(B-1)+1 values, its start, order and schedule, labels as targets
    #[arg(long, conflicts_with_all = ["ternary", "recipe"], hide_short_help = true)]
    pub(crate) published: bool,
    /// Number of values K, where it does not follow from the bits
    #[arg(long, value_name = "K", hide_short_help = true)]
    pub(crate) codebook_size: Option<usize>,
    /// tensor, channel, group:N, block:N or dense:N [default: tensor]
    ///
    /// Weights that share a codebook: a tensor, an output channel, N output channels, N neighbouring weights of a channel, or
    /// such blocks in dense layers and channels in others.
    #[arg(long, value_name = "WHAT")]
    pub(crate) granularity: Option<Granularity>,
    /// Bits of single layers, or GLOB=skip (repeatable)
    ///
    /// The pattern is compared with the names of weights and nodes; the last rule that matches counts.
    #[arg(long, value_name = "GLOB=BITS")]
    pub(crate) layers: Vec<LayerRule>,
    /// Weights of the values in clustering: none, fisher or inputs [default: none]
    ///
    /// fisher: the diagonal of the empirical Fisher information (needs labelled data). inputs: the second moment of the input that
    /// each weight meets, on training images or on those of --calibrate, without labels.
    #[arg(long, value_name = "WHAT", value_parser = named::<Weighting>, hide_short_help = true)]
    pub(crate) cluster_weights: Option<Weighting>,
    /// No correction of batch-norm statistics and biases (kmeans, or with --freeze-batch-norm)
    #[arg(long, hide_short_help = true)]
    pub(crate) no_correction: bool,
    /// Training images held out to measure partitions, ranks and Fisher information on [default: 1000, a quarter of
    /// fewer]
    #[arg(long, value_name = "N", alias = "calibration", hide_short_help = true)]
    pub(crate) partition_images: Option<usize>,
}

/// Settings of SLQ and MLQ.
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "SLQ and MLQ")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct ClusterFlags {
    /// Which values a codebook may hold: free, pow2 or uniform [default: free]
    #[arg(long, value_name = "KIND", value_parser = named::<CodebookKind>, hide_short_help = true)]
    codebook: Option<CodebookKind>,
    /// Start of the first centroids: published, kmeans-plus-plus, exact or calibrate [default: exact; published for mlq
    /// and with --published; calibrate for up to 4 values of a network without batch-norm]
    ///
    /// calibrate: the codebooks of a calibration on 512 training images, whose labels are not used.
    #[arg(long, value_parser = named::<Initialisation>, hide_short_help = true)]
    init: Option<Initialisation>,
    /// Lloyd iterations at the start of a round [default: 10]
    #[arg(long, value_name = "N", hide_short_help = true)]
    lloyd_iterations: Option<usize>,
    /// Do not fix a free weight because its nearest centroid is fixed
    #[arg(long = "no-join", action = clap::ArgAction::SetFalse, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_true")]
    join: bool,
    /// Cumulative numbers of fixed clusters: 5,9,13,15,17
    #[arg(long, value_name = "N,..", value_delimiter = ',', hide_short_help = true)]
    schedule: Option<Vec<usize>>,
    /// Whether the centroids of a layer go on training once all its weights are fixed [default: with --ternary, where
    /// codebooks are free]
    #[arg(
        long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        hide_short_help = true
    )]
    train_centroids: Option<bool>,
}

/// Settings of SLQ.
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "SLQ")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct SlqFlags {
    /// Order in which clusters are fixed: loss, taylor, magnitude or reversed [default: magnitude, which measures best]
    #[arg(long, value_parser = named::<PartitionRule>, hide_short_help = true)]
    partition: Option<PartitionRule>,
    /// Compare clusters within each layer or across the network (loss and taylor): layer or network
    #[arg(long, value_name = "SCOPE", value_parser = named::<PartitionScope>, hide_short_help = true)]
    partition_scope: Option<PartitionScope>,
}

/// Settings of MLQ.
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "MLQ")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct MlqFlags {
    /// Layers that advance together [default: a fifth of them]
    #[arg(long, value_name = "N", hide_short_help = true)]
    layers_per_step: Option<usize>,
    /// What ranks layers: loss, lipschitz or size (smallest first) [default: size; loss with --published]
    #[arg(long, value_name = "RULE", value_parser = named::<LayerOrder>, hide_short_help = true)]
    rank_by: Option<LayerOrder>,
    /// The last in rank goes first
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    rank_reversed: bool,
    /// Finish a layer before the next begins, or a level of all layers: layer or level [default: layer]
    #[arg(long, value_name = "WHAT", value_parser = named::<Advance>, hide_short_help = true)]
    advance: Option<Advance>,
}

/// Settings of calibration (the rate: of k-means, too).
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "Calibration")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct CalibrateFlags {
    /// Most inputs calibrated on; further ones are compared on [default: 512]
    #[arg(long, value_name = "N", hide_short_help = true)]
    calibration_images: Option<usize>,
    /// Positions of a layer's output sampled in each input [default: 64]
    #[arg(long, value_name = "N", hide_short_help = true)]
    positions: Option<usize>,
    /// Damping, as a share of the mean second moment of a layer's inputs [default: 0.01]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", hide_short_help = true)]
    damping: Option<f64>,
    /// Price of a bit, for .slq files: what may be lost to save one bit of every weight [default: 0]
    ///
    /// calibrate: KL divergence of the outputs (nats), 0.02 to 0.2. kmeans: squared error of a layer beside its sum of
    /// squares, mean over layers, 0.001 to 0.02.
    #[arg(long, value_parser = finite::<f64>, value_name = "X", hide_short_help = true)]
    rate: Option<f64>,
    /// Megabytes of activations kept between layers; beyond them they are computed again [default: 1024]
    #[arg(long, value_name = "MB", hide_short_help = true)]
    memory: Option<usize>,
    /// Distil behind the calibration, on the same inputs: codebooks, biases and batch-norm; taken where it helps
    #[arg(long)]
    #[serde(skip_serializing_if = "is_false")]
    block_tune: bool,
    /// Times that --block-tune goes through the inputs [default: 20]
    #[arg(long, value_name = "N", requires = "block_tune", hide_short_help = true)]
    block_tune_epochs: Option<u32>,
    /// Learning rate of --block-tune at its start [default: 0.0003]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", requires = "block_tune", hide_short_help = true)]
    block_tune_lr: Option<f64>,
    /// Temperature of --block-tune [default: 1]
    #[arg(long, value_parser = finite::<f32>, value_name = "T", requires = "block_tune", hide_short_help = true)]
    block_tune_temperature: Option<f32>,
    /// Parts left out: targets, residual, weights, pass, fit, descent, scales or correction
    #[arg(long, value_name = "PART,..", value_delimiter = ',', value_parser = named::<CalibrationPart>, hide_short_help = true)]
    without: Option<Vec<CalibrationPart>>,
}

/// Settings of INQ.
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "INQ")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct InqFlags {
    /// Cumulative portions of the weights that are fixed: 0.5,0.75,0.875,1
    #[arg(long, value_parser = finite::<f64>, value_name = "X,..", value_delimiter = ',', hide_short_help = true)]
    portions: Option<Vec<f64>>,
}

/// Settings of Deep Compression.
#[derive(Args, Clone, Default, Serialize)]
#[command(next_help_heading = "Deep Compression")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct PruneFlags {
    /// Share of the weights that becomes zero [default: 0.9]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", hide_short_help = true)]
    sparsity: Option<f64>,
    /// Rounds that lead there [default: 8]
    #[arg(long, value_name = "N", hide_short_help = true)]
    prune_steps: Option<usize>,
    /// What is pruned first: lamp, magnitude or layer [default: lamp]
    #[arg(long, value_name = "RULE", value_parser = named::<PruneRule>, hide_short_help = true)]
    prune_by: Option<PruneRule>,
}

/// The library's [`Effort`].
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
pub(crate) enum EffortName {
    Quick,
    Normal,
    Thorough,
}

impl From<EffortName> for Effort {
    fn from(name: EffortName) -> Self {
        match name {
            EffortName::Quick => Self::Quick,
            EffortName::Normal => Self::Normal,
            EffortName::Thorough => Self::Thorough,
        }
    }
}

/// Length of the rounds, and a last training of the shared values.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Training")]
pub(crate) struct RoundFlags {
    /// How much training the defaults take: quick, normal or thorough [default: normal]
    #[arg(long, value_name = "HOW", value_enum, conflicts_with_all = ["published", "recipe", "solver"])]
    pub(crate) effort: Option<EffortName>,
    /// Passes over the data at full precision before the first round; 0 for none
    ///
    /// [default: as many as in all rounds; none with --effort quick, for few images, or where the length of rounds is given]
    #[arg(long, value_name = "N", allow_negative_numbers = true, conflicts_with_all = ["published", "recipe", "solver"], hide_short_help = true)]
    pub(crate) fine_tune_epochs: Option<f64>,
    /// Do not mirror and shift training images where the network bears it
    #[arg(long, hide_short_help = true)]
    pub(crate) no_augmentation: bool,
    /// Train the float network for as long, too, and report it as the reference
    #[arg(long, hide_short_help = true)]
    pub(crate) reference: bool,
    /// Passes over the data in each round [default: by the number of images and --effort]
    #[arg(long, value_name = "N", conflicts_with = "iterations_per_round")]
    pub(crate) epochs_per_round: Option<f64>,
    /// Steps of one batch each in each round
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(crate) iterations_per_round: Option<u64>,
    /// Train the shared values themselves for so many passes at the end
    #[arg(long, value_name = "N", conflicts_with = "tune_iterations", hide_short_help = true)]
    pub(crate) tune_epochs: Option<f64>,
    /// Train the shared values themselves for so many steps at the end
    #[arg(long, value_name = "N", hide_short_help = true)]
    pub(crate) tune_iterations: Option<u64>,
    /// Learning rate of that training [default: as in re-training]
    #[arg(long, value_name = "X", allow_negative_numbers = true, hide_short_help = true)]
    pub(crate) tune_lr: Option<f64>,
}

/// A size or an accuracy to keep.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Budget")]
pub(crate) struct BudgetFlags {
    /// Best network that fits: 50KB, 1.5MB or 20x
    #[arg(long, value_name = "SIZE", conflicts_with = "max_drop")]
    pub(crate) target_size: Option<Budget>,
    /// Smallest that loses at most so many points of top-1
    #[arg(long, value_name = "POINTS", allow_negative_numbers = true)]
    pub(crate) max_drop: Option<f64>,
    /// Table of `slq sensitivity` to choose widths by, in place of a new one
    #[arg(long, value_name = "JSON", hide_short_help = true)]
    pub(crate) sensitivity: Option<PathBuf>,
}

/// Where the results go.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputFlags {
    /// x.onnx, x.slq, x.tflite, x.mlpackage, x.caffemodel or x.safetensors (repeatable)
    #[arg(short, long, value_name = "OUT", required_unless_present = "resume")]
    pub(crate) output: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) format: FormatFlags,
    /// Show stages, outputs, size and memory of the job, and do nothing
    #[arg(long, conflicts_with = "resume")]
    pub(crate) dry_run: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Go on with a run that was stopped
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "output"])]
    pub(crate) resume: Option<PathBuf>,
}

fn is_true(flag: &bool) -> bool {
    *flag
}

fn is_false(flag: &bool) -> bool {
    !*flag
}
