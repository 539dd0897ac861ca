//! Writes networks as TensorFlow Lite files.
//!
//! ```no_run
//! # let graph = slq_graph::Graph::default();
//! use slq_tflite::{WriteOptions, write};
//!
//! let report = write(&graph, "net.tflite", &WriteOptions::default())?;
//! report.notes().iter().for_each(|note| println!("{note}"));
//! # Ok::<(), slq_tflite::TfliteError>(())
//! ```
//!
//! The network is lowered from ONNX's operators on `[N, C, H, W]` to TensorFlow Lite's on `[N, H, W, C]`: inputs and outputs
//! of four axes have their channels last, the batch is 1 where it is open, batch-norms are folded, padding is exact.
//!
//! | weights | runs in |
//! |---|---|
//! | float32 ([`WriteOptions::dense`]) | LiteRT and TensorFlow Lite for Microcontrollers |
//! | codes of 1 to 7 bits with look-up tables, one for a tensor or one for each channel | TensorFlow Lite for Microcontrollers, by its operator `TFLM_DECODE` |
//!
//! `docs/tflite.md` describes the layout.

#![forbid(unsafe_code)]

mod arrange;
mod encode;
mod error;
mod file;
mod fold;
mod integers;
mod lower;
mod model;
mod padding;
mod ranges;
mod reader;
mod report;
mod schema;
mod tables;
#[cfg(test)]
mod tests;
mod verify;

pub use error::{TfliteError, Unsupported};
pub use file::{WriteOptions, Written, check, write, write_bytes};
pub use ranges::Ranges;
pub use report::{Folded, Integers, Packed, Report, Unpacked};
pub use tables::LARGEST_TABLE;
