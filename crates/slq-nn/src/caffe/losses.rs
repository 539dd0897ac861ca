//! Loss layers as heads that training looks at.

use std::path::Path;

use slq_caffe::{DataSource, LossKind, NetInfo, Normalization};
use slq_engine::{BatchNormMode, Head};
use slq_graph::Graph;

use crate::Error;

/// The outputs with a loss, and their weights; none where the first output alone has one of weight 1.
///
/// # Errors
/// [`Error::CaffeLayer`] naming the loss that cannot be trained on.
pub(super) fn heads(
    prototxt: &Path,
    info: &NetInfo,
    graph: &Graph,
    data: &DataSource,
) -> Result<Vec<Head>, Error> {
    let mut heads: Vec<Head> = Vec::new();
    for loss in info.losses.iter().filter(|l| l.weight != 0.0) {
        let refuse = |reason: &str| {
            let (path, layer) = (prototxt.into(), loss.layer.clone());
            Err(Error::CaffeLayer { path, layer, reason: format!("{}: {reason}", type_of(loss.kind)) })
        };
        if loss.kind != LossKind::SoftmaxWithLoss {
            return refuse(
                "only SoftmaxWithLoss can be trained on; this loss can be read, converted and written",
            );
        }
        if data.tops.get(1) != Some(&loss.labels) {
            return refuse("its labels are not those of the data layer");
        }
        if loss.ignore_label.is_some() {
            return refuse("ignore_label is not supported in training");
        }
        if loss.axis != 1 {
            return refuse("softmax over an axis other than 1 is not supported in training");
        }
        // With one label for each image and none ignored, all means are the mean over the batch.
        let weight = match loss.normalization {
            Normalization::None => loss.weight * data.batch_size as f32,
            Normalization::Full | Normalization::Valid | Normalization::BatchSize => loss.weight,
        };
        match heads.iter_mut().find(|h| h.output == loss.predictions) {
            Some(head) => head.weight += weight,
            None => heads.push(Head { output: loss.predictions.clone(), weight }),
        }
    }
    if heads.is_empty() {
        let reason = "the net has no loss in its TRAIN phase".into();
        return Err(Error::CaffeLayer { path: prototxt.into(), layer: data.layer.clone(), reason });
    }
    let first = graph.outputs.first().map(|o| o.name.as_str());
    match heads.as_slice() {
        [only] if Some(only.output.as_str()) == first && only.weight == 1.0 => Ok(Vec::new()),
        _ => Ok(heads),
    }
}

/// The layer type of a loss.
fn type_of(kind: LossKind) -> &'static str {
    match kind {
        LossKind::SoftmaxWithLoss => "SoftmaxWithLoss",
        LossKind::MultinomialLogistic => "MultinomialLogisticLoss",
        LossKind::SigmoidCrossEntropy => "SigmoidCrossEntropyLoss",
        LossKind::Euclidean => "EuclideanLoss",
        LossKind::Hinge => "HingeLoss",
        _ => "loss",
    }
}

/// Whether batch-norm trains with the batch's statistics.
///
/// # Errors
/// [`Error::CaffeLayer`] where some layers do and others do not.
pub(super) fn batch_norm(prototxt: &Path, info: &NetInfo, graph: &Graph) -> Result<BatchNormMode, Error> {
    let mut frozen = 0;
    let mut other = None;
    for node in graph.nodes.iter().filter(|n| n.op == "BatchNormalization") {
        match info.frozen_batch_norms.contains(&node.name) {
            true => frozen += 1,
            false => other = Some(node.name.clone()),
        }
    }
    match (frozen, other) {
        (0, _) => Ok(BatchNormMode::Train),
        (_, None) => Ok(BatchNormMode::Frozen),
        (_, Some(layer)) => {
            let reason =
                "use_global_stats is set in other BatchNorm layers and not in this one: all or none".into();
            Err(Error::CaffeLayer { path: prototxt.into(), layer, reason })
        }
    }
}
