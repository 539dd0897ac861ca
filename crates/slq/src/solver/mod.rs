//! Caffe's solver files: a whole training with its network, data and settings.

mod losses;
mod read;
mod settings;
mod snapshot;

pub use read::{SolverJob, SolverOptions};
pub use snapshot::{Snapshots, resume};
