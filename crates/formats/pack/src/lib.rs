//! .slq
#![forbid(unsafe_code)]
mod bytes;
mod codebook;
mod codes;
mod dictionary;
mod entropy;
mod error;
#[cfg(feature = "file")]
mod file;
mod header;
mod network;
mod order;
mod piece;
mod planes;
mod reader;
mod report;
mod rounding;
mod source;
mod values;
#[cfg(any(test, feature = "file"))]
mod verify;
mod writer;

pub use codes::PackedCodes;
pub use error::{Fault, Place, SlqError};
#[cfg(feature = "file")]
pub use file::{open, read, write};
pub use header::FORMAT_VERSION;
pub use network::{Form, WeightInfo};
pub use piece::Effort;
pub use reader::Reader;
pub use report::{Note, Report, SectionReport};
pub use rounding::{FloatStorage, RoundingError};
pub use source::{InMemory, Seekable, Source};
pub use writer::{Packed, WriteOptions, write_bytes};
/// bound
pub const MAX_EXPANSION: u64 = 1024;
