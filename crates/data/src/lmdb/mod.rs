//! LMDB databases of Caffe's `Datum`, through the LMDB library.
//!
//! [`check`] walks a database's pages before the library maps them, [`datum`] decodes the message, [`entries`] holds an
//! open database.

mod check;
mod datum;
mod entries;
#[allow(unsafe_code)]
mod environment;
mod folder;

pub(crate) use datum::{Datum, Message, Pixels};
pub(crate) use entries::{Entries, Reader};
pub(crate) use environment::environment;
pub(crate) use folder::{Images, fault, file_of};
