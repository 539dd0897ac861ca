//! LMDB databases of Caffe's `Datum`, through the LMDB library.
//!
//! [`check`] walks a database's pages before the library maps them, [`datum`] decodes the message, [`entries`] holds an
//! open database, [`read`] makes a split of one and [`write`] a database of a dataset.

mod check;
mod datum;
pub(crate) mod entries;
#[allow(unsafe_code)]
mod environment;
pub(crate) mod folder;
mod read;
mod write;

pub use write::write_lmdb;
