//! Loss layers as heads: the outputs whose losses training minimises.

use std::path::Path;

use slq_caffe::{DataSource, LossKind, NetInfo, Normalization};
use slq_engine::{BatchNormMode, Head, Loss};
use slq_graph::{Graph, Node};

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
        let function = match loss.kind {
            LossKind::SoftmaxWithLoss => Loss::SoftmaxCrossEntropy,
            LossKind::SigmoidCrossEntropy => Loss::SigmoidCrossEntropy,
            LossKind::Euclidean => Loss::Euclidean,
            LossKind::Hinge { squared: false } => Loss::Hinge,
            LossKind::Hinge { squared: true } => Loss::SquaredHinge,
            LossKind::MultinomialLogistic if behind_softmax(graph, &loss.predictions) => {
                Loss::SoftmaxCrossEntropy
            }
            LossKind::MultinomialLogistic => {
                return refuse("it can be trained on behind a Softmax layer only");
            }
            _ => return refuse("it can be read, converted and written, but not trained on"),
        };
        if data.tops.get(1) != Some(&loss.labels) {
            return refuse(
                "it compares with another blob than the labels of the data layer, which is not supported",
            );
        }
        if loss.ignore_label.is_some() {
            return refuse("ignore_label is not supported in training");
        }
        if loss.axis != 1 {
            return refuse("softmax over an axis other than 1 is not supported in training");
        }
        // With one label for each image and none ignored, all means are the mean over the batch; two of Caffe's losses
        // take no other.
        let weight = match loss.normalization {
            Normalization::None if matches!(loss.kind, LossKind::Euclidean | LossKind::Hinge { .. }) => {
                loss.weight
            }
            Normalization::None => loss.weight * data.batch_size as f32,
            Normalization::Full | Normalization::Valid | Normalization::BatchSize => loss.weight,
        };
        match heads.iter_mut().find(|h| h.output == loss.predictions) {
            Some(head) if head.loss != function => {
                return refuse("another kind of loss looks at the same blob");
            }
            Some(head) => head.weight += weight,
            None => heads.push(Head { output: loss.predictions.clone(), weight, loss: function }),
        }
    }
    if heads.is_empty() {
        let reason = "the net has no loss in its TRAIN phase".into();
        return Err(Error::CaffeLayer { path: prototxt.into(), layer: data.layer.clone(), reason });
    }
    let first = graph.outputs.first().map(|o| o.name.as_str());
    match heads.as_slice() {
        [only] if first.is_some_and(|first| *only == Head::softmax(first, 1.0)) => Ok(Vec::new()),
        _ => Ok(heads),
    }
}

/// Whether `value` is the output of a softmax over the classes.
fn behind_softmax(graph: &Graph, value: &str) -> bool {
    let writes = |n: &&Node| n.outputs.iter().any(|o| o == value);
    graph.nodes.iter().find(writes).is_some_and(|n| n.op == "Softmax")
}

/// The layer type of a loss.
fn type_of(kind: LossKind) -> &'static str {
    match kind {
        LossKind::SoftmaxWithLoss => "SoftmaxWithLoss",
        LossKind::MultinomialLogistic => "MultinomialLogisticLoss",
        LossKind::SigmoidCrossEntropy => "SigmoidCrossEntropyLoss",
        LossKind::Euclidean => "EuclideanLoss",
        LossKind::Hinge { .. } => "HingeLoss",
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
