//! Quantization: which weights move onto codebooks, of how many values, and when. One folder a method.
//!
//! [`settings`] says what is quantized and by which method, [`select`] turns that into layers, [`stage`] runs a
//! method's rounds. `choices`, `layer`, `state`, `clustering`, `guides`, `schedule`, `importance` and `correction` serve
//! all methods.

pub mod calibrate;
mod centroids;
pub(crate) mod choices;
pub(crate) mod clustering;
mod correction;
mod coverage;
mod deep_compression;
mod guides;
mod importance;
mod inq;
pub(crate) mod kmeans;
pub(crate) mod layer;
mod method;
mod mlq;
mod once;
pub(crate) mod outcome;
mod rounds;
mod schedule;
pub(crate) mod select;
pub(crate) mod sensitivity;
pub(crate) mod settings;
mod shared;
mod slq;
pub(crate) mod stage;
mod state;
pub(crate) mod tune;

pub use calibrate::{CalibrateSettings, CalibrationPart, CalibrationReport, Tuned};
pub use choices::{CodebookKind, Granularity, Initialisation, LayerRule, Weighting};
pub use coverage::{Coverage, NotQuantized};
pub use deep_compression::{DeepCompressionSettings, PruneRule};
pub use inq::InqSettings;
pub use kmeans::KmeansSettings;
pub use layer::Layer;
pub use method::{Method, MethodName};
pub use mlq::{Advance, LayerOrder, MlqSettings};
pub use schedule::{check_schedule, default_schedule};
pub use select::{select_layers, turned};
pub use sensitivity::{
    ClusterSensitivity, Estimate, LayerSensitivity, Sensitivity, SensitivityOptions, sensitivity,
};
pub use settings::Quantize;
pub use slq::{PartitionRule, PartitionScope, SlqSettings};
