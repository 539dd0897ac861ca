//! Files by path, and the checks before a long job.

use std::path::Path;

use slq_graph::{Graph, Palette};

use crate::encode::encode;
use crate::error::TfliteError;
use crate::fold::fold;
use crate::integers::integers;
use crate::lower::{Lowered, lower};
use crate::ranges::Ranges;
use crate::report::Report;
use crate::tables::LARGEST_TABLE;
use crate::verify;

/// How a network is written.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct WriteOptions<'a> {
    /// Every weight as float32, for LiteRT; otherwise fixed palettes are stored as codes and tables, for the interpreter of
    /// microcontrollers.
    pub dense: bool,
    /// Integers of 8 bits instead of floats: activations, which have these ranges, inputs, outputs, weights and tables.
    pub integers: Option<&'a Ranges>,
}

/// A network as bytes, and what they hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// The bytes of the file.
    pub bytes: Vec<u8>,
    /// What they hold.
    pub report: Report,
}

/// The network as the bytes of a file. The same graph and options give the same bytes.
///
/// # Errors
/// [`TfliteError::Unsupported`], naming all nodes without counterpart; [`TfliteError::TooWide`], naming all weights of more
/// than 7 bits; [`TfliteError::TooLarge`]; [`TfliteError::NoNetwork`]; [`TfliteError::Graph`] for a network that is not
/// sound or leaves a shape open; [`TfliteError::NoRange`] for a value without a range; [`TfliteError::ReadBack`].
pub fn write_bytes(graph: &Graph, options: &WriteOptions<'_>) -> Result<Written, TfliteError> {
    if !options.dense {
        check_widths(graph)?;
    }
    let (graph, folded) = fold(graph, options.dense, if options.integers.is_some() { 1 } else { 4 });
    let Lowered { mut model, mut report } = lower(&graph, !options.dense)?;
    report.folded = folded;
    if let Some(ranges) = options.integers {
        model = integers(&model, ranges, &mut report)?;
    }
    let bytes = encode(&model)?;
    verify::same(&model, &bytes)?;
    Ok(Written { bytes, report })
}

/// Writes `graph` to `path`. The bytes are read back and compared with the network before the file takes its name: `path`
/// holds all of it or what it held before.
///
/// # Errors
/// [`TfliteError::File`] with the path and what is wrong: as [`write_bytes`], or a failing disk.
pub fn write(
    graph: &Graph,
    path: impl AsRef<Path>,
    options: &WriteOptions<'_>,
) -> Result<Report, TfliteError> {
    let path = path.as_ref();
    let store = || {
        let written = write_bytes(graph, options)?;
        slq_file::write_atomically(path, &written.bytes)?;
        Ok(written.report)
    };
    store().map_err(|source| TfliteError::File { path: path.into(), source: Box::new(source) })
}

/// Checks that the network can be written, whatever its weights will be; for use before a long job.
///
/// # Errors
/// As [`write_bytes`], but for palettes.
pub fn check(graph: &Graph) -> Result<(), TfliteError> {
    lower(&fold(graph, true, 4).0, false).map(drop)
}

/// Checks that no fixed palette has more values than a table holds.
fn check_widths(graph: &Graph) -> Result<(), TfliteError> {
    let wide = |p: &Palette| p.is_fully_fixed() && p.codebook_size() > LARGEST_TABLE;
    let weights: Vec<String> = graph
        .weights
        .iter()
        .filter(|(_, w)| w.palette.as_ref().is_some_and(wide))
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    if weights.is_empty() { Ok(()) } else { Err(TfliteError::TooWide { weights }) }
}
