//! Moves the weights of a trained network onto a few shared values, round by round, re-training what is still
//! free, so that accuracy stays.
//!
//! [`compress`] is the main call: a [`Graph`](slq_graph::Graph), [`TrainingData`] and [`Settings`] in, the same
//! graph with a palette on every selected weight out, with a [`Report`] of what each round cost and won. The
//! methods live in folders of their own: SLQ in `slq`, MLQ in `mlq`, INQ in `inq`, Deep Compression in
//! `deep_compression`, data-free clustering in `kmeans`.
//! [`decompose`] is the other job: it splits layers into thin ones of low rank (folder `lowrank`).

#![forbid(unsafe_code)]

mod budget;
mod calibration;
mod centroids;
mod checkpoint;
mod choices;
mod correction;
mod deep_compression;
mod driver;
mod error;
mod fine_tune;
mod inq;
mod kmeans;
mod layers;
mod lowrank;
mod method;
mod method_settings;
mod mlq;
mod observer;
mod report;
mod schedule;
mod sensitivity;
mod settings;
mod slq;
mod training;
mod training_settings;

pub use budget::{Budget, SearchReport, Trial, compress_within};
pub use calibration::Calibration;
pub use checkpoint::{RunDir, RunState, model_fingerprint};
pub use driver::{Outcome, RunOptions, check, compress};
pub use error::CompressError;
pub use fine_tune::{SnapshotWriter, Standing, TrainOptions, Trained, train, train_with};
pub use layers::{Layer, select_layers};
pub use lowrank::{
    Change, Cost, DecomposeReport, DecomposeSettings, Decomposed, FineTuneReport, Flops, LayerRank,
    RankChoice, RankOverride, RankRuleFor, Scheme, TrpReport, TrpSettings, WholeLayer, decompose,
    network_cost,
};
pub use method::{Method, Stage, Trains};
pub use method_settings::{
    Advance, CodebookKind, LayerOrder, MlqSettings, PruneRule, PruningSettings, TuningSettings, Weighting,
};
pub use observer::{Event, Observer, Silent};
pub use report::{Accuracy, Report, RoundReport, Size};
pub use schedule::{check_schedule, default_schedule};
pub use sensitivity::{
    ClusterSensitivity, Estimate, LayerSensitivity, Sensitivity, SensitivityOptions, sensitivity,
};
pub use settings::{
    Duration, Granularity, Initialisation, LayerRule, MethodName, PartitionRule, PartitionScope, Settings,
    TrainingSettings,
};
pub use training::{Span, TrainingData, check_fit, evaluate, retrain};
