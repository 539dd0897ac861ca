//! Training: settings, one loop, distillation, evaluation. Every stage of a recipe that trains does it here.

mod data;
mod distill;
mod evaluate;
mod following;
mod full_precision;
mod held_out;
mod keep;
mod processes;
mod retrain;
mod settings;
mod sizes;

pub use data::{TrainingData, check_fit};
pub(crate) use data::{check_trainable, evaluator, executor, options};
pub(crate) use distill::teacher;
pub use evaluate::evaluate;
pub(crate) use evaluate::evaluate_shared;
pub use following::{Following, OutputWeight};
pub(crate) use full_precision::train_kept;
pub use full_precision::{FineTuneReport, SnapshotWriter, Standing, TrainOptions, Trained, train};
pub(crate) use held_out::HeldOut;
pub(crate) use keep::{Between, Home, Keep, Moment, Nothing};
pub(crate) use processes::share_out;
pub(crate) use retrain::{Course, Part, Span, advance, retrain};
pub use settings::{Length, TrainingSettings};
pub use sizes::sized;
