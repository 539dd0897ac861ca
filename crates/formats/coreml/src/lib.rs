//! Graphs to Core ML packages (`.mlpackage`) whose weights stay look-up tables.
//!
//! [`write()`] turns a graph into an ML program for iOS 18, macOS 15 and later. A weight whose palette is fully fixed becomes
//! packed codes and tables (`constexpr_lut_to_dense`), bit for bit those of the graph. [`check`] tells before a long training
//! whether a network can be written. The layout is described in `docs/coreml.md`.
//!
//! ```no_run
//! # let graph = slq_graph::Graph::default();
//! let options = slq_coreml::WriteOptions::default();
//! slq_coreml::check(&graph, &options)?;
//! // ... quantize the graph's weights ...
//! let written = slq_coreml::write(&graph, "net.mlpackage", &options)?;
//! println!("{} bytes", written.bytes);
//! # Ok::<(), slq_coreml::CoremlError>(())
//! ```

#![forbid(unsafe_code)]

mod blob;
mod builder;
mod error;
mod lower;
mod mil;
mod names;
mod options;
mod package;
mod palette;
mod program;
mod spec;
#[cfg(test)]
mod tests;
mod verify;

pub use error::{CoremlError, Unsupported};
pub use options::{Widths, WriteOptions, Written};
pub use package::{check_place, size, write};
pub use palette::width;

/// Checks that a network can be written: its operators, shapes, inputs and outputs, and the widths of palettes that it has.
/// Returns the notes that [`write()`] would.
///
/// # Errors
/// Those of [`write()`] but for the disk's.
pub fn check(graph: &slq_graph::Graph, options: &WriteOptions) -> Result<Vec<String>, CoremlError> {
    program::assemble(graph, options, std::io::sink()).map(|made| made.notes)
}
