//! A file beside the model that holds the data of its large tensors.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use slq_file::NamedTempFile;

use crate::element;
use crate::error::OnnxError;
use crate::proto::{KeyValue, TensorProto};

/// Tensors of up to this many bytes stay in the model.
const SMALL: usize = 1024;
/// Tensors begin at multiples of this many bytes, so that a runtime can map them.
const ALIGNMENT: u64 = 4096;
/// How many names are tried.
const NAMES: usize = 10_000;

/// The data file of a model that is being written.
pub struct DataFile {
    file: BufWriter<NamedTempFile>,
    path: PathBuf,
    location: String,
    offset: u64,
    /// Files with names of data files of this model that were there before.
    pub others: Vec<PathBuf>,
}

impl DataFile {
    /// For a model at `model`: `NAME.data` beside it, or, where there is such a file, the first of `NAME.2.data`, `NAME.3.data` …
    /// that is not there. No file is ever replaced: it may hold the weights of the model that is, or of another.
    pub fn beside(model: &Path) -> Result<Self, OnnxError> {
        let target = slq_file::target(model)?;
        if std::fs::metadata(&target).is_ok_and(|found| !found.is_file()) {
            return Err(OnnxError::NotAFile);
        }
        let stem = target.file_name().and_then(|n| n.to_str()).ok_or(OnnxError::DataName)?;
        let name = |i: usize| if i < 2 { format!("{stem}.data") } else { format!("{stem}.{i}.data") };
        let mut others = Vec::new();
        for location in (1..NAMES).map(name) {
            let path = target.with_file_name(&location);
            if path.symlink_metadata().is_ok() {
                others.push(path);
                continue;
            }
            let file = BufWriter::with_capacity(1 << 20, slq_file::temporary_beside(&path)?);
            return Ok(Self { file, path, location, offset: 0, others });
        }
        Err(OnnxError::DataName)
    }

    /// The tensor with its data in this file, unless it is small or of a type that is only read from the model itself.
    pub fn put(&mut self, mut tensor: TensorProto) -> Result<TensorProto, OnnxError> {
        let known = tensor.data_type.and_then(element::dtype).is_some();
        let Some(raw) = tensor.raw_data.take_if(|raw| known && raw.len() > SMALL) else { return Ok(tensor) };
        let start = self.offset.next_multiple_of(ALIGNMENT);
        let padding = usize::try_from(start - self.offset).unwrap_or_default();
        self.file.write_all(&[0; ALIGNMENT as usize][..padding])?;
        self.file.write_all(&raw)?;
        self.offset = start + raw.len() as u64;
        let entry = |key: &str, value: String| KeyValue { key: Some(key.into()), value: Some(value) };
        tensor.data_location = Some(1);
        tensor.external_data = vec![
            entry("location", self.location.clone()),
            entry("offset", start.to_string()),
            entry("length", raw.len().to_string()),
        ];
        Ok(tensor)
    }

    /// Gives the file its name, if anything is in it; it is removed again unless it is [kept](Written::keep).
    pub fn finish(self) -> Result<Written, OnnxError> {
        let file = self.file.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let path = if self.offset > 0 {
            slq_file::persist_new(file, &self.path)?;
            Some(self.path)
        } else {
            None
        };
        Ok(Written { path, bytes: self.offset })
    }
}

/// A complete data file of a model that is not.
pub struct Written {
    path: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
}

impl Written {
    /// Leaves the file where it is.
    pub fn keep(mut self) -> Option<PathBuf> {
        self.path.take()
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // The error that ends the writing matters more.
            let _ = std::fs::remove_file(path);
        }
    }
}
