//! Moves the weights of a trained network onto a few shared values, round by round, re-training what is still
//! free, so that accuracy stays.
//!
//! [`compress`] is the main call: a [`Graph`](slq_graph::Graph), [`TrainingData`] and [`Settings`] in, the same
//! graph with a palette on every selected weight out, with a [`Report`] of what each round cost and won. The
//! methods live in folders of their own with the same rooms: SLQ in `slq`, data-free clustering in `kmeans`.
//! [`decompose`] is the other job: it splits layers into thin ones of low rank (folder `lowrank`).

mod calibration;
mod checkpoint;
mod driver;
mod error;
mod fine_tune;
mod kmeans;
mod layers;
mod lowrank;
mod method;
mod observer;
mod report;
mod schedule;
mod settings;
mod slq;
mod training;

pub use calibration::Calibration;
pub use checkpoint::{RunDir, RunState, model_fingerprint};
pub use driver::{Outcome, RunOptions, check, compress};
pub use error::CompressError;
pub use fine_tune::{Trained, train};
pub use layers::{Layer, select_layers};
pub use lowrank::{
    Change, Cost, DecomposeReport, DecomposeSettings, Decomposed, FineTuneReport, Flops, LayerRank,
    RankChoice, RankOverride, RankRuleFor, Scheme, TrpReport, TrpSettings, WholeLayer, decompose,
    network_cost,
};
pub use method::{Method, Stage};
pub use observer::{Event, Observer, Silent};
pub use report::{Accuracy, Report, RoundReport, Size};
pub use schedule::{check_schedule, default_schedule};
pub use settings::{
    Duration, Granularity, Initialisation, LayerRule, MethodName, PartitionRule, PartitionScope, Settings,
    TrainingSettings,
};
pub use training::{Span, TrainingData, check_fit, evaluate, retrain};
