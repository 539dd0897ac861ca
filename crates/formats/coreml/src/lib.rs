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
mod package;
mod palette;
mod program;
mod spec;
#[cfg(test)]
mod tests;
mod verify;

pub use error::{CoremlError, Unsupported};
pub use package::{check_place, size, write};
pub use palette::width;

/// What happens to codes of 5 and 7 bits, widths that Core ML does not have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Widths {
    /// They are refused.
    #[default]
    Exact,
    /// They are stored in 6 and 8 bits; tables and values stay the same.
    RoundUp,
}

/// How a package is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Write every weight as float32.
    pub dense: bool,
    /// Codes of 5 and 7 bits.
    pub widths: Widths,
    /// Replace a package that this library did not write.
    pub overwrite: bool,
}

/// A package that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Sentences for the user: what differs from the network.
    pub notes: Vec<String>,
}

/// Checks that a network can be written: its operators, shapes, inputs and outputs, and the widths of palettes that it has.
/// Returns the notes that [`write()`] would.
///
/// # Errors
/// Those of [`write()`] but for the disk's.
pub fn check(graph: &slq_graph::Graph, options: &WriteOptions) -> Result<Vec<String>, CoremlError> {
    program::assemble(graph, options, std::io::sink()).map(|made| made.notes)
}
