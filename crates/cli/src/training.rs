//! Flags of everything that trains.

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use slq::{BatchNormMode, LearningRate, TrainingSettings, UpdateRule};

/// Settings of SGD. Anything not given keeps the default of the job at hand.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct TrainingArgs {
    /// Base learning rate [default: 0.001]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// fixed, step:GAMMA:STEP, multistep:GAMMA:STEP:STEP.., exp:GAMMA, inv:GAMMA:POWER, poly:POWER:MAX,
    /// sigmoid:GAMMA:STEP, or cosine[:MAX] [default: cosine]
    #[arg(long, value_name = "POLICY", value_parser = policy)]
    lr_policy: Option<LearningRate>,
    /// Images in a step [default: 64]
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// Momentum [default: 0.9]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    momentum: Option<f64>,
    /// Weight decay [default: 0.0005]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f64>,
    /// Nesterov's form of momentum
    #[arg(long)]
    nesterov: bool,
    /// Whose arithmetic a step follows [default: caffe]
    #[arg(long, value_name = "RULE")]
    update_rule: Option<RuleName>,
    /// Bound on the global norm of the gradient
    #[arg(long, value_name = "NORM")]
    clip_gradients: Option<f32>,
    /// Keep batch-norm at its running statistics while training
    #[arg(long)]
    freeze_batch_norm: bool,
    /// Train towards the float network's outputs, without labels, at this temperature
    #[arg(long, value_name = "T", num_args = 0..=1, default_missing_value = "1")]
    distill: Option<f32>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Serialize, Deserialize)]
enum RuleName {
    Caffe,
    Pytorch,
}

fn policy(text: &str) -> Result<LearningRate, String> {
    text.parse().map_err(|e: slq::EngineError| e.to_string())
}

impl TrainingArgs {
    /// `base` with every given flag on top.
    pub(crate) fn settings(&self, base: TrainingSettings) -> TrainingSettings {
        let rule = self.update_rule.map(|r| match r {
            RuleName::Caffe => UpdateRule::Caffe,
            RuleName::Pytorch => UpdateRule::PyTorch,
        });
        TrainingSettings {
            learning_rate: self.lr.unwrap_or(base.learning_rate),
            lr_policy: self.lr_policy.clone().unwrap_or(base.lr_policy),
            batch: self.batch.unwrap_or(base.batch),
            momentum: self.momentum.unwrap_or(base.momentum),
            weight_decay: self.weight_decay.unwrap_or(base.weight_decay),
            nesterov: self.nesterov || base.nesterov,
            rule: rule.unwrap_or(base.rule),
            clip_gradients: self.clip_gradients.or(base.clip_gradients),
            batch_norm: if self.freeze_batch_norm { BatchNormMode::Frozen } else { base.batch_norm },
            distill: self.distill.or(base.distill),
            ..base
        }
    }
}
