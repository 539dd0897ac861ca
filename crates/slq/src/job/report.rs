//! The figures of a job from file to file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slq_compress::{FittedBatch, Report, Warning};
use slq_engine::Isa;

use crate::Error;
use crate::detect::PreprocessingReport;
use crate::model::Model;
use crate::save::Saved;
use crate::verify::{VERIFIED_BYTES, Verified, not_readable, verify};

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
    /// For an ONNX file of more than 2 GiB: the file beside it that holds its weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// What the format changed or left out, in sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// 4 bytes for every parameter over its size.
    pub ratio: f64,
    /// Largest difference between the outputs of the trained network and of the file read again, as a share of the largest
    /// output; `None` where it was not verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<f64>,
    /// Why it was not verified, unless the caller asked for that. It was compared with the network bit by bit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
}

impl Output {
    /// A saved file of a network that takes `dense` bytes at full precision.
    pub fn new(saved: Saved, dense: u64) -> Self {
        let ratio = dense as f64 / saved.file_bytes.max(1) as f64;
        Self {
            path: saved.path,
            file_bytes: saved.file_bytes,
            prototxt: saved.prototxt,
            data: saved.data,
            notes: saved.notes,
            ratio,
            verified: None,
            unverified: None,
        }
    }
}

impl Output {
    /// A saved file of `model`, which takes so many bytes at full precision, read again and compared with it on `isa`: where
    /// `asked` says so or, where it is `None`, up to [`VERIFIED_BYTES`].
    ///
    /// # Errors
    /// Those of [`verify`].
    pub fn checked(
        model: &Model,
        (saved, dense): (Saved, u64),
        asked: Option<bool>,
        isa: Isa,
    ) -> Result<Self, Error> {
        let output = Self::new(saved.clone(), dense);
        let not = |reason: String| Ok(Self { unverified: Some(reason), ..output.clone() });
        match asked {
            Some(false) => return Ok(output),
            None if saved.file_bytes > VERIFIED_BYTES => return not("it has over 1 GB (--verify)".into()),
            _ => {}
        }
        if !saved.path.is_file() && not_readable(&saved.path).is_none() {
            return not("it is no regular file".into());
        }
        match verify(model, &saved, isa)? {
            Verified::Agrees(difference) => Ok(Self { verified: Some(difference), ..output }),
            Verified::NotRun(reason) => not(reason),
        }
    }

    /// A sentence where it was not run, unless that was asked for.
    pub fn unverified_note(&self) -> Option<String> {
        let reason = self.unverified.as_ref()?;
        Some(format!(
            "{} was compared bit by bit with the network, but not run: {reason}",
            self.path.display()
        ))
    }

    /// A warning for a file that shrank nothing.
    pub fn warning(&self) -> Option<Warning> {
        let message = || {
            format!(
                "{} is larger than the network's weights as 32-bit floats: names, nodes and codebooks of small layers outweigh \
                 what their codes save",
                self.path.display()
            )
        };
        (self.ratio < 1.0).then(|| Warning { kind: "size".into(), message: message() })
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
    /// Batch-norms that were folded before compression, since an output asks for it, see [`crate::JobFile::folds`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub folded_batch_norms: Vec<String>,
    /// How the images of a step went through memory, where `--batch auto` chose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<FittedBatch>,
    /// Directory of the checkpoints, where there are any.
    pub run_dir: Option<PathBuf>,
}

/// Bytes of a report that are read: the largest network has some megabytes.
const LARGEST: u64 = 256 << 20;

impl JobReport {
    /// Reads a report: `report.json` of a run directory, or what `slq compress --json` printed.
    ///
    /// # Errors
    /// [`Error::File`] for a file that is no report.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        let bytes = path.metadata().map_err(|e| fail(e.to_string()))?.len();
        if bytes > LARGEST {
            return Err(fail(format!("it has {bytes} bytes, which no report has")));
        }
        let text = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        serde_json::from_slice(&text).map_err(|e| fail(format!("it is no report of a job: {e}")))
    }

    /// Writes the report.
    ///
    /// # Errors
    /// [`Error::File`] where the disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let fail = |reason: String| Error::File { path: path.into(), reason };
        let text = serde_json::to_vec_pretty(self).map_err(|e| fail(e.to_string()))?;
        slq_file::write_atomically(path, &text).map_err(|e| fail(e.to_string()))
    }
}
