//! Jobs: a [`Recipe`] of stages, the driver that runs it, checkpoints it and resumes it, and its [`Report`].

mod driver;
mod recipe;
mod report;

pub use driver::{CHECKPOINT_EVERY, Outcome, RunOptions, check, run};
pub use recipe::{FineTune, Recipe, Stage};
pub use report::{Report, StageReport, Warning};
