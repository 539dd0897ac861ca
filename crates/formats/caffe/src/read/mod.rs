//! Prototxt and caffemodel to a graph.

mod blobs;
mod builder;
mod conv;
mod data;
mod dense;
mod heads;
mod layers;
mod mapped;
mod norm;
mod opaque;
mod pool;
mod shape;
mod simple;

use std::path::Path;

use slq_graph::Graph;

use crate::error::CaffeError;
use crate::info::{DataSource, Net, ReadOptions, Source};
use crate::phase::{Phase, State};
use crate::proto::{LayerParameter, NetParameter};
use crate::{text, upgrade, wire};

pub(crate) use builder::BlobSource;
use builder::Builder;

/// Output extent of Caffe's pooling along one axis.
pub(crate) fn pool_extent(size: usize, kernel: usize, stride: usize, pad: usize) -> Option<usize> {
    pool::extent_of(size, kernel, stride, pad)
}

/// The net of a prototxt with the weights of a caffemodel, as a graph of ONNX operators (opset 13).
///
/// The graph begins at the data (`N` is the symbolic batch extent) and ends at the logits; nodes bear the
/// names of their layers, weights are `LAYER.weight`, `LAYER.bias`. Without a caffemodel the weights are made
/// by the layers' fillers (seed 0). See [`read_net`] for data, losses and options.
///
/// # Errors
/// [`CaffeError`] naming file, layer and field.
///
/// # Example
/// ```no_run
/// use slq_caffe::{Phase, read};
/// let graph = read("lenet.prototxt".as_ref(), Some("lenet.caffemodel".as_ref()), Phase::Test)?;
/// println!("{} parameters", graph.parameter_count());
/// # Ok::<(), slq_caffe::CaffeError>(())
/// ```
pub fn read(prototxt: &Path, caffemodel: Option<&Path>, phase: Phase) -> Result<Graph, CaffeError> {
    Ok(read_net(prototxt, caffemodel, &ReadOptions::new(phase))?.graph)
}

/// As [`read`], with everything the prototxt says beside the network.
///
/// # Errors
/// [`CaffeError`] naming file, layer and field.
pub fn read_net(
    prototxt: &Path,
    caffemodel: Option<&Path>,
    options: &ReadOptions,
) -> Result<Net, CaffeError> {
    let (name, layers) = active_layers(prototxt, options)?;
    let blobs = match caffemodel {
        Some(path) => Some((path, wire::read_model(path)?)),
        None => None,
    };
    let mut builder = Builder::new(prototxt, blobs, options, &layers)?;
    layers::add_all(&mut builder, &layers)?;
    builder.finish(name)
}

/// The active layers of a net (blobs left out), and which weight of its graph each blob is.
pub(crate) fn layers_and_blobs(
    source: &Source,
) -> Result<(Vec<LayerParameter>, Vec<BlobSource>), CaffeError> {
    let prototxt = source.prototxt.as_path();
    let (_, mut layers) = active_layers(prototxt, &source.options)?;
    let blobs = match &source.caffemodel {
        Some(path) => Some((path.as_path(), wire::read_model(path)?)),
        None => None,
    };
    let mut builder = Builder::new(prototxt, blobs, &source.options, &layers)?;
    layers::add_all(&mut builder, &layers)?;
    layers.iter_mut().for_each(|l| l.blobs.clear());
    Ok((layers, builder.sources))
}

/// The data layers of a prototxt in the given state, without building the net.
///
/// # Errors
/// [`CaffeError`] naming file, layer and field.
pub fn data_sources(prototxt: &Path, options: &ReadOptions) -> Result<Vec<DataSource>, CaffeError> {
    let (_, layers) = active_layers(prototxt, options)?;
    let sources = layers.iter().map(|l| data::source(prototxt, l));
    sources.filter_map(Result::transpose).collect()
}

/// A mean image: (shape, values), as a binaryproto holds it; the shape is [channels, height, width].
///
/// # Errors
/// [`CaffeError::Binary`], [`CaffeError::TooLarge`] or [`CaffeError::Io`] where the file is not a blob of such a shape.
pub fn read_mean(path: &Path) -> Result<([usize; 3], Vec<f32>), CaffeError> {
    let blob = wire::read_blob(path)?;
    match *blob.shape.as_slice() {
        [c, h, w] | [1, c, h, w] if c * h * w > 0 => Ok(([c, h, w], blob.data)),
        _ => Err(CaffeError::Binary {
            path: path.into(),
            offset: 0,
            reason: format!("a mean image has channels, height and width, not the shape {:?}", blob.shape),
        }),
    }
}

fn active_layers(
    prototxt: &Path,
    options: &ReadOptions,
) -> Result<(String, Vec<LayerParameter>), CaffeError> {
    let net: NetParameter = text::read(prototxt, "NetParameter")?;
    let name = net.name().to_owned();
    let state = State { phase: options.phase, level: options.level, stages: &options.stages };
    let mut active = Vec::new();
    for layer in upgrade::layers(prototxt, net)? {
        if state.has(prototxt, &layer)? {
            active.push(layer);
        }
    }
    if active.is_empty() {
        return Err(CaffeError::Net {
            path: prototxt.into(),
            field: "layer".into(),
            reason: format!("the net has no layers in phase {:?}", options.phase),
        });
    }
    Ok((name, active))
}
