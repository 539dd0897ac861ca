//! Element-wise combinations, scales and local response normalisation.

use slq_graph::op::{BinaryOp, Op};
use slq_graph::{Node, TrainingRates};

use super::writer::{Writer, blob, training};
use crate::error::CaffeError;
use crate::proto::eltwise_parameter::EltwiseOp;
use crate::proto::{
    BiasParameter, ClipParameter, EltwiseParameter, FlattenParameter, LrnParameter, PowerParameter,
    ScaleParameter,
};

/// `LRN` across channels.
pub(super) fn lrn(
    w: &mut Writer,
    node: &Node,
    size: usize,
    alpha: f32,
    beta: f32,
    k: f32,
) -> Result<(), CaffeError> {
    if size.is_multiple_of(2) {
        return Err(w.no(node, format!("Caffe's window is odd, not {size}")));
    }
    let param = LrnParameter {
        local_size: Some(size as u32),
        alpha: Some(alpha),
        beta: Some(beta),
        k: Some(k),
        ..LrnParameter::default()
    };
    w.simple(node, "LRN", |l| l.lrn_param = Some(param))
}

/// `Clip`: the bounds that have a layer of their own, or Caffe's `Clip`.
pub(super) fn clip(w: &mut Writer, node: &Node, min: f32, max: f32) -> Result<(), CaffeError> {
    if (min, max) == (0.0, f32::INFINITY) {
        w.simple(node, "ReLU", |_| ())
    } else if (min, max) == (0.0, 6.0) {
        w.simple(node, "ReLU6", |_| ())
    } else if min.is_finite() && max.is_finite() {
        let param = ClipParameter { min: Some(min), max: Some(max) };
        w.simple(node, "Clip", |l| l.clip_param = Some(param))
    } else {
        Err(w.no(node, format!("Caffe clips at two finite bounds, not {min} and {max}")))
    }
}

/// The sum of all inputs.
pub(super) fn sum(w: &mut Writer, node: &Node) -> Result<(), CaffeError> {
    let operation = EltwiseOp::Sum;
    eltwise(w, node, operation, Vec::new())
}

fn eltwise(w: &mut Writer, node: &Node, operation: EltwiseOp, coeff: Vec<f32>) -> Result<(), CaffeError> {
    let out = w.out_shape(node, 0)?;
    for i in 0..node.inputs.len() {
        if w.shape(node, i)? != out {
            return Err(w.no(node, "Caffe combines inputs of one shape only"));
        }
    }
    let bottoms: Vec<String> = (0..node.inputs.len()).map(|i| w.bottom(node, i)).collect::<Result<_, _>>()?;
    let param = EltwiseParameter { operation: Some(operation as i32), coeff, stable_prod_grad: None };
    let bottoms: Vec<&str> = bottoms.iter().map(String::as_str).collect();
    w.layer(&node.name, "Eltwise", &bottoms, &[&node.outputs[0]], |l| l.eltwise_param = Some(param));
    Ok(())
}

/// The number of channels of a constant with one value for each; `None` for a single number.
fn channel_constant(w: &Writer, node: &Node, i: usize) -> Result<Option<usize>, CaffeError> {
    let (data, constant) = (w.out_shape(node, 0)?, w.shape(node, i)?);
    if constant.iter().product::<usize>() == 1 {
        return Ok(None);
    }
    let offset = data.len().saturating_sub(constant.len());
    let fits = data.len() >= 2
        && constant.iter().enumerate().all(|(j, &d)| d == if offset + j == 1 { data[1] } else { 1 });
    match fits {
        true => Ok(Some(data[1])),
        false => Err(w.no(node, format!("a constant of the shape {constant:?} is not one value a channel"))),
    }
}

/// An operator of two inputs, of which one may be constant.
pub(super) fn binary(w: &mut Writer, position: usize, node: &Node, op: BinaryOp) -> Result<(), CaffeError> {
    let constant = (0..2).find(|&i| w.constant(node, i).is_some());
    if let Some(i) = constant {
        return with_constant(w, position, node, op, i);
    }
    let (a, b) = (w.shape(node, 0)?, w.shape(node, 1)?);
    match op {
        BinaryOp::Mul if a != b => gate(w, node),
        BinaryOp::Add => eltwise(w, node, EltwiseOp::Sum, Vec::new()),
        BinaryOp::Sub => eltwise(w, node, EltwiseOp::Sum, vec![1.0, -1.0]),
        BinaryOp::Mul => eltwise(w, node, EltwiseOp::Prod, Vec::new()),
        BinaryOp::Max => eltwise(w, node, EltwiseOp::Max, Vec::new()),
        _ => Err(w.no(node, "Caffe has no layer for this combination; write ONNX instead")),
    }
}

