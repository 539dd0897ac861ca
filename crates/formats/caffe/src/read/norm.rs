//! Normalisation, scales and biases.

use slq_graph::{Attribute, Node, Tensor};

use super::builder::{BlobSource, Builder, Param, Value};
use super::mapped::{Mapped, axis};
use crate::error::CaffeError;
use crate::phase::Phase;
use crate::proto::lrn_parameter::NormRegion;
use crate::proto::{FillerParameter, LayerParameter};

/// `LRN`: across channels it is ONNX's; within a channel it is composed of a mean of squares over windows and
/// x / (1 + alpha mean)^beta.
pub(super) fn lrn(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.lrn_param.unwrap_or_default();
    let size = p.local_size() as i64;
    if size % 2 == 0 || size > 1 << 20 {
        return Err(b.bad(layer, "local_size", format!("{size} is not a small odd number")));
    }
    let numbers = [("alpha", p.alpha()), ("beta", p.beta()), ("k", p.k())];
    if let Some((field, value)) = numbers.iter().find(|(_, v)| !v.is_finite()) {
        return Err(b.bad(layer, field, format!("{value} is not finite")));
    }
    let input = b.bottom(layer, 0)?;
    if p.norm_region() == NormRegion::AcrossChannels {
        let output = b.top(layer, 0, input.shape)?;
        b.push(
            Node::new(layer.name(), "LRN", &[&input.name], &[&output])
                .with("size", Attribute::Int(size))
                .with("alpha", Attribute::Float(p.alpha()))
                .with("beta", Attribute::Float(p.beta()))
                .with("bias", Attribute::Float(p.k())),
        );
        return Ok(Mapped::Done);
    }
    let half = (size - 1) / 2;
    let squares = b.helper(layer, "square", "Mul", &[&input.name, &input.name]);
    let mean = b.unique(&format!("{}.mean", layer.name()));
    b.push(
        Node::new(&format!("{}.mean", layer.name()), "AveragePool", &[&squares], &[&mean])
            .with("kernel_shape", Attribute::Ints(vec![size, size]))
            .with("strides", Attribute::Ints(vec![1, 1]))
            .with("pads", Attribute::Ints(vec![half; 4]))
            .with("count_include_pad", Attribute::Int(1)),
    );
    let alpha = b.scalar(layer, "alpha", p.alpha())?;
    let one = b.scalar(layer, "one", 1.0)?;
    let beta = b.scalar(layer, "beta", p.beta())?;
    let scaled = b.helper(layer, "mul", "Mul", &[&mean, &alpha]);
    let shifted = b.helper(layer, "add", "Add", &[&scaled, &one]);
    let divisor = b.helper(layer, "pow", "Pow", &[&shifted, &beta]);
    let output = b.top(layer, 0, input.shape)?;
    b.push(Node::new(layer.name(), "Div", &[&input.name, &divisor], &[&output]));
    Ok(Mapped::Done)
}

/// A `BatchNorm` that waits for the `Scale` layer it is fused with.
pub(super) struct Pending {
    layer: LayerParameter,
    index: usize,
    input: Value,
}

/// Refuses `use_global_stats: false` outside of training: Caffe then normalises by the batch, whatever the phase.
fn check_statistics(b: &Builder, layer: &LayerParameter) -> Result<(), CaffeError> {
    let stored = layer.batch_norm_param.unwrap_or_default().use_global_stats;
    if b.options.phase != Phase::Test || stored != Some(false) {
        return Ok(());
    }
    let reason = "false normalises by the statistics of the batch, which is not supported in a test net; set it to \
                  true, or remove the line, to use the stored statistics";
    Err(b.bad(layer, "use_global_stats", reason))
}

/// `BatchNorm` alone: a `BatchNormalization` with scale 1 and bias 0, both frozen.
pub(super) fn batch_norm(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    add_batch_norm(b, layer, b.current, input, None)
}

/// The first half of a fused pair: remembers the input.
pub(super) fn defer(b: &mut Builder, layer: &LayerParameter) -> Result<Pending, CaffeError> {
    let input = b.bottom(layer, 0)?;
    b.skip_write(layer);
    Ok(Pending { layer: layer.clone(), index: b.current, input })
}

/// `BatchNorm` and the `Scale` behind it as one `BatchNormalization`.
pub(super) fn fused(b: &mut Builder, norm: Pending, scale: &LayerParameter) -> Result<Mapped, CaffeError> {
    add_batch_norm(b, &norm.layer, norm.index, norm.input, Some(scale))
}

