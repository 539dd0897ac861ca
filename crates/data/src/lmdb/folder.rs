//! The folder of a database.

use std::path::{Path, PathBuf};

use heed::Database;
use heed::types::Bytes;

use crate::DataError;

/// The one unnamed database of an environment.
pub(crate) type Images = Database<Bytes, Bytes>;

/// The file that holds a database, if `path` is one: a folder with `data.mdb` in it.
pub(crate) fn file_of(path: &Path) -> Option<PathBuf> {
    let file = path.join("data.mdb");
    file.is_file().then_some(file)
}

/// An error about the database at `path`.
pub(crate) fn fault(path: &Path, problem: impl std::fmt::Display) -> DataError {
    DataError::Lmdb { path: path.into(), problem: problem.to_string() }
}
