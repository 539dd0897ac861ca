//! ONNX files to graphs and back, dense or palettized.
//!
//! [`read`] turns a model of operator set 7 or later into a [`slq_graph::Graph`]; [`write()`] turns a graph into
//! a model. A weight whose palette is fully fixed is stored as packed codes and a codebook, and rebuilt by
//! standard operators that a runtime folds away when it loads the file; reading such a file gives the palette
//! back. The layout is described in `docs/onnx.md`.
//!
//! ```no_run
//! let mut graph = slq_onnx::read("lenet.onnx")?;
//! // ... quantize the graph's weights ...
//! let files = slq_onnx::write(&graph, "lenet-5bit.onnx", &slq_onnx::WriteOptions::default())?;
//! # Ok::<(), slq_onnx::OnnxError>(())
//! ```

#![forbid(unsafe_code)]

mod attribute;
mod constants;
mod element;
mod error;
mod external;
mod extras;
mod inline;
mod lift;
mod matrix;
mod options;
mod ort;
#[cfg(feature = "file")]
mod outside;
mod palettize;
mod proto;
mod read;
mod restore;
#[cfg(test)]
mod tests;
mod value;
#[cfg(feature = "file")]
mod verify;
mod write;

pub use error::OnnxError;
pub use options::{Data, Files, WriteOptions};
pub use ort::{OPSET as BLOCKED_OPSET, Prepared, SMALLEST_BLOCK, Unpacked, block_of, fits, for_onnxruntime};
pub use read::{notes, read, read_bytes};
#[cfg(feature = "file")]
pub use write::write;
pub use write::write_bytes;

/// Operator sets of ONNX's own domain that can be read and written.
pub const OPSETS: std::ops::RangeInclusive<i64> = 7..=28;

/// Versions of the file format that can be read.
pub const IR_VERSIONS: std::ops::RangeInclusive<i64> = 3..=14;

/// Largest file that protocol buffers allow, in bytes.
pub const MAX_FILE_BYTES: u64 = (1 << 31) - 1;
