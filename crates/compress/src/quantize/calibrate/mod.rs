//! Calibration without labels: few bits from a few hundred unlabelled inputs.

pub mod matrix;
mod network;
mod probe;
mod random;
mod settings;
pub(crate) mod stage;
mod tuning;

pub use crate::error::CalibrateError;
pub use network::{
    Calibrated, Job, LayerDone, LayerReport, LayerSpec, NetworkOptions, Outcome, State, calibrate,
    input_importance, jitter,
};
pub use settings::{CalibrateSettings, CalibrationPart};
pub use stage::CalibrationReport;
pub use tuning::Tuned;
