//! .slq
#![forbid(unsafe_code)]
#![allow(dead_code)]
mod bytes;
mod entropy;
mod error;
mod header;
pub use error::{Fault, Place, SlqError};
/// bound
pub const MAX_EXPANSION: u64 = 1024;
