//! Graphs to caffemodel and prototxt.

mod cut;
mod dense;
mod elementwise;
mod file;
mod layers;
mod like;
mod options;
mod pool;
mod print;
mod shape;
mod writer;

use std::path::Path;

use slq_graph::Graph;

use crate::error::CaffeError;
use crate::proto::NetParameter;
pub use file::is_own_prototxt;
pub use options::WriteOptions;

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