/// Adds a `BatchNormalization`, with weight and bias of the `Scale` layer if there is one.
fn add_batch_norm(
    b: &mut Builder,
    layer: &LayerParameter,
    index: usize,
    input: Value,
    scale: Option<&LayerParameter>,
) -> Result<Mapped, CaffeError> {
    check_statistics(b, layer)?;
    let p = layer.batch_norm_param.unwrap_or_default();
    if !(p.eps() >= 0.0 && p.eps().is_finite()) {
        return Err(b.bad(layer, "eps", format!("{} is not a small positive number", p.eps())));
    }
    let channels = match (&input.shape, b.blobs.shape(layer, 0)) {
        (Some(shape), _) if shape.len() >= 2 => shape[1],
        (None, Some(shape)) => shape.iter().product(),
        (Some(shape), _) => {
            return Err(b.bad(layer, "bottom", format!("{shape:?} has no channels")));
        }
        (None, None) => return Ok(Mapped::Opaque("the shape of its input is not known".into())),
    };
    let (mean, var) = statistics(b, layer, channels)?;
    let mean = b.constant(layer, "mean", Tensor::f32(vec![channels], mean)?);
    let var = b.constant(layer, "var", Tensor::f32(vec![channels], var)?);
    let here = std::mem::replace(&mut b.current, index);
    b.source(&mean, vec![channels]);
    b.source(&var, vec![channels]);
    b.sources.push(BlobSource { layer: index, weight: String::new(), constant: Some(1.0), shape: vec![1] });
    b.current = here;
    let (weight, bias, last) = match scale {
        Some(scale) => {
            let s = scale.scale_param.clone().unwrap_or_default();
            b.blobs.check_count(scale, 1 + usize::from(s.bias_term()))?;
            let param = |index, name: &str, filler, default| Param {
                index,
                name: format!("{}.{name}", scale.name()),
                shape: vec![channels],
                stored: None,
                filler,
                default,
            };
            let weight = b.param(scale, param(0, "weight", s.filler.as_ref(), 1.0))?;
            let bias = if s.bias_term() {
                b.param(scale, param(1, "bias", s.bias_filler.as_ref(), 0.0))?
            } else {
                b.constant(scale, "bias", Tensor::f32(vec![channels], vec![0.0; channels])?)
            };
            (weight, bias, scale)
        }
        None => {
            let weight = b.constant(layer, "scale", Tensor::f32(vec![channels], vec![1.0; channels])?);
            let bias = b.constant(layer, "bias", Tensor::f32(vec![channels], vec![0.0; channels])?);
            (weight, bias, layer)
        }
    };
    let output = b.top(last, 0, input.shape)?;
    if p.use_global_stats == Some(true) {
        b.info.frozen_batch_norms.push(layer.name().into());
    }
    b.push(
        Node::new(
            layer.name(),
            "BatchNormalization",
            &[&input.name, &weight, &bias, &mean, &var],
            &[&output],
        )
        .with("epsilon", Attribute::Float(p.eps()))
        .with("momentum", Attribute::Float(p.moving_average_fraction())),
    );
    Ok(Mapped::Done)
}

/// Running mean and variance of a `BatchNorm` layer, 0 and 1 where there are none. Caffe keeps sums that are to be
/// divided by the third blob; these are the quotients.
fn statistics(
    b: &mut Builder,
    layer: &LayerParameter,
    channels: usize,
) -> Result<(Vec<f32>, Vec<f32>), CaffeError> {
    b.blobs.check_count(layer, 3)?;
    match b.blobs.take(layer, 0, &[channels])? {
        Some(mut mean) => {
            let mut var = b.blobs.take(layer, 1, &[channels])?.unwrap_or_default();
            let count = b.blobs.take(layer, 2, &[1])?.unwrap_or_default().first().copied().unwrap_or(0.0);
            let factor = if count == 0.0 { 0.0 } else { 1.0 / count };
            mean.iter_mut().chain(&mut var).for_each(|v| *v *= factor);
            if var.iter().any(|&v| !(v >= 0.0 && v.is_finite())) || mean.iter().any(|m| !m.is_finite()) {
                return Err(b.bad(layer, "blobs", "the statistics are not finite or a variance is negative"));
            }
            Ok((mean, var))
        }
        None => {
            if b.options.phase == Phase::Test {
                b.blobs.require(layer)?;
            }
            b.note_fresh(layer);
            Ok((vec![0.0; channels], vec![1.0; channels]))
        }
    }
}

/// What a `Scale` or `Bias` layer does to its input along some axes.
struct Along<'a> {
    axis: i32,
    num_axes: i32,
    filler: Option<&'a FillerParameter>,
    /// Filler of the bias that a `Scale` layer brings.
    bias: Option<Option<&'a FillerParameter>>,
}

