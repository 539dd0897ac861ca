//! What a report shows.

use serde::Serialize;

/// What is known of one job. Empty lists and `None` mean that nothing is known, and leave the part out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Run {
    /// A short name that tells it from others, such as its run directory.
    pub name: String,
    /// How far it has come.
    pub state: State,
    /// Where it comes from, and how to repeat it.
    pub provenance: Provenance,
    /// The figures of the whole job.
    pub figures: Figures,
    /// Files written.
    pub outputs: Vec<OutputFile>,
    /// What the user should know of the result.
    pub warnings: Vec<Warning>,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// Parameter by parameter, in the order of the network.
    pub layers: Vec<LayerFigures>,
    /// What quantizing single layers costs.
    pub sensitivities: Vec<Sensitivity>,
    /// A search under a budget.
    pub search: Option<Search>,
    /// Test images whose answer changed.
    pub changes: Option<Changes>,
    /// Parts that are missing from the report, and why.
    pub notes: Vec<String>,
}

/// How far a job has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum State {
    /// All its outputs are written.
    #[default]
    Finished,
    /// It was stopped, or still runs.
    Unfinished {
        /// What is done, stage by stage.
        stages: Vec<String>,
        /// The command that goes on with it.
        resume: String,
    },
}

/// Where a job comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Provenance {
    /// The model.
    pub model: String,
    /// The data or inputs.
    pub data: Option<String>,
    /// A command that repeats the job.
    pub command: Option<String>,
    /// Its recipe, a TOML file.
    pub recipe: Option<String>,
    /// The program that wrote the report.
    pub program: String,
}

/// Accuracy and loss on a split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// Share of images that are classified correctly, 0 to 1.
    pub top1: f64,
    /// Share whose label is among the five largest outputs.
    pub top5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images.
    pub images: usize,
}

impl Score {
    /// Standard error of `top1` as a share of independent images: `sqrt(p (1 - p) / n)`.
    pub fn standard_error(&self) -> f64 {
        let p = self.top1.clamp(0.0, 1.0);
        (p * (1.0 - p) / self.images.max(1) as f64).sqrt()
    }
}

/// A training of the float network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FloatTraining {
    /// Share of the test images classified correctly behind it, 0 to 1.
    pub top1: f64,
    /// Standard error of that share.
    pub standard_error: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Training steps.
    pub steps: u64,
    /// Seconds they took.
    pub seconds: f64,
}

/// Sizes in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Four bytes for every parameter.
    pub dense: u64,
    /// Codes, codebooks and float parameters.
    pub stored: u64,
    /// The same with codes at their entropy.
    pub entropy: u64,
}

/// Outputs beside those of the float network, on inputs without labels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Inputs compared on.
    pub inputs: usize,
    /// Where they come from, in words.
    pub origin: String,
    /// Share of inputs with the same class.
    pub agreement: Option<f64>,
    /// Mean Kullback-Leibler divergence, in nats.
    pub kl: Option<f64>,
    /// Signal over noise, in dB.
    pub snr_db: Option<f64>,
}

/// A weight tensor that keeps its floats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotQuantized {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// The figures of a whole job.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Figures {
    /// The method's name.
    pub method: Option<String>,
    /// Bits of a code.
    pub bits: Option<u8>,
    /// Values of a codebook.
    pub codebook_size: Option<usize>,
    /// Test accuracy before.
    pub before: Option<Score>,
    /// Test accuracy after (of an unfinished job: after the last round).
    pub after: Option<Score>,
    /// The fine-tuning at full precision, before weights were shared.
    pub fine_tuned: Option<FloatTraining>,
    /// The float network treated equally: trained for as many further steps as all rounds took.
    pub reference: Option<FloatTraining>,
    /// Outputs beside the float network's.
    pub comparison: Option<Comparison>,
    /// Sizes.
    pub sizes: Option<Sizes>,
    /// Multiply-accumulates for one input, before and after.
    pub macs: Option<[u64; 2]>,
    /// Share of all parameters that is quantized, 0 to 1.
    pub quantized_fraction: Option<f64>,
    /// What is not quantized.
    pub not_quantized: Vec<NotQuantized>,
    /// Seconds in all.
    pub seconds: Option<f64>,
}

