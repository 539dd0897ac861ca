//! Makes trained networks small: moves their weights onto a few shared values, round by round, and re-trains the weights
//! that are still free, so that accuracy stays; or splits layers into thin ones of low rank.
//!
//! A job is a [`Recipe`] of stages ([`Stage`]), and [`run()`] is the call that runs it: a
//! [`Graph`](slq_graph::Graph) and [`TrainingData`] in, the changed graph and a [`Report`] out. Folders, from the bottom
//! up: `progress` (events and figures), `train` (one training loop), `checkpoint`, `quantize` (one folder a method),
//! `low_rank`, `search` (budgets), `run` (recipes and their driver).

#![forbid(unsafe_code)]

mod allocation;
mod budget;
mod checkpoint;
mod context;
mod control;
mod damage;
mod error;
mod inputs;
mod low_rank;
mod outputs;
mod processes;
mod progress;
mod quantize;
mod run;
mod search;
mod size;
mod train;

pub use budget::Budget;
pub use context::CHECKPOINT_EVERY;
pub use damage::{Damage, LEAST_SNR, MOST_KL, OutputDamage, compare_outputs};
pub use error::CompressError;
pub use inputs::{InputError, Inputs, Origin, SmallBatches, SplitInputs, rows};
pub use low_rank::{
    Change, Cost, Decompose, DecomposeReport, FactorReport, Flops, LayerRank, RankChoice, RankOverride,
    RankRuleFor, Scheme, TrpReport, TrpSettings, WholeLayer, network_cost,
};
pub use progress::{Accuracy, Event, Observer, Reference, RoundReport, Silent, Trial};
pub use quantize::calibrate;
pub use quantize::outcome::QuantizeReport;
pub use quantize::tune::Tune;
pub use quantize::{
    Advance, CalibrateSettings, CalibrationPart, CalibrationReport, ClusterSensitivity, CodebookKind,
    Coverage, DeepCompressionSettings, Estimate, Granularity, Initialisation, InqSettings, KmeansSettings,
    Layer, LayerOrder, LayerRule, LayerSensitivity, Method, MethodName, MlqSettings, NotQuantized,
    PartitionRule, PartitionScope, PruneRule, Quantize, Sensitivity, SensitivityOptions, SlqSettings, Tuned,
    Weighting, check_schedule, default_schedule, select_layers, sensitivity, turned,
};
pub use run::{
    Effort, FineTune, FittedBatch, JobEstimate, LoweredRate, Outcome, Recipe, Report, RunOptions, Situation,
    Stage, StageReport, Warning, check, check_network, estimate, fit_batches, fit_training, narrow_batches,
    recommended, run, suit_rate, whole_batches,
};
pub use search::SearchReport;
pub use size::{FileBytes, FileSize, Size};
pub use slq_lowrank::RankRule;
pub use train::{
    FineTuneReport, Following, Length, OutputWeight, SnapshotWriter, Standing, TrainOptions, Trained,
    TrainingData, TrainingSettings, check_fit, evaluate, sized, train,
};
