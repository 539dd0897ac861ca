//! Makes trained neural networks small: moves their weights onto a few shared values, round by round,
//! re-training what is still free, so that accuracy stays.
//!
//! The whole job, on the built-in sample (10 000 images of MNIST and a LeNet trained on them):
//!
//! ```no_run
//! use slq::{Duration, RunOptions, SaveOptions, Settings, Silent};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let sample = slq::sample()?; // or slq::open("net.onnx") and a TrainingData of your own
//! let mut settings = Settings { bits: 5, ..Settings::default() };
//! settings.training.duration = Duration::Epochs(2.0);
//! let outcome = slq::compress(sample.graph, Some(&sample.data), &settings, RunOptions::default(), &mut Silent)?;
//! let report = &outcome.report;
//! if let (Some(before), Some(after)) = (report.baseline, report.final_accuracy) {
//!     println!("top-1 {:.4} -> {:.4}, {:.1}x smaller", before.top1, after.top1, report.size.ratio);
//! }
//! slq::save(&outcome.graph, "lenet-5bit.onnx".as_ref(), &SaveOptions::default())?;
//! # Ok(())
//! # }
//! ```
//!
//! This crate is a facade over smaller ones, each with one job: [`codebook`] clusters values in one dimension,
//! [`graph`] holds networks, [`engine`] runs and differentiates them, [`data`] reads datasets, and
//! the methods live in `slq-compress`. The `slq` program is a thin layer over this library.

#![forbid(unsafe_code)]
#![allow(clippy::needless_doctest_main)]

pub mod arrays;
pub mod caffe;
mod error;
mod jobs;
mod model;
pub mod preprocessing;
mod sample;

pub use slq_codebook as codebook;
pub use slq_data as data;
pub use slq_engine as engine;
pub use slq_graph as graph;

pub use error::Error;
pub use jobs::{Speed, evaluate_model, image_tensor, measure_speed, predict, run_model};
pub use model::{Model, ModelName, SaveOptions, Saved, check_output, open, save, write_lmdb, write_npz};
pub use sample::{Sample, sample};
pub use slq_caffe::{Phase as CaffePhase, ReadOptions as CaffeReadOptions, Source as CaffeSource};
pub use slq_compress::{
    Accuracy, Advance, Budget, Change, CodebookKind, CompressError, DecomposeReport, DecomposeSettings,
    Decomposed, Duration, Estimate, Event, Granularity, Initialisation, LayerOrder, LayerRule, MethodName,
    MlqSettings, Observer, Outcome, PartitionRule, PartitionScope, PruneRule, PruningSettings, Report,
    RoundReport, RunOptions, SearchReport, Sensitivity, SensitivityOptions, Settings, Silent, Size, Standing,
    TrainOptions, Trained, TrainingData, TrainingSettings, Trial, TuningSettings, Weighting, check, compress,
    compress_within, decompose, sensitivity, train, train_with,
};
pub use slq_compress::{RankChoice, RankOverride, RankRuleFor, Scheme, TrpSettings};
pub use slq_data::{Dataset, OpenOptions, Resize, Split, Transform};
pub use slq_engine::schedule::LearningRate;
pub use slq_engine::{BatchNormMode, EngineError, Isa, UpdateRule};
pub use slq_file::write_atomically;
pub use slq_graph::Graph;
pub use slq_graph::stats::{Summary, WeightStats, summary as summarize};
pub use slq_lowrank::RankRule;
