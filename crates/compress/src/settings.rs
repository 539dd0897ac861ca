//! What a run does: every choice a user can make, with its default, in one serialisable value.

use serde::{Deserialize, Serialize};
use slq_engine::BatchNormMode;

pub use crate::choices::{
    Duration, Granularity, Initialisation, LayerRule, MethodName, PartitionRule, PartitionScope,
};
use crate::error::CompressError;
use crate::inq::check_portions;
use crate::method::Trains;
use crate::method_settings::{
    CodebookKind, LayerOrder, MlqSettings, PruningSettings, TuningSettings, Weighting,
};
pub use crate::training_settings::TrainingSettings;

/// All settings of a compression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Settings {
    /// The method.
    pub method: MethodName,
    /// Bits b; K = 2^(b-1) + 1 values for SLQ, MLQ and INQ, 2^b for k-means and Deep Compression (method.md, section
    /// 1).
    pub bits: u8,
    /// K itself, where it is not to follow from the bits.
    pub codebook_size: Option<usize>,
    /// Which values a codebook may hold (SLQ and MLQ).
    pub codebook: CodebookKind,
    /// What weighs the values when they are clustered.
    pub weighting: Weighting,
    /// Whether what sharing is expected to shift is put back into batch-norm statistics and biases (k-means, and where
    /// batch-norm is frozen).
    pub correction: bool,
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
    /// How MLQ walks through layers and levels.
    pub mlq: MlqSettings,
    /// Cumulative portions of weights that INQ fixes; `None` takes the published ones.
    pub portions: Option<Vec<f64>>,
    /// How Deep Compression prunes.
    pub pruning: PruningSettings,
    /// A last round that trains centroids; `None` for none.
    pub tuning: Option<TuningSettings>,
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
            codebook: CodebookKind::Free,
            weighting: Weighting::None,
            correction: true,
            partition: PartitionRule::Magnitude,
            partition_scope: PartitionScope::Layer,
            initialisation: Initialisation::Published,
            lloyd_iterations: 10,
            join: true,
            schedule: None,
            granularity: Granularity::Tensor,
            layers: Vec::new(),
            calibration: 1000,
            mlq: MlqSettings::default(),
            portions: None,
            pruning: PruningSettings::default(),
            tuning: None,
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
        let lowest = self.lowest_bits();
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
            return bad(
                "calibration",
                "measured partitions, ranks and Fisher weights need calibration images".into(),
            );
        }
        self.mlq.check()?;
        self.pruning.check()?;
        if let Some(portions) = &self.portions {
            check_portions(portions)?;
        }
        if self.weighting != Weighting::None && self.method == MethodName::Inq {
            return bad("cluster-weights", "inq does not cluster".into());
        }
        if self.codebook != CodebookKind::Free {
            if self.weighting != Weighting::None {
                return bad("cluster-weights", "a codebook of given shape is not weighted".into());
            }
            if !matches!(self.method, MethodName::Slq | MethodName::Mlq) {
                return bad("codebook", "only slq and mlq take other codebooks than free ones".into());
            }
            if let Some(k) = self.codebook_size.filter(|k| k.is_multiple_of(2)) {
                return bad("codebook-size", format!("{k} is even: a codebook symmetric about zero is odd"));
            }
        }
        if let Some(tuning) = &self.tuning {
            if self.method == MethodName::Kmeans {
                return bad("tune-epochs", "k-means trains nothing; use another method".into());
            }
            if self.method == MethodName::Inq || self.codebook != CodebookKind::Free {
                return bad("tune-epochs", "trained values would leave a codebook of given shape".into());
            }
            TrainingSettings { duration: tuning.duration, ..self.training.clone() }.check()?;
        }
        self.training.check()
    }

    /// K for a layer of `bits` bits, unless the codebook size is set outright.
    pub fn codebook_size(&self, bits: u8) -> usize {
        match (self.codebook_size, self.method) {
            (Some(k), _) => k,
            (None, _) if self.widest_by_bits() => 1 << bits,
            (None, _) => (1 << (bits - 1)) + 1,
        }
    }

    /// Whether K = 2^b, the most that codes of b bits reach.
    fn widest_by_bits(&self) -> bool {
        matches!(self.method, MethodName::Kmeans | MethodName::DeepCompression)
    }

    /// The fewest bits that the method gives a meaning.
    pub(crate) fn lowest_bits(&self) -> u8 {
        if self.widest_by_bits() { 1 } else { 2 }
    }

    /// Whether the method needs data.
    pub fn needs_data(&self) -> bool {
        self.retrains() || self.weighting == Weighting::Fisher
    }

    /// Whether the method re-trains, in rounds.
    pub fn retrains(&self) -> bool {
        self.method != MethodName::Kmeans
    }

    /// Whether what sharing is expected to shift is put back: re-training does that better where it moves statistics.
    pub fn corrects(&self) -> bool {
        self.correction && (!self.retrains() || self.training.batch_norm == BatchNormMode::Frozen)
    }

    /// Whether anything is measured on calibration images.
    pub fn measures(&self) -> bool {
        if self.weighting == Weighting::Fisher {
            return true;
        }
        match self.method {
            MethodName::Slq => matches!(self.partition, PartitionRule::Loss | PartitionRule::Taylor),
            MethodName::Mlq => self.mlq.rank_by == LayerOrder::Loss,
            MethodName::Inq | MethodName::DeepCompression | MethodName::Kmeans => false,
        }
    }

    /// Settings of a re-training of weights or of centroids.
    pub(crate) fn training_of(&self, trains: Trains) -> TrainingSettings {
        let mut training = self.training.clone();
        if let (Trains::Centroids, Some(tuning)) = (trains, &self.tuning) {
            training.duration = tuning.duration;
            training.learning_rate = tuning.learning_rate.unwrap_or(training.learning_rate);
        }
        training
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
        let pruned = Settings { method: MethodName::DeepCompression, ..Settings::default() };
        assert_eq!(pruned.codebook_size(4), 16);
        assert_eq!(Settings { codebook_size: Some(32), ..slq }.codebook_size(5), 32);
    }

    #[test]
    fn impossible_settings_are_named() {
        let base = Settings::default;
        let tuning =
            |epochs| Some(TuningSettings { duration: Duration::Epochs(epochs), learning_rate: None });
        let training = |t: TrainingSettings| Settings { training: t, ..base() };
        let cases = [
            ("bits", Settings { bits: 9, ..base() }),
            ("bits", Settings { bits: 1, ..base() }),
            ("codebook-size", Settings { codebook_size: Some(1), ..base() }),
            ("calibration", Settings { calibration: 0, partition: PartitionRule::Loss, ..base() }),
            (
                "layers-per-step",
                Settings { mlq: MlqSettings { layers_per_step: 0, ..Default::default() }, ..base() },
            ),
            (
                "sparsity",
                Settings { pruning: PruningSettings { sparsity: 1.0, ..Default::default() }, ..base() },
            ),
            (
                "prune-steps",
                Settings { pruning: PruningSettings { steps: 0, ..Default::default() }, ..base() },
            ),
            ("portions", Settings { portions: Some(vec![0.5]), ..base() }),
            ("codebook", Settings { codebook: CodebookKind::Pow2, method: MethodName::Inq, ..base() }),
            ("codebook-size", Settings { codebook: CodebookKind::Uniform, codebook_size: Some(4), ..base() }),
            ("tune-epochs", Settings { codebook: CodebookKind::Pow2, tuning: tuning(1.0), ..base() }),
            ("epochs", Settings { tuning: tuning(f64::NAN), ..base() }),
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
}
