//! What a run does: every choice a user can make, with its default, in one serialisable value.

use serde::{Deserialize, Serialize};
use slq_engine::schedule::LearningRate;
use slq_engine::{BatchNormMode, UpdateRule};

use crate::error::CompressError;

/// The method that moves the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MethodName {
    /// Single-level quantization (arXiv 1803.03289, section 3).
    Slq,
    /// Optimal 1-D k-means, no re-training, no data.
    Kmeans,
}

/// In which order clusters are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartitionRule {
    /// Measured: clusters whose quantization raises the calibration loss most go first (paper, section 3.2).
    Loss,
    /// The same rise, estimated to second order from gradients.
    Taylor,
    /// The published program's order: zero first, then the ladder from the largest magnitude down.
    Magnitude,
    /// `Magnitude` backwards: the control that should lose.
    Reversed,
}

/// Among which clusters a measured partition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionScope {
    /// Each layer fixes the scheduled number of its own clusters.
    Layer,
    /// The scheduled share of all clusters is fixed, wherever they are.
    Network,
}

/// Where round one's centroids come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Initialisation {
    /// The authors' ladder of powers of two, then Lloyd.
    Published,
    /// k-means++ seeding, then Lloyd.
    KmeansPlusPlus,
    /// The optimal codebook with zero pinned.
    Exact,
}

/// How many weights share a codebook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Granularity {
    /// One codebook for a weight tensor.
    Tensor,
    /// One for each output channel.
    Channel,
    /// One for each run of this many output channels.
    Group(usize),
}

impl std::str::FromStr for Granularity {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "tensor" => Ok(Self::Tensor),
            "channel" => Ok(Self::Channel),
            _ => match s.strip_prefix("group:").map(str::parse) {
                Some(Ok(n)) if n > 0 => Ok(Self::Group(n)),
                _ => Err(format!("'{s}' is none of tensor, channel, group:N")),
            },
        }
    }
}

/// What happens to the layers whose weight or node name matches a pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRule {
    /// Shell-style pattern over weight and node names.
    pub pattern: String,
    /// Bits for those layers; `None` leaves them at full precision.
    pub bits: Option<u8>,
}

impl std::str::FromStr for LayerRule {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (pattern, value) =
            s.rsplit_once('=').ok_or_else(|| format!("'{s}' is not GLOB=BITS or GLOB=skip"))?;
        let bits = match value {
            "skip" => None,
            _ => match value.parse() {
                Ok(b) if (1..=8).contains(&b) => Some(b),
                _ => {
                    return Err(format!(
                        "'{value}' in '{s}' is neither skip nor a number of bits from 1 to 8"
                    ));
                }
            },
        };
        Ok(Self { pattern: pattern.into(), bits })
    }
}

/// Length of one re-training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Duration {
    /// Steps of one batch each.
    Iterations(u64),
    /// Passes over the training images; fractions allowed.
    Epochs(f64),
}

impl Duration {
    /// Steps of `batch` images over a training set of `images`.
    pub fn iterations(self, images: usize, batch: usize) -> u64 {
        match self {
            Duration::Iterations(n) => n,
            // Saturates: an absurd number of epochs is an absurd number of iterations, not a crash.
            Duration::Epochs(e) => (e * images as f64 / batch as f64).round().max(0.0) as u64,
        }
    }
}

/// How the free weights are re-trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSettings {
    /// Length of one re-training (one round, or a whole `slq train`).
    pub duration: Duration,
    /// Base learning rate.
    pub learning_rate: f64,
    /// How the rate changes over one re-training.
    pub lr_policy: LearningRate,
    /// Images in a step.
    pub batch: usize,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay (L2).
    pub weight_decay: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Whose arithmetic a step follows (method.md, section 8).
    pub rule: UpdateRule,
    /// Bound on the gradient's global norm.
    pub clip_gradients: Option<f32>,
    /// Whether batch-norm uses batch statistics while training, or stays frozen.
    pub batch_norm: BatchNormMode,
    /// Temperature of distillation from the float network; `None` trains on labels.
    pub distill: Option<f32>,
}

impl Default for TrainingSettings {
    /// One epoch a round, rate 1e-3 falling along a cosine, batch 64, momentum 0.9, weight decay 5e-4 (the last
    /// two as published), Caffe's arithmetic.
    fn default() -> Self {
        Self {
            duration: Duration::Epochs(1.0),
            learning_rate: 1e-3,
            lr_policy: LearningRate::Cosine { max: 0 },
            batch: 64,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: false,
            rule: UpdateRule::Caffe,
            clip_gradients: None,
            batch_norm: BatchNormMode::Train,
            distill: None,
        }
    }
}

impl TrainingSettings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the value that cannot be.
    pub fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason: String| Err(CompressError::Setting { name, reason });
        if self.batch == 0 || self.batch > 1 << 16 {
            return bad("batch", format!("{} is not between 1 and 65536", self.batch));
        }
        if !(self.learning_rate.is_finite() && self.learning_rate >= 0.0) {
            return bad("lr", format!("{} is not a learning rate", self.learning_rate));
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return bad("momentum", format!("{} is not in [0, 1)", self.momentum));
        }
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return bad("weight-decay", format!("{} is not a weight decay", self.weight_decay));
        }
        if let Some(t) = self.distill.filter(|t| !(t.is_finite() && *t > 0.0)) {
            return bad("distill", format!("temperature {t} is not positive"));
        }
        match self.duration {
            Duration::Epochs(e) if !(e.is_finite() && (0.0..=1e6).contains(&e)) => {
                bad("epochs", format!("{e} is not between 0 and a million"))
            }
            _ => Ok(()),
        }
    }
}

