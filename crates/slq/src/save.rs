//! Writing models and datasets.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{Model, Source};
use crate::{Error, preprocessing};

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub file_bytes: u64,
}

/// How a model is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct SaveOptions {
    /// Keep ONNX weights as float32.
    pub dense: bool,
    /// For a caffemodel: describe the shapes of blobs by four extents, as files before 2015 did.
    pub legacy_blobs: bool,
}

impl Model {
    /// Writes the model in the format that the ending of `path` names, with its preprocessing. The file is read back and
    /// compared before it takes the place of what was there.
    ///
    /// # Errors
    /// [`Error::UnknownOutput`] for an unknown ending, otherwise the error of the format's writer.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<Saved, Error> {
        self.save_with(path, &SaveOptions::default())
    }

    /// As [`Model::save`], with options of the format.
    ///
    /// # Errors
    /// As [`Model::save`].
    pub fn save_with(&self, path: impl AsRef<Path>, options: &SaveOptions) -> Result<Saved, Error> {
        save(self, path.as_ref(), options)
    }
}

fn save(model: &Model, path: &Path, options: &SaveOptions) -> Result<Saved, Error> {
    let mut graph = std::borrow::Cow::Borrowed(&model.graph);
    let mut source = None;
    if let Source::Caffe(files) = &model.source {
        let (finished, from) = files.finished(&model.graph);
        (graph, source) = (finished, Some(from));
    }
    if let Some(transform) = &model.transform {
        preprocessing::store(graph.to_mut(), transform);
    }
    match path.extension().and_then(OsStr::to_str) {
        Some("onnx") => {
            slq_onnx::write(&graph, path, &slq_onnx::WriteOptions { dense: options.dense })?;
        }
        Some("caffemodel") => {
            let prototxt = Some(path.with_extension("prototxt"));
            let legacy_blobs = options.legacy_blobs;
            slq_caffe::write(&graph, path, &slq_caffe::WriteOptions { prototxt, source, legacy_blobs })?;
        }
        Some("safetensors") => slq_safetensors::write(&graph, path)?,
        Some("slq") => {
            slq_pack::write(&graph, path, &slq_pack::WriteOptions::default())?;
        }
        _ => return Err(Error::UnknownOutput(path.into())),
    }
    measure(path)
}

/// Writes a dataset as an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
///
/// # Errors
/// [`Error::Data`] for images that cannot be read or a disk that refuses.
pub fn write_npz(dataset: &slq_data::Dataset, path: &Path) -> Result<Saved, Error> {
    slq_data::write_npz(dataset, path)?;
    measure(path)
}

/// Writes a dataset as LMDB databases for Caffe, in the folder `path`; see [`slq_data::write_lmdb`].
///
/// # Errors
/// [`Error::Data`] for images that cannot be read or a disk that refuses.
pub fn write_lmdb(dataset: &slq_data::Dataset, path: &Path, seed: u64) -> Result<Saved, Error> {
    slq_data::write_lmdb(dataset, path, seed)?;
    let parts = [path.join("data.mdb"), path.join("train/data.mdb"), path.join("test/data.mdb")];
    let file_bytes = parts.iter().filter_map(|p| p.metadata().ok()).map(|m| m.len()).sum();
    Ok(Saved { path: path.into(), file_bytes })
}

fn measure(path: &Path) -> Result<Saved, Error> {
    let found =
        std::fs::metadata(path).map_err(|e| Error::File { path: path.into(), reason: e.to_string() })?;
    Ok(Saved { path: path.into(), file_bytes: found.len() })
}

/// Checks that [`Model::save`] knows the ending of `path` and that its folder exists; for use before a long training.
///
/// # Errors
/// [`Error::UnknownOutput`]; [`Error::File`] where the folder does not exist.
pub fn check_output(path: &Path) -> Result<(), Error> {
    match path.extension().and_then(OsStr::to_str) {
        Some("onnx" | "caffemodel" | "safetensors" | "slq") => {}
        _ => return Err(Error::UnknownOutput(path.into())),
    }
    match path.parent().filter(|p| !p.as_os_str().is_empty()) {
        Some(folder) if !folder.is_dir() => {
            Err(Error::File { path: path.into(), reason: "its folder does not exist".into() })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_checked_before_the_work() {
        assert!(matches!(check_output(Path::new("x.h5")), Err(Error::UnknownOutput(_))));
        assert!(matches!(check_output(Path::new("no/such/folder/x.onnx")), Err(Error::File { .. })));
        assert!(check_output(Path::new("x.onnx")).is_ok());
    }
}
