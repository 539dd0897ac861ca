//! The mapping from layer types to operators.

use std::collections::HashMap;

use super::builder::Builder;
use super::conv::Direction;
use super::mapped::Mapped;
use super::{conv, data, dense, heads, norm, opaque, pool, shape, simple};
use crate::error::CaffeError;
use crate::proto::LayerParameter;

/// Adds all layers in order.
pub(super) fn add_all(b: &mut Builder, layers: &[LayerParameter]) -> Result<(), CaffeError> {
    let pairs = batch_norm_pairs(layers);
    let scales: HashMap<usize, usize> = pairs.iter().map(|(&norm, &scale)| (scale, norm)).collect();
    let mut pending = HashMap::new();
    for (i, layer) in layers.iter().enumerate() {
        b.current = i;
        if data::add(b, layer)? || heads::add(b, layer)? {
            continue;
        }
        if pairs.contains_key(&i) {
            pending.insert(i, norm::defer(b, layer)?);
            continue;
        }
        let mapped = match scales.get(&i).and_then(|norm| pending.remove(norm)) {
            Some(norm) => norm::fused(b, norm, layer)?,
            None => add(b, layer)?,
        };
        if let Mapped::Opaque(reason) = mapped {
            opaque::add(b, layer, reason)?;
        }
    }
    Ok(())
}

/// Indices of `BatchNorm` layers whose only reader is a `Scale` layer along the channels, with that layer's.
fn batch_norm_pairs(layers: &[LayerParameter]) -> HashMap<usize, usize> {
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut writers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, layer) in layers.iter().enumerate() {
        layer.bottom.iter().for_each(|name| readers.entry(name).or_default().push(i));
        layer.top.iter().for_each(|name| writers.entry(name).or_default().push(i));
    }
    let empty = Vec::new();
    let mut pairs = HashMap::new();
    for (i, norm) in layers.iter().enumerate() {
        let ("BatchNorm", [top]) = (norm.r#type(), norm.top.as_slice()) else { continue };
        let rewritten = writers[top.as_str()].iter().copied().find(|&w| w > i).unwrap_or(usize::MAX);
        let readers = readers.get(top.as_str()).unwrap_or(&empty);
        let mut after = readers.iter().copied().filter(|&r| r > i && r <= rewritten);
        let (Some(j), None) = (after.next(), after.next()) else { continue };
        let scale = &layers[j];
        let p = scale.scale_param.clone().unwrap_or_default();
        let plain = scale.r#type() == "Scale"
            && scale.bottom.len() == 1
            && scale.top.len() == 1
            && p.axis() == 1
            && p.num_axes() == 1;
        // Nothing in between may touch the name that the pair's result will have.
        let untouched = |(k, l): (usize, &LayerParameter)| {
            k <= i || k >= j || !l.bottom.iter().chain(&l.top).any(|name| *name == scale.top[0])
        };
        if plain && layers.iter().enumerate().take(j).skip(i + 1).all(untouched) {
            pairs.insert(i, j);
        }
    }
    pairs
}

fn add(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    match layer.r#type() {
        "Convolution" | "ConvolutionDepthwise" | "DepthwiseConvolution" => {
            conv::add(b, layer, Direction::Forward)
        }
        "Deconvolution" => conv::add(b, layer, Direction::Transposed),
        "InnerProduct" => dense::add(b, layer),
        "Pooling" => pool::add(b, layer),
        "BatchNorm" => norm::batch_norm(b, layer),
        "Bias" => norm::bias(b, layer),
        "LRN" => norm::lrn(b, layer),
        "PReLU" => norm::prelu(b, layer),
        "Scale" => norm::scale(b, layer),
        "AbsVal" => simple::unary(b, layer, "Abs", &[]),
        "BNLL" => simple::unary(b, layer, "Softplus", &[]),
        "Clip" => match layer.clip_param {
            Some(p) => simple::clip(b, layer, p.min(), p.max()),
            None => Err(b.bad(layer, "clip_param", "missing")),
        },
        "Dropout" => simple::dropout(b, layer),
        "ELU" => simple::elu(b, layer),
        "Eltwise" => simple::eltwise(b, layer),
        "Exp" => simple::exp(b, layer),
        "Log" => simple::log(b, layer),
        "Power" => simple::power(b, layer),
        "ReLU" => simple::relu(b, layer),
        "ReLU6" => simple::clip(b, layer, 0.0, 6.0),
        "Sigmoid" => simple::unary(b, layer, "Sigmoid", &[]),
        "Softmax" => simple::softmax(b, layer),
        "Swish" => simple::swish(b, layer),
        "TanH" => simple::unary(b, layer, "Tanh", &[]),
        "Concat" => shape::concat(b, layer),
        "Crop" => shape::crop(b, layer),
        "Flatten" => shape::flatten(b, layer),
        "Permute" => shape::permute(b, layer),
        "Reduction" => shape::reduction(b, layer),
        "Reshape" => shape::reshape(b, layer),
        "ShuffleChannel" => shape::shuffle(b, layer),
        "Slice" => shape::slice(b, layer),
        "Split" => shape::split(b, layer),
        "" => Err(b.bad(layer, "type", "missing")),
        other => Ok(Mapped::Opaque(format!("layer type `{other}` has no counterpart"))),
    }
}