/// All settings of a compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// The method.
    pub method: MethodName,
    /// Bits b; K = 2^(b-1) + 1 values for SLQ, 2^b for k-means (method.md, section 1).
    pub bits: u8,
    /// K itself, where it is not to follow from the bits.
    pub codebook_size: Option<usize>,
    /// Order in which clusters are fixed.
    pub partition: PartitionRule,
    /// Among which clusters a measured partition compares.
    pub partition_scope: PartitionScope,
    /// Where round one's centroids come from.
    pub initialisation: Initialisation,
    /// Lloyd iterations at the start of a round.
    pub lloyd_iterations: usize,
    /// Whether a free weight that lies nearest to a fixed centroid joins it.
    pub join: bool,
    /// Cumulative counts of fixed clusters, one for each round; `None` takes the published schedule.
    pub schedule: Option<Vec<usize>>,
    /// How many weights share a codebook.
    pub granularity: Granularity,
    /// Exceptions for single layers; the last one that matches counts.
    pub layers: Vec<LayerRule>,
    /// Training images set aside to measure partitions on.
    pub calibration: usize,
    /// Re-training.
    pub training: TrainingSettings,
    /// Seed of every random choice.
    pub seed: u64,
}

impl Default for Settings {
    /// SLQ at 5 bits, one codebook for a tensor, the published initialisation with 10 Lloyd iterations.
    fn default() -> Self {
        Self {
            method: MethodName::Slq,
            bits: 5,
            codebook_size: None,
            partition: PartitionRule::Magnitude,
            partition_scope: PartitionScope::Layer,
            initialisation: Initialisation::Published,
            lloyd_iterations: 10,
            join: true,
            schedule: None,
            granularity: Granularity::Tensor,
            layers: Vec::new(),
            calibration: 1000,
            training: TrainingSettings::default(),
            seed: 0,
        }
    }
}

impl Settings {
    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the value that cannot be.
    pub fn check(&self) -> Result<(), CompressError> {
        let bad = |name, reason: String| Err(CompressError::Setting { name, reason });
        let lowest = if self.method == MethodName::Kmeans { 1 } else { 2 };
        if !(lowest..=8).contains(&self.bits) {
            return bad("bits", format!("{} is not between {lowest} and 8", self.bits));
        }
        if let Some(k) = self.codebook_size.filter(|k| !(2..=256).contains(k)) {
            return bad("codebook-size", format!("{k} is not between 2 and 256"));
        }
        if self.lloyd_iterations == 0 {
            return bad("lloyd-iterations", "0 iterations leave the initialisation as it is".into());
        }
        if self.measures() && self.calibration == 0 {
            return bad("calibration", "a measured partition needs calibration images".into());
        }
        self.training.check()
    }

    /// K for a layer of `bits` bits, unless the codebook size is set outright.
    pub fn codebook_size(&self, bits: u8) -> usize {
        match (self.codebook_size, self.method) {
            (Some(k), _) => k,
            (None, MethodName::Kmeans) => 1 << bits,
            (None, _) => (1 << (bits - 1)) + 1,
        }
    }

    /// Whether the method needs data.
    pub fn needs_data(&self) -> bool {
        self.method != MethodName::Kmeans
    }

    /// Whether the partition is measured on calibration images.
    pub fn measures(&self) -> bool {
        self.method == MethodName::Slq
            && matches!(self.partition, PartitionRule::Loss | PartitionRule::Taylor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codebook_sizes_follow_the_published_meaning_of_bits() {
        let slq = Settings::default();
        let sizes: Vec<_> = (2..=8).map(|b| slq.codebook_size(b)).collect();
        assert_eq!(sizes, [3, 5, 9, 17, 33, 65, 129]);
        let kmeans = Settings { method: MethodName::Kmeans, ..Settings::default() };
        assert_eq!(kmeans.codebook_size(4), 16);
        assert_eq!(Settings { codebook_size: Some(32), ..slq }.codebook_size(5), 32);
    }

    #[test]
    fn impossible_settings_are_named() {
        let base = Settings::default;
        let training = |t: TrainingSettings| Settings { training: t, ..base() };
        let cases = [
            ("bits", Settings { bits: 9, ..base() }),
            ("bits", Settings { bits: 1, ..base() }),
            ("codebook-size", Settings { codebook_size: Some(1), ..base() }),
            ("calibration", Settings { calibration: 0, partition: PartitionRule::Loss, ..base() }),
            ("batch", training(TrainingSettings { batch: 0, ..Default::default() })),
            ("lr", training(TrainingSettings { learning_rate: f64::NAN, ..Default::default() })),
            ("momentum", training(TrainingSettings { momentum: 1.0, ..Default::default() })),
            ("epochs", training(TrainingSettings { duration: Duration::Epochs(-1.0), ..Default::default() })),
        ];
        for (name, settings) in cases {
            let error = settings.check().unwrap_err();
            assert!(
                matches!(&error, CompressError::Setting { name: n, .. } if *n == name),
                "{name}: {error}"
            );
        }
        assert!(base().check().is_ok());
    }

    #[test]
    fn text_forms_parse() {
        assert_eq!("group:4".parse(), Ok(Granularity::Group(4)));
        assert!("group:0".parse::<Granularity>().is_err());
        let rule: LayerRule = "conv*=skip".parse().unwrap();
        assert_eq!((rule.pattern.as_str(), rule.bits), ("conv*", None));
        assert_eq!("fc=4".parse::<LayerRule>().unwrap().bits, Some(4));
        assert!("fc".parse::<LayerRule>().is_err());
        assert!("fc=9".parse::<LayerRule>().is_err());
    }

    #[test]
    fn epochs_become_iterations() {
        assert_eq!(Duration::Epochs(2.0).iterations(60_000, 64), 1875);
        assert_eq!(Duration::Iterations(7).iterations(10, 64), 7);
    }
}
