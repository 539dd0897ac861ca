//! How weights are re-trained.

use serde::{Deserialize, Serialize};
use slq_engine::schedule::LearningRate;
use slq_engine::{BatchNormMode, Head, Penalty, UpdateRule};

use crate::choices::{Duration, text};
use crate::error::CompressError;

/// How the free weights are re-trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Length of one re-training (one round, or a whole `slq train`).
    pub duration: Duration,
    /// Base learning rate.
    pub learning_rate: f64,
    /// How the rate changes over one re-training.
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
    /// Whose arithmetic a step follows (method.md, section 8).
    pub rule: UpdateRule,
    /// Bound on the gradient's global norm.
    pub clip_gradients: Option<f32>,
    /// Batches in a step: their gradients are summed, and the sum is divided by this.
    pub iter_size: usize,
    /// Outputs with a loss and their weights; none stands for the first output alone.
    pub heads: Vec<Head>,
    /// Steps between measurements of the test accuracy on the way, which are reported and never read back.
    pub test_interval: Option<u64>,
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
        if !(1..=1 << 16).contains(&self.iter_size) {
            return bad("iter_size", format!("{} is not between 1 and 65536", self.iter_size));
        }
        if self.test_interval == Some(0) {
            return bad("test_interval", "0 iterations between tests".into());
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
