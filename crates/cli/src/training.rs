//! Flags of everything that trains.

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value};
use slq::engine::schedule::LearningRate;
use slq::methods::TrainingSettings;

use crate::batch::BatchSize;
use crate::number::finite;

/// Settings of SGD, under the names of [`TrainingSettings`]. Anything not given keeps the default of the job at hand.
#[derive(Args, Clone, Debug, Default, Serialize)]
#[command(next_help_heading = "Training")]
#[serde(rename_all = "kebab-case")]
pub(crate) struct TrainingArgs {
    /// Base learning rate [default: 0.01 in train and decompose; by network and data in compress]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", allow_negative_numbers = true)]
    lr: Option<f64>,
    /// fixed, step:GAMMA:STEP, multistep:GAMMA:STEP:STEP.., exp:GAMMA, inv:GAMMA:POWER, poly:POWER:MAX,
    /// sigmoid:GAMMA:STEP, or cosine[:MAX] [default: cosine]
    #[arg(long, value_name = "POLICY", value_parser = policy, hide_short_help = true)]
    lr_policy: Option<String>,
    /// Images in a step, or auto [default: 64; 128 in compress with batch-norm, 16 for few images]
    ///
    /// auto: the default; where it does not fit into memory, a step adds up the gradients of the largest equal parts that do.
    #[arg(long, value_name = "N|auto", hide_short_help = true)]
    #[serde(skip_serializing_if = "BatchSize::is_open")]
    pub(crate) batch: Option<BatchSize>,
    /// Momentum [default: 0.9]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", allow_negative_numbers = true, hide_short_help = true)]
    momentum: Option<f64>,
    /// Weight decay [default: 0.0005; 0.0001 in compress with batch-norm]
    #[arg(long, value_parser = finite::<f64>, value_name = "X", allow_negative_numbers = true, hide_short_help = true)]
    weight_decay: Option<f64>,
    /// Nesterov's form of momentum
    #[arg(long, hide_short_help = true)]
    #[serde(skip_serializing_if = "is_false")]
    nesterov: bool,
    /// Arithmetic of a step: Caffe's (the rate enters the momentum) or PyTorch's [default: caffe]
    #[arg(long, value_name = "RULE", hide_short_help = true)]
    update_rule: Option<RuleName>,
    /// Bound on the global norm of the gradient [default: none]
    #[arg(long, value_parser = finite::<f32>, value_name = "NORM", hide_short_help = true)]
    clip_gradients: Option<f32>,
    /// Keep the running statistics of batch-norm while training [default: for fewer than 5000 images in compress]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", hide_short_help = true)]
    #[serde(rename = "batch-norm", serialize_with = "frozen", skip_serializing_if = "Option::is_none")]
    freeze_batch_norm: Option<bool>,
    /// On several processes, batch-norm by the statistics of the whole batch, not of each process's share
    #[arg(long, conflicts_with = "freeze_batch_norm", hide_short_help = true)]
    #[serde(skip)]
    sync_batch_norm: bool,
    /// Learn from the float network's outputs, not from labels; 0 learns from labels
    ///
    /// At this temperature [default: 4 in compress with slq and mlq; 1 where no number is given].
    #[arg(long, value_parser = finite::<f32>, value_name = "T", num_args = 0..=1, default_missing_value = "1")]
    distill: Option<f32>,
}

#[derive(ValueEnum, Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum RuleName {
    Caffe,
    Pytorch,
}

/// Checks a policy; its text is what the settings hold.
fn policy(text: &str) -> Result<String, String> {
    let policy: LearningRate = text.parse().map_err(|e: slq::engine::EngineError| e.to_string())?;
    Ok(policy.to_string())
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

fn frozen<S: serde::Serializer>(frozen: &Option<bool>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(if *frozen == Some(true) { "frozen" } else { "train" })
}

/// Learning rate of trainings at full precision, unless another is given.
const FLOAT_RATE: f64 = 0.01;

impl TrainingArgs {
    /// The settings of a training at full precision.
    pub(crate) fn float(&self) -> Result<TrainingSettings, slq::Error> {
        self.settings(TrainingSettings { learning_rate: FLOAT_RATE, ..TrainingSettings::default() })
    }

    /// The given flags as settings by name.
    pub(crate) fn table(&self) -> Map<String, Value> {
        let mut table: Map<String, Value> = match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields.into_iter().filter(|(_, v)| !v.is_null()).collect(),
            _ => Map::new(),
        };
        if self.sync_batch_norm {
            table.insert("batch-norm".into(), "sync".into());
        }
        table
    }

    /// `base` with every given flag on top.
    pub(crate) fn settings(&self, base: TrainingSettings) -> Result<TrainingSettings, slq::Error> {
        let fail = |e: serde_json::Error| slq::Error::Argument(e.to_string());
        let mut all = serde_json::to_value(base).map_err(fail)?;
        if let Value::Object(fields) = &mut all {
            fields.extend(self.table());
        }
        serde_json::from_value(all).map_err(fail)
    }
}

#[cfg(test)]
mod tests {
    use slq::engine::{BatchNormMode, UpdateRule};

    use super::*;

    #[test]
    fn given_flags_replace_settings_and_others_stay() {
        let args = TrainingArgs {
            lr: Some(0.5),
            lr_policy: Some("step:0.1:200".into()),
            update_rule: Some(RuleName::Pytorch),
            freeze_batch_norm: Some(true),
            distill: Some(4.0),
            ..TrainingArgs::default()
        };
        let base = TrainingSettings { batch: 7, ..TrainingSettings::default() };
        let found = args.settings(base.clone()).unwrap();
        let expected = TrainingSettings {
            learning_rate: 0.5,
            lr_policy: LearningRate::Step { gamma: 0.1, stepsize: 200 },
            rule: UpdateRule::PyTorch,
            batch_norm: BatchNormMode::Frozen,
            distill: Some(4.0),
            ..base.clone()
        };
        assert_eq!(found, expected);
        assert_eq!(TrainingArgs::default().settings(base.clone()).unwrap(), base);
        let sync = TrainingArgs { sync_batch_norm: true, ..TrainingArgs::default() };
        assert_eq!(sync.settings(base.clone()).unwrap().batch_norm, BatchNormMode::Sync);
    }
}
