//! The layers of the prototxt that a graph was read from, with the graph's weights.

use slq_graph::Graph;

use super::writer::blob;
use crate::error::CaffeError;
use crate::info::Source;
use crate::proto::LayerParameter;
use crate::read::layers_and_blobs;

/// The active layers of `source`, each with the blobs that [`read_net`](crate::read_net) takes from it.
pub(super) fn layers(graph: &Graph, source: &Source) -> Result<Vec<LayerParameter>, CaffeError> {
    let (mut layers, blobs) = layers_and_blobs(source)?;
    for from in blobs {
        let Some(layer) = layers.get_mut(from.layer) else { continue };
        let values = match from.constant {
            Some(value) => Some(vec![value]),
            None => graph.weights.get(&from.weight).and_then(|w| w.tensor.as_f32()).map(<[f32]>::to_vec),
        };
        let Some(blob) = values.and_then(|v| blob(from.shape, v)) else {
            return Err(CaffeError::NoLayer {
                node: layer.name().into(),
                op: layer.r#type().into(),
                reason: format!("the graph has no weight `{}` of the right size", from.weight),
            });
        };
        layer.blobs.push(blob);
    }
    Ok(layers)
}
