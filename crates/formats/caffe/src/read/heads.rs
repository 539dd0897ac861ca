//! Losses and accuracies: not part of the graph; their inputs are its outputs.

use slq_graph::{Attribute, Node};

use super::builder::Builder;
use crate::error::CaffeError;
use crate::info::{Accuracy, Loss, LossKind, Normalization};
use crate::proto::LayerParameter;
use crate::proto::hinge_loss_parameter::Norm;
use crate::proto::loss_parameter::NormalizationMode;

/// Takes a loss, accuracy or silence layer; `false` for a layer of another kind.
pub(super) fn add(b: &mut Builder, layer: &LayerParameter) -> Result<bool, CaffeError> {
    let kind = match layer.r#type() {
        "SoftmaxWithLoss" => LossKind::SoftmaxWithLoss,
        "MultinomialLogisticLoss" => LossKind::MultinomialLogistic,
        "SigmoidCrossEntropyLoss" => LossKind::SigmoidCrossEntropy,
        "EuclideanLoss" => LossKind::Euclidean,
        "HingeLoss" => {
            let norm = layer.hinge_loss_param.unwrap_or_default().norm();
            LossKind::Hinge { squared: norm == Norm::L2 }
        }
        "Accuracy" => {
            accuracy(b, layer)?;
            return Ok(true);
        }
        "Silence" => {
            for i in 0..layer.bottom.len() {
                let value = b.any_bottom(layer, i)?;
                b.silenced.insert(value.name);
            }
            return Ok(true);
        }
        "ContrastiveLoss" | "InfogainLoss" => {
            return Err(b.bad(layer, "type", format!("the loss `{}` is not supported", layer.r#type())));
        }
        _ => {
            if layer.loss_weight.iter().any(|&w| w != 0.0) {
                let reason = format!("a {} layer as a loss is not supported", layer.r#type());
                return Err(b.bad(layer, "loss_weight", reason));
            }
            return Ok(false);
        }
    };
    let input = b.bottom(layer, 0)?;
    let labels = labels(b, layer)?;
    let weight = layer.loss_weight.first().copied().unwrap_or(1.0);
    if !weight.is_finite() {
        return Err(b.bad(layer, "loss_weight", format!("{weight} is not finite")));
    }
    let p = layer.loss_param.unwrap_or_default();
    let mode = p.normalization.map(|_| p.normalization());
    let old =
        p.normalize.map(|valid| if valid { NormalizationMode::Valid } else { NormalizationMode::BatchSize });
    let default = match kind {
        LossKind::SoftmaxWithLoss => NormalizationMode::Valid,
        _ => NormalizationMode::BatchSize,
    };
    let normalization = match mode.or(old).unwrap_or(default) {
        NormalizationMode::Full => Normalization::Full,
        NormalizationMode::Valid => Normalization::Valid,
        NormalizationMode::BatchSize => Normalization::BatchSize,
        NormalizationMode::None => Normalization::None,
    };
    let axis = layer.softmax_param.unwrap_or_default().axis();
    b.info.losses.push(Loss {
        layer: layer.name().into(),
        kind,
        predictions: input.name.clone(),
        labels,
        weight,
        normalization,
        ignore_label: p.ignore_label.map(Into::into),
        axis: axis.into(),
    });
    for (i, top) in layer.top.iter().enumerate() {
        if i == 1 && kind == LossKind::SoftmaxWithLoss {
            // The second top is the probabilities.
            let output = b.top(layer, 1, input.shape.clone())?;
            let node = Node::new(layer.name(), "Softmax", &[&input.name], &[&output]);
            b.push(node.with("axis", Attribute::Int(axis.into())));
        } else {
            b.label(top);
        }
    }
    Ok(true)
}

fn labels(b: &Builder, layer: &LayerParameter) -> Result<String, CaffeError> {
    b.any_bottom(layer, 1)?;
    Ok(layer.bottom[1].clone())
}

fn accuracy(b: &mut Builder, layer: &LayerParameter) -> Result<(), CaffeError> {
    let p = layer.accuracy_param.unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let labels = labels(b, layer)?;
    if p.top_k() == 0 {
        return Err(b.bad(layer, "top_k", "must be at least 1"));
    }
    b.info.accuracies.push(Accuracy {
        layer: layer.name().into(),
        predictions: input.name,
        labels,
        top_k: p.top_k() as usize,
        ignore_label: p.ignore_label.map(Into::into),
        axis: p.axis().into(),
    });
    for top in &layer.top {
        b.label(top);
    }
    Ok(())
}
