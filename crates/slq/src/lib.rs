//! Makes trained neural networks small: moves their weights onto a few shared values, round by round, and re-trains the
//! weights that are still free, so that accuracy stays.
//!
//! The whole job, on the built-in sample (10 000 images of MNIST and a LeNet trained on them):
//!
//! ```no_run
//! use slq::{Job, Quantize};
//!
//! # fn main() -> Result<(), slq::Error> {
//! let (model, data) = slq::sample()?; // or Model::open("net.onnx") and Dataset::open("images.zip")
//! let done = Job::new(Quantize::slq(4)).data(&data).run(&model)?;
//! if let (Some(before), Some(after)) = (done.report.baseline, done.report.final_accuracy) {
//!     println!("top-1 {:.4} -> {:.4}, {:.1}x smaller", before.top1, after.top1, done.report.size.ratio);
//! }
//! done.model.save("lenet-4bit.onnx")?;
//! # Ok(())
//! # }
//! ```
//!
//! [`guide`] has five short programs. The crate is a facade over smaller ones, each with one job: [`codebook`] clusters
//! values in one dimension, [`graph`] holds networks, [`engine`] runs and differentiates them, [`data`] reads datasets,
//! [`methods`] has the settings and reports of the methods. The `slq` program is a thin layer over this library.

#![forbid(unsafe_code)]
#![allow(clippy::needless_doctest_main)]

pub mod arrays;
mod batches;
pub mod caffe;
mod calibration;
mod capability;
mod dataset;
mod detect;
mod error;
mod examples;
pub mod guide;
mod infer;
mod input_shape;
mod integers;
mod job;
mod model;
mod outputs;
mod packed;
pub mod preprocessing;
mod sample;
mod save;
pub mod solver;
mod verify;

pub use slq_codebook as codebook;
pub use slq_compress as methods;
pub use slq_data as data;
pub use slq_engine as engine;
pub use slq_graph as graph;
pub use slq_runtime as runtime;

pub use calibration::CalibrationInputs;
pub use dataset::{DataOptions, Dataset, Prepared};
pub use error::Error;
pub use input_shape::InputShape;
pub use integers::Measured;
pub use job::{Done, Inputs, Job, JobFile, JobReport};
pub use model::{Model, ModelName, Source};
pub use packed::PackedModel;
pub use sample::sample;
pub use save::{SaveOptions, Saved};
pub use slq_compress::{
    Accuracy, Budget, Decompose, Event, FineTune, Granularity, Length, Method, Observer, Quantize, Recipe,
    Report, Silent, Stage, Tune,
};
pub use slq_data::Transform;
pub use slq_engine::Isa;

/// Preprocessing that was detected, and where preprocessing comes from.
pub mod detection {
    pub use crate::detect::{
        Augmentation, Detected, Detection, Preprocessing, PreprocessingReport, PreprocessingSource, detect,
        detect_augmentation, detect_by_statistics,
    };
}

/// Job files and their parts.
pub mod jobs {
    pub use crate::job::{
        Asked, FORMAT, FileOptions, Known, Lengths, Output, Preset, RECIPE, REPORT, check_unused,
        setting_names, stages, suit_runtime,
    };
    pub use slq_compress::{
        Effort, FittedBatch, JobEstimate, LoweredRate, Reference, Situation, check_network, estimate,
        fit_batches, fit_training, narrow_batches, recommended, suit_rate, whole_batches,
    };
}

/// Several processes that do one job together.
pub mod processes {
    pub use slq_reduce::{Alone, ReduceError, Reducer};
}

/// Inference: evaluating, predicting, running, timing.
pub mod inference {
    pub use crate::batches::{examples, fitting_batch, run_in_batches};
    pub use crate::capability::{Capability, Possible};
    pub use crate::infer::{
        Speed, evaluate_model, evaluate_on, image_split, image_tensor, measure_forward, measure_speed,
        predict, predict_on, run_model, run_session, split_tensor,
    };
}

/// Files: outputs, planned before the work, and datasets.
pub mod files {
    pub use crate::integers::check_int8;
    pub use crate::outputs::{Planned, check_folder, check_no_model, check_output, check_paths, plan_models};
    pub use crate::save::{Activations, BatchNorms, Floats, Runtime, write_lmdb, write_npz};
    pub use crate::verify::{TOLERANCE, VERIFIED_BYTES, Verified, not_readable, verify};
    pub use slq_coreml::Widths;
    pub use slq_file::write_atomically;
}
