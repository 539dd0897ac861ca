//! Settings of a training. The names in a recipe are those of the flags.

use serde::{Deserialize, Deserializer, Serialize};
use slq_engine::schedule::LearningRate;
use slq_engine::{BatchNormMode, Head, Penalty, UpdateRule};
use slq_graph::Graph;
use slq_graph::fold::has_collapsed_batch_norms;

use crate::error::CompressError;

/// Length of one training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Steps of one batch each.
    Iterations(u64),
    /// Passes over the training images; fractions allowed.
    Epochs(f64),
}

impl Length {
    /// Steps of `batch` images over a training set of `images`.
    pub fn steps(self, images: usize, batch: usize) -> u64 {
        match self {
            Length::Iterations(n) => n,
            // Saturates: an absurd number of epochs is an absurd number of steps, not a crash.
            Length::Epochs(e) => (e * images as f64 / batch as f64).round().max(0.0) as u64,
        }
    }
}

/// Values that are written as their text form.
mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A temperature; 0 is none.
fn temperature<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f32>, D::Error> {
    Ok(Option::<f32>::deserialize(from)?.filter(|t| *t != 0.0))
}

/// Settings of SGD: of one round of re-training, or of a whole training.
///
/// Defaults: one epoch, rate 1e-3 falling along a cosine, batch 64, momentum 0.9, weight decay 5e-4 on the squared
/// weights, Caffe's update rule, batch statistics in batch-norm, labels as targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Length: of one round of a method that trains in rounds, else of the whole training.
    pub length: Length,
    /// Base learning rate.
    #[serde(rename = "lr")]
    pub learning_rate: f64,
    /// How the rate changes over [`length`](Self::length).
    #[serde(with = "text")]
    pub lr_policy: LearningRate,
    /// Images in a step.
    pub batch: usize,
    /// Momentum.
    pub momentum: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// What the weight decay multiplies.
    pub penalty: Penalty,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// Arithmetic of a step: Caffe's (the rate enters the momentum) or PyTorch's.
    #[serde(rename = "update-rule")]
    pub rule: UpdateRule,
    /// Bound on the gradient's global norm.
    pub clip_gradients: Option<f32>,
    /// Batches in a step: their gradients are summed, and the sum is divided by this.
    pub iter_size: usize,
    /// Outputs with a loss and their weights; none stands for the first output alone.
    pub heads: Vec<Head>,
    /// Steps between measurements of the test accuracy during the training, which are reported and never used for a choice.
    pub test_interval: Option<u64>,
    /// Whether batch-norm uses statistics of a process's share of the batch while training (`train`) or of the whole batch
    /// (`sync`), or stays frozen.
    pub batch_norm: BatchNormMode,
    /// Temperature of distillation from the float network; `None`, which a recipe may write as 0, trains on labels.
    #[serde(deserialize_with = "temperature")]
    pub distill: Option<f32>,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            length: Length::Epochs(1.0),
            learning_rate: 1e-3,
            lr_policy: LearningRate::Cosine { max: 0 },
            batch: 64,
            momentum: 0.9,
            weight_decay: 5e-4,
            nesterov: false,
            rule: UpdateRule::Caffe,
            penalty: Penalty::L2,
            clip_gradients: None,
            iter_size: 1,
            heads: Vec::new(),
            test_interval: None,
            batch_norm: BatchNormMode::Train,
            distill: None,
        }
    }
}

impl TrainingSettings {
    /// Images of one step: [`batch`](Self::batch) times [`iter_size`](Self::iter_size).
    pub fn images_per_step(&self) -> usize {
        self.batch * self.iter_size
    }

    /// Steps of the training on `images` images.
    pub fn steps(&self, images: usize) -> u64 {
        self.length.steps(images, self.images_per_step())
    }

    /// Checks that `graph` can be trained with these settings: batch-norms that have lost their statistics
    /// ([`collapse_batch_norms`](slq_graph::fold::collapse_batch_norms)) compute something else on those of a batch.
    ///
    /// # Errors
    /// [`CompressError::Setting`].
    pub fn check_norms(&self, graph: &Graph) -> Result<(), CompressError> {
        if self.batch_norm == BatchNormMode::Frozen || !has_collapsed_batch_norms(graph) {
            return Ok(());
        }
        let reason = "the network's batch-norms have lost their statistics (--collapse-batch-norm): train the network from \
                      before that, or keep them as they are (--freeze-batch-norm)";
        Err(CompressError::Setting { name: "batch-norm", reason: reason.into() })
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the setting that is out of range.
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
        if !(1..=1 << 16).contains(&self.iter_size) {
            return bad("iter_size", format!("{} is not between 1 and 65536", self.iter_size));
        }
        if self.test_interval == Some(0) {
            return bad("test_interval", "0 iterations between tests".into());
        }
        if let Some(t) = self.distill.filter(|t| !(t.is_finite() && *t > 0.0)) {
            return bad("distill", format!("temperature {t} is not positive"));
        }
        match self.length {
            Length::Epochs(e) if !(e.is_finite() && (0.0..=1e6).contains(&e)) => {
                bad("epochs", format!("{e} is not between 0 and a million"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_become_steps_and_count_every_batch_of_a_step() {
        assert_eq!(Length::Epochs(2.0).steps(60_000, 64), 1875);
        assert_eq!(Length::Iterations(7).steps(10, 64), 7);
        let four = TrainingSettings { batch: 16, iter_size: 4, ..TrainingSettings::default() };
        assert_eq!(four.steps(640), 10);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let base = TrainingSettings::default;
        let cases = [
            ("batch", TrainingSettings { batch: 0, ..base() }),
            ("lr", TrainingSettings { learning_rate: f64::NAN, ..base() }),
            ("momentum", TrainingSettings { momentum: 1.0, ..base() }),
            ("epochs", TrainingSettings { length: Length::Epochs(-1.0), ..base() }),
            ("epochs", TrainingSettings { length: Length::Epochs(f64::NAN), ..base() }),
            ("distill", TrainingSettings { distill: Some(0.0), ..base() }),
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