fn with_constant(
    w: &mut Writer,
    position: usize,
    node: &Node,
    op: BinaryOp,
    i: usize,
) -> Result<(), CaffeError> {
    let values = w.constant(node, i).unwrap_or_default();
    let bottom = w.bottom(node, 1 - i)?;
    let top = node.outputs[0].clone();
    let Some(channels) = channel_constant(w, node, i)? else {
        let c = values.first().copied().unwrap_or(0.0);
        let power = |power, scale, shift| Some(PowerParameter { power, scale, shift });
        let param = match (op, i) {
            (BinaryOp::Add, _) => power(None, None, Some(c)),
            (BinaryOp::Mul, _) => power(None, Some(c), None),
            (BinaryOp::Sub, 1) => power(None, None, Some(-c)),
            (BinaryOp::Sub, _) => power(None, Some(-1.0), Some(c)),
            (BinaryOp::Div, 1) => power(None, Some(1.0 / c), None),
            (BinaryOp::Pow, 1) => power(Some(c), None, None),
            _ => return Err(w.no(node, "Caffe has no layer for this combination; write ONNX instead")),
        };
        w.layer(&node.name, "Power", &[&bottom], &[&top], |l| l.power_param = param);
        return Ok(());
    };
    let weight = w.weight(node, i, vec![channels])?;
    match op {
        BinaryOp::Add if node.input(i) == Some(&format!("{}.bias", node.name)) => {
            // It was a `Bias` layer before, and the prototxt it came from is to go on fitting.
            w.layer(&node.name, "Bias", &[&bottom], &[&top], |l| {
                (l.blobs, l.param) = [weight].into_iter().unzip();
                l.bias_param = Some(BiasParameter::default());
            });
            Ok(())
        }
        BinaryOp::Add => {
            // OpenCV knows `Scale` but not `Bias`.
            let ones = blob(vec![channels], vec![1.0; channels]).ok_or_else(|| w.no(node, "channels"))?;
            w.layer(&node.name, "Scale", &[&bottom], &[&top], |l| {
                (l.blobs, l.param) = [(ones, training(TrainingRates::FROZEN)), weight].into_iter().unzip();
                l.scale_param = Some(ScaleParameter { bias_term: Some(true), ..Default::default() });
            });
            Ok(())
        }
        BinaryOp::Mul => {
            let bias = following_bias(w, position, &top, channels)?;
            let (name, top) = match &bias {
                Some((add, _)) => (add.name.clone(), add.outputs[0].clone()),
                None => (node.name.clone(), top),
            };
            let weights = std::iter::once(weight).chain(bias.map(|(_, b)| b));
            w.layer(&name, "Scale", &[&bottom], &[&top], |l| {
                (l.blobs, l.param) = weights.unzip();
                let bias_term = (l.blobs.len() == 2).then_some(true);
                l.scale_param = Some(ScaleParameter { bias_term, ..Default::default() });
            });
            Ok(())
        }
        _ => Err(w.no(node, "Caffe scales and shifts by a constant for each channel, nothing else")),
    }
}

type Weight = (crate::proto::BlobProto, crate::proto::ParamSpec);

/// The bias that is added to `value` next, if nothing else reads it: one `Scale` layer holds both.
fn following_bias<'g>(
    w: &mut Writer<'g>,
    position: usize,
    value: &str,
    channels: usize,
) -> Result<Option<(&'g Node, Weight)>, CaffeError> {
    let Some(next) = w.only_reader(value).filter(|&n| n > position) else { return Ok(None) };
    let (add, op) = w.at(next);
    if *op != Op::Binary(BinaryOp::Add) {
        return Ok(None);
    }
    let Some(i) = (0..2).find(|&i| w.constant(add, i).is_some()) else { return Ok(None) };
    if !matches!(channel_constant(w, add, i), Ok(Some(c)) if c == channels) {
        return Ok(None);
    }
    let bias = w.weight(add, i, vec![channels])?;
    w.merged.insert(next);
    Ok(Some((add, bias)))
}

/// A product of an image and one factor a channel, [N, C, H, W] and [N, C, 1, 1]: `Scale` with two inputs.
fn gate(w: &mut Writer, node: &Node) -> Result<(), CaffeError> {
    let out = w.out_shape(node, 0)?;
    let image = (0..2).find(|&i| w.shape(node, i).ok() == Some(out));
    let Some(image) = image else { return Err(w.no(node, "both inputs are broadcast")) };
    let factor = w.shape(node, 1 - image)?;
    let one_a_channel = |factor: &[usize]| {
        factor.len() == out.len()
            && factor.len() >= 2
            && factor[..2] == out[..2]
            && factor[2..].iter().all(|&d| d == 1)
    };
    if !one_a_channel(factor) {
        return Err(w.no(node, format!("{factor:?} is not one factor for each channel of {out:?}")));
    }
    let (data, factor) = (w.bottom(node, image)?, w.bottom(node, 1 - image)?);
    let flat = w.name(&format!("{}.factor", node.name));
    w.layer(&format!("{}.flatten", node.name), "Flatten", &[&factor], &[&flat], |l| {
        l.flatten_param = Some(FlattenParameter::default());
    });
    w.layer(&node.name, "Scale", &[&data, &flat], &[&node.outputs[0]], |l| {
        l.scale_param = Some(ScaleParameter { axis: Some(0), ..Default::default() });
    });
    Ok(())
}
