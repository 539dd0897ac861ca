//! The figures of a job from file to file.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use slq_compress::Report;

use crate::detect::PreprocessingReport;
use crate::save::Saved;

/// A file that a job wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
    /// For a caffemodel: its description.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prototxt: Option<PathBuf>,
    /// Sentences about what differs from the network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// 4 bytes for every parameter over its size.
    pub ratio: f64,
    /// Largest difference between the outputs of the trained network and of the file read again, as a share of the largest
    /// output; `None` where it was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<f64>,
}

impl Output {
    /// A saved file of a network that takes `dense` bytes at full precision.
    pub fn new(saved: Saved, dense: u64) -> Self {
        let ratio = dense as f64 / saved.file_bytes.max(1) as f64;
        Self {
            path: saved.path,
            file_bytes: saved.file_bytes,
            prototxt: saved.prototxt,
            notes: saved.notes,
            ratio,
            verified: None,
        }
    }
}

/// The report of a job with the files it wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobReport {
    /// The figures of the stages.
    #[serde(flatten)]
    pub report: Report,
    /// The files.
    pub outputs: Vec<Output>,
    /// Preprocessing of the images, and where it comes from.
    pub preprocessing: Option<PreprocessingReport>,
    /// Directory of the checkpoints, where there are any.
    pub run_dir: Option<PathBuf>,
}
