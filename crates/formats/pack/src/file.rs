//! Files by path.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use slq_graph::Graph;

use crate::error::SlqError;
use crate::reader::Reader;
use crate::report::Report;
use crate::source::Seekable;
use crate::verify;
use crate::writer::{WriteOptions, write_bytes};

/// Writes `graph` to `path`.
///
/// The file is read back and compared with the graph, bit for bit, before it takes its name: `path` holds all of it
/// or what it held before. The same graph and options give the same bytes.
///
/// # Errors
/// [`SlqError::File`] with the path and what is wrong: as [`write_bytes`], a failing disk, or
/// [`SlqError::ReadBack`].
pub fn write(graph: &Graph, path: impl AsRef<Path>, options: &WriteOptions) -> Result<Report, SlqError> {
    let path = path.as_ref();
    let store = || {
        let packed = write_bytes(graph, options)?;
        verify::same(graph, &packed.bytes, options)?;
        slq_file::write_atomically(path, &packed.bytes)?;
        Ok(packed.report)
    };
    store().map_err(|source| in_file(path, source))
}

/// Reads a whole file.
///
/// # Errors
/// [`SlqError::File`] with the path and what is wrong.
pub fn read(path: impl AsRef<Path>) -> Result<Graph, SlqError> {
    let path = path.as_ref();
    open(path)?.graph().map_err(|source| in_file(path, source))
}

/// Opens a file: reads its header and the network without weights.
///
/// # Errors
/// [`SlqError::File`] with the path and what is wrong.
pub fn open(path: impl AsRef<Path>) -> Result<Reader<Seekable<BufReader<File>>>, SlqError> {
    let path = path.as_ref();
    let open = || {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(SlqError::NotAFile);
        }
        Reader::from_stream(BufReader::new(file))
    };
    open().map_err(|source| in_file(path, source))
}

fn in_file(path: &Path, source: SlqError) -> SlqError {
    SlqError::File { path: path.into(), source: Box::new(source) }
}
