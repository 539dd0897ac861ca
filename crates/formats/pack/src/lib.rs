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

mod codebook;
mod network;
mod planes;
pub use network::{Form, WeightInfo};
mod order;
mod rounding;
pub use rounding::{FloatStorage, RoundingError};
