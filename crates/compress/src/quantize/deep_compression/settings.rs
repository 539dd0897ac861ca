//! Settings of Deep Compression.

use serde::{Deserialize, Serialize};

use crate::error::CompressError;
use crate::train::{Length, TrainingSettings};

/// Which weights are pruned first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PruneRule {
    /// The smallest layer-adaptive magnitude over all layers: the square of a weight over the sum of squares of those in its
    /// layer that are not smaller (LAMP; Lee et al., ICLR 2021).
    Lamp,
    /// The smallest magnitude over all layers.
    Magnitude,
    /// The smallest magnitude, the same share of every layer.
    Layer,
}

/// Settings of Deep Compression (Han et al., ICLR 2016).
///
/// Defaults: nine weights in ten become zero, in eight rounds, by layer-adaptive magnitude; one epoch a round; the last
/// round trains the shared values for as long and at the same rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct DeepCompressionSettings {
    /// Share of the selected weights that is zero in the end.
    pub sparsity: f64,
    /// Rounds of pruning that lead there.
    pub prune_steps: usize,
    /// Which weights are pruned first.
    pub prune_by: PruneRule,
    /// Length of the last round, which trains the shared values; `None` takes that of `training`.
    pub tune_length: Option<Length>,
    /// Learning rate of the last round; `None` takes that of `training`.
    pub tune_lr: Option<f64>,
    /// Re-training in each round.
    pub training: TrainingSettings,
}

impl Default for DeepCompressionSettings {
    fn default() -> Self {
        Self {
            sparsity: 0.9,
            prune_steps: 8,
            prune_by: PruneRule::Lamp,
            tune_length: None,
            tune_lr: None,
            training: TrainingSettings::default(),
        }
    }
}

impl DeepCompressionSettings {
    /// Settings of the last round.
    pub(crate) fn tuning(&self) -> TrainingSettings {
        let mut training = self.training.clone();
        training.length = self.tune_length.unwrap_or(training.length);
        training.learning_rate = self.tune_lr.unwrap_or(training.learning_rate);
        training
    }

    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if !(0.0..1.0).contains(&self.sparsity) {
            let reason =
                format!("{} is not a share of the weights: give 0 or more and less than 1", self.sparsity);
            return Err(CompressError::Setting { name: "sparsity", reason });
        }
        if !(1..=1000).contains(&self.prune_steps) {
            let reason = format!("{} is not between 1 and 1000", self.prune_steps);
            return Err(CompressError::Setting { name: "prune-steps", reason });
        }
        self.tuning().check()?;
        self.training.check()
    }
}
