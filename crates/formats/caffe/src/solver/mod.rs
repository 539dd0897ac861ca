//! Solver files: how a net is trained.

mod read;
mod settings;

pub use read::read_solver;
pub use settings::{
    LrPolicy, NetFile, Regularization, SnapshotSettings, SolverKind, SolverSettings, TestSettings,
};
