//! LMDB databases of Caffe's `Datum`, through the LMDB library.
//!
//! [`check`] walks a database's pages before the library maps them, [`datum`] knows the message, [`read`] makes a
//! split of a database and [`write`] a database of a dataset.

mod check;
mod datum;
mod read;
mod write;

use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{Database, Env, EnvFlags, EnvOpenOptions, WithoutTls};

use crate::DataError;

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

/// Opens the environment in `folder`, with `bytes` of address space. Nothing is locked: what is read is not written to
/// meanwhile, and what is written nobody else knows yet; so no lock file is left behind.
fn environment(folder: &Path, bytes: u64, extra: EnvFlags) -> Result<Env<WithoutTls>, heed::Error> {
    // LMDB wants whole pages of the machine; 64 KiB is a multiple of any.
    let size = usize::try_from(bytes.next_multiple_of(1 << 16)).unwrap_or(usize::MAX >> 16 << 16);
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size);
    // SAFETY: without locks there must be a single process that writes, and no reader meanwhile; see above.
    unsafe { options.flags(EnvFlags::NO_LOCK | extra) };
    // SAFETY: the file is mapped; that it is not cut off or changed while it is open is asked of the user, as of all
    // users of LMDB. What lies in it has been checked where it came from elsewhere.
    unsafe { options.open(folder) }
}