/// A file that the job wrote.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputFile {
    /// Its path.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Four bytes for every parameter over its size.
    pub ratio: f64,
}

/// Something to know of a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its kind, one word.
    pub kind: String,
    /// A sentence.
    pub message: String,
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Round {
    /// Share of the selected weights that is fixed after it.
    pub fixed: f64,
    /// Accuracy once weights are shared, before re-training.
    pub shared: Option<Score>,
    /// Accuracy after re-training.
    pub retrained: Option<Score>,
    /// Training steps.
    pub iterations: u64,
    /// Seconds.
    pub seconds: f64,
}

/// One parameter of the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerFigures {
    /// Its name.
    pub name: String,
    /// Operator that reads it.
    pub op: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Weights.
    pub count: usize,
    /// Distinct values.
    pub distinct: usize,
    /// Bits of a weight as it is stored.
    pub bits: u8,
    /// Zeros.
    pub zeros: usize,
    /// Bytes as 32-bit floats.
    pub dense: u64,
    /// Bytes as it is stored.
    pub stored: u64,
    /// Codebooks; 0 where it keeps its floats.
    pub codebooks: usize,
    /// Share of its weights that is fixed to a codebook, where that is known.
    pub fixed: Option<f64>,
    /// Its weights; only of quantized tensors.
    pub histogram: Option<Histogram>,
}

/// The distribution of a tensor before, and its values after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Histogram {
    /// Smallest and largest value.
    pub range: [f64; 2],
    /// Weights of the float network in bins of equal width; empty where they are not known.
    pub bins: Vec<u64>,
    /// Weights outside the range that is drawn.
    pub outside: u64,
    /// Values of the codebooks, each with the weights that take it; at most a few hundred.
    pub values: Vec<(f64, u64)>,
}

/// What quantizing one layer costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sensitivity {
    /// Its weight.
    pub layer: String,
    /// Rise of the loss.
    pub rise: f64,
    /// Its standard error, where known.
    pub error: Option<f64>,
    /// Values that it was measured with.
    pub codebook_size: usize,
}

/// A search under a budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Search {
    /// Whether the trials are measured by the labels of validation images; else by their agreement with the float network.
    pub labels: bool,
    /// What was asked for.
    pub budget: String,
    /// The float network on the validation images.
    pub baseline: Option<Score>,
    /// What was tried.
    pub trials: Vec<Trial>,
    /// Position of the trial that was taken; `None` while the search runs.
    pub chosen: Option<usize>,
}

/// A network that a search tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// How its widths were chosen.
    pub label: String,
    /// Widths of the layers, in execution order.
    pub widths: String,
    /// Stored bytes.
    pub bytes: u64,
    /// Accuracy on the validation images.
    pub validation: Option<Score>,
    /// Whether it keeps the budget.
    pub fits: bool,
}

/// Test images beside their answers before and after.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Changes {
    /// Images compared.
    pub images: usize,
    /// Images of the whole split.
    pub of: usize,
    /// Right before, wrong after.
    pub worse: usize,
    /// Wrong before, right after.
    pub better: usize,
    /// Wrong before and after, with another class.
    pub other: usize,
    /// Whether the answers before are those of the network whose accuracy stands as the one before.
    pub paired: bool,
    /// Some of them.
    pub pictures: Vec<Change>,
}

impl Changes {
    /// Standard error of the difference of top-1 (as a share), paired image by image.
    pub fn standard_error(&self) -> f64 {
        let n = self.images.max(1) as f64;
        let (worse, better) = (self.worse as f64 / n, self.better as f64 / n);
        ((worse + better - (better - worse).powi(2)).max(0.0) / n).sqrt()
    }
}

/// A test image whose answer changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name or number.
    pub name: String,
    /// Its class.
    pub label: String,
    /// The class that the float network gave.
    pub before: String,
    /// The class that the compressed network gives.
    pub after: String,
    /// Whether the first and the second are right.
    pub right: [bool; 2],
    /// The image.
    #[serde(skip)]
    pub picture: Option<Picture>,
}

/// An image of 8-bit grey or RGB values, row by row, channels side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Whether it has three channels.
    pub colour: bool,
    /// `width * height` or three times as many values.
    pub pixels: Vec<u8>,
}
