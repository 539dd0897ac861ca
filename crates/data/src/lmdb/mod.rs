//! LMDB databases of Caffe's `Datum`, through the LMDB library.
//!
//! [`check`] walks a database's pages before the library maps them, [`datum`] decodes the message, [`entries`] holds an
//! open database.

mod check;
pub(crate) mod datum;
pub(crate) mod entries;
#[allow(unsafe_code)]
pub(crate) mod environment;
pub(crate) mod folder;
