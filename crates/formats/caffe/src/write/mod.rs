//! Graphs to caffemodel and prototxt.

mod cut;
mod dense;
mod elementwise;
mod file;
mod layers;
mod like;
mod pool;
mod print;
mod shape;
mod writer;

use std::path::{Path, PathBuf};

use slq_graph::Graph;

use crate::error::CaffeError;
use crate::info::Source;
use crate::proto::NetParameter;

/// Options of [`write()`].
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

/// Writes `graph` as a caffemodel: float32 blobs, quantized weights with the values of their centroids.
///
/// The files appear by rename, after they have been read back and compared with the graph weight by weight.
///
/// # Errors
/// [`CaffeError::NoLayer`] naming the first node that Caffe's layers cannot express;
/// [`CaffeError::TooLarge`] above protobuf's 2 GB; [`CaffeError::ReadBack`]; [`CaffeError::Io`].
pub fn write(graph: &Graph, caffemodel: &Path, options: &WriteOptions) -> Result<(), CaffeError> {
    let layer = match &options.source {
        Some(source) => like::layers(graph, source)?,
        None => layers::layers(graph)?,
    };
    let net = NetParameter { name: Some(graph.name.clone()), layer, ..NetParameter::default() };
    file::save(net, caffemodel, options)
}
