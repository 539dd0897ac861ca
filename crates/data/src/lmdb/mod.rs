//! LMDB databases of Caffe's `Datum`, through the LMDB library.
//!
//! [`check`] walks a database's pages before the library maps them, [`datum`] knows the message, [`read`] makes a
//! split of a database and [`write`] a database of a dataset.

mod check;
mod datum;
#[allow(unsafe_code)]
mod environment;
mod read;
mod write;

use std::path::{Path, PathBuf};

use heed::Database;
use heed::types::Bytes;

use crate::DataError;

use environment::environment;
pub(crate) use read::{Entries, open};
pub use write::write_lmdb;

/// The one unnamed database of an environment.
type Images = Database<Bytes, Bytes>;

/// The file that holds a database, if `path` is one: a folder with `data.mdb` in it.
pub(crate) fn file_of(path: &Path) -> Option<PathBuf> {
    let file = path.join("data.mdb");
    file.is_file().then_some(file)
}

fn fault(path: &Path, problem: impl std::fmt::Display) -> DataError {
    DataError::Lmdb { path: path.into(), problem: problem.to_string() }
}
