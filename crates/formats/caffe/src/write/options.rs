//! Options of the writer.

use std::path::PathBuf;

use crate::info::Source;

/// Options of [`write`](fn@crate::write).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct WriteOptions {
    /// Also write the net's description here. Default: weights only.
    pub prototxt: Option<PathBuf>,
    /// The files that the graph was read from. Their layers are written as they stand, with the graph's
    /// weights: the way for nets with layers that no graph can express, and for the user's own prototxt to
    /// go on fitting. Default: layers are made from the graph's nodes.
    pub source: Option<Source>,
    /// Describe blobs by four extents, as files before 2015 did.
    pub legacy_blobs: bool,
}
