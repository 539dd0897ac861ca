//! Jobs: a [`Recipe`] of stages, the driver that runs it, checkpoints it and resumes it, and its [`Report`].

mod defaults;
mod driver;
mod estimate;
mod fit;
mod rate;
mod recipe;
mod report;

pub use defaults::{Effort, Situation, recommended};
pub use driver::{Outcome, RunOptions, check, check_network, run};
pub use estimate::{JobEstimate, estimate};
pub use fit::{FittedBatch, fit_batches, fit_training, narrow_batches, whole_batches};
pub use rate::{LoweredRate, suit_rate};
pub use recipe::{FineTune, Recipe, Stage};
pub use report::{Report, StageReport, Warning};
