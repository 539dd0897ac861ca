//! Calibration without labels: few bits from a few hundred unlabelled inputs.

mod error;
pub mod matrix;
mod network;

pub use error::CalibrateError;
pub use network::{
    Calibrated, Inputs, Job, LayerDone, LayerReport, LayerSpec, NetworkOptions, Outcome, State, calibrate,
};