/// `Scale`: a product along some axes, with an optional bias.
pub(super) fn scale(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.scale_param.clone().unwrap_or_default();
    let along = Along {
        axis: p.axis(),
        num_axes: p.num_axes(),
        filler: p.filler.as_ref(),
        bias: p.bias_term().then_some(p.bias_filler.as_ref()),
    };
    broadcast(b, layer, "Mul", along)
}

/// `Bias`: a sum along some axes.
pub(super) fn bias(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.bias_param.clone().unwrap_or_default();
    let along = Along { axis: p.axis(), num_axes: p.num_axes(), filler: p.filler.as_ref(), bias: None };
    broadcast(b, layer, "Add", along)
}

fn broadcast(b: &mut Builder, layer: &LayerParameter, op: &str, along: Along) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape.clone() else {
        return Ok(Mapped::Opaque("the shape of its input is not known".into()));
    };
    let start = axis(b, layer, along.axis, shape.len())?;
    let second = if layer.bottom.len() > 1 { Some(b.bottom(layer, 1)?) } else { None };
    let covered = match &second {
        Some(Value { shape: Some(s), .. }) => s.len(),
        Some(_) => return Ok(Mapped::Opaque("the shape of its second input is not known".into())),
        None if along.num_axes == -1 => shape.len() - start,
        None => usize::try_from(along.num_axes).unwrap_or(usize::MAX),
    };
    let Some(part) = start.checked_add(covered).and_then(|end| shape.get(start..end)) else {
        return Err(b.bad(layer, "num_axes", format!("{covered} axes from {start} do not fit {shape:?}")));
    };
    let part = part.to_vec();
    if second.is_none() && start == 0 && covered > 0 {
        return Ok(Mapped::Opaque("a parameter along the batch axis is not supported".into()));
    }
    let trailing = shape.len() - start - covered;
    // Broadcasting aligns the last axes, so the axes behind the covered ones appear with extent 1.
    let stored: Vec<usize> = if covered == 0 {
        Vec::new()
    } else {
        part.iter().copied().chain(std::iter::repeat_n(1, trailing)).collect()
    };
    let own = usize::from(second.is_none());
    b.blobs.check_count(layer, own + usize::from(along.bias.is_some()))?;
    let param = |index, name: &str, filler, default| Param {
        index,
        name: format!("{}.{name}", layer.name()),
        shape: part.clone(),
        stored: Some(stored.clone()),
        filler,
        default,
    };
    let factor = match second {
        Some(value) => {
            if value.shape.as_deref() != Some(&part) {
                let reason = format!("{:?} does not fit {shape:?} from axis {start}", value.shape);
                return Err(b.bad(layer, "bottom", reason));
            }
            if trailing == 0 || covered == 0 {
                value.name
            } else {
                let mut target: Vec<i64> = stored.iter().map(|&d| d as i64).collect();
                if start == 0 {
                    target[0] = 0;
                }
                let target = b.constant(layer, "shape", Tensor::i64_vector(target));
                b.helper(layer, "reshape", "Reshape", &[&value.name, &target])
            }
        }
        None if op == "Mul" => b.param(layer, param(0, "weight", along.filler, 1.0))?,
        None => b.param(layer, param(0, "bias", along.filler, 0.0))?,
    };
    let Some(bias_filler) = along.bias else {
        let output = b.top(layer, 0, Some(shape))?;
        b.push(Node::new(layer.name(), op, &[&input.name, &factor], &[&output]));
        return Ok(Mapped::Done);
    };
    let bias = b.param(layer, param(own, "bias", bias_filler, 0.0))?;
    let product = b.helper(layer, "mul", op, &[&input.name, &factor]);
    let output = b.top(layer, 0, Some(shape))?;
    b.push(Node::new(layer.name(), "Add", &[&product, &bias], &[&output]));
    Ok(Mapped::Done)
}

/// `PReLU`: a slope for each channel or one for all.
pub(super) fn prelu(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.prelu_param.clone().unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape.clone() else {
        return Ok(Mapped::Opaque("the shape of its input is not known".into()));
    };
    let Some(&channels) = shape.get(1) else {
        return Err(b.bad(layer, "bottom", format!("{shape:?} has no channels")));
    };
    let (own, stored) = if p.channel_shared() {
        (vec![1], vec![1])
    } else {
        (vec![channels], std::iter::once(channels).chain(std::iter::repeat_n(1, shape.len() - 2)).collect())
    };
    b.blobs.check_count(layer, 1)?;
    let slope = b.param(
        layer,
        Param {
            index: 0,
            name: format!("{}.slope", layer.name()),
            shape: own,
            stored: Some(stored),
            filler: p.filler.as_ref(),
            default: 0.25,
        },
    )?;
    let output = b.top(layer, 0, Some(shape))?;
    b.push(Node::new(layer.name(), "PRelu", &[&input.name, &slope], &[&output]));
    Ok(Mapped::Done)
}
