//! Convolution and pooling over one or three spatial axes, made of those over two.

use slq_graph::op::{BinaryOp, Op, PadMode, Padding, Window};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

/// An axis of extent 1 before the last.
fn wide(x: &Operand) -> Operand {
    let mut shape = x.shape.clone();
    shape.insert(shape.len().saturating_sub(1), 1);
    x.seen_as(&shape)
}

fn data(emit: &Emit, inputs: &[Option<Operand>], i: usize) -> Result<Operand, EngineError> {
    inputs.get(i).cloned().flatten().ok_or_else(|| emit.unsupported(format!("input {i} is missing")))
}

/// Over one axis: data and kernel have a further axis of extent 1.
pub(super) fn line(
    emit: &mut Emit,
    op: &Op,
    inputs: &[Option<Operand>],
    shape: &[usize],
) -> Result<Operand, EngineError> {
    let &[n, c, w] = shape else { return Err(emit.unsupported("its output is not N x C x W")) };
    let mut inputs = inputs.to_vec();
    for input in inputs.iter_mut().take(2) {
        *input = input.as_ref().map(wide);
    }
    Ok(emit.step(op.clone(), inputs, &[n, c, 1, w]).seen_as(shape))
}

/// Over three axes: the operator over planes for each step along the depth.
pub(super) fn volume(
    emit: &mut Emit,
    depth: &Window,
    plane: &Op,
    inputs: &[Option<Operand>],
    shape: &[usize],
) -> Result<Operand, EngineError> {
    let x = data(emit, inputs, 0)?;
    match plane {
        Op::MaxPool { .. } | Op::AveragePool { .. } => pool(emit, depth, plane, &x, shape),
        Op::Conv { .. } => {
            let weight = data(emit, inputs, 1)?;
            conv(emit, depth, plane, [&x, &weight], inputs.get(2).cloned().flatten(), shape)
        }
        Op::ConvTranspose { .. } => {
            let weight = data(emit, inputs, 1)?;
            transposed(emit, depth, plane, [&x, &weight], inputs.get(2).cloned().flatten(), shape)
        }
        _ => Err(emit.unsupported("there is no such operator over three axes")),
    }
}

/// Maxima and means over boxes are those over planes, then over depth: their divisors are products.
fn pool(
    emit: &mut Emit,
    depth: &Window,
    plane: &Op,
    x: &Operand,
    shape: &[usize],
) -> Result<Operand, EngineError> {
    let (&[n, c, d, h, w], &[_, _, od, oh, ow]) = (x.shape.as_slice(), shape) else {
        return Err(emit.unsupported("its data are not N x C x D x H x W"));
    };
    let planes = emit.one(plane.clone(), &x.seen_as(&[n, c * d, h, w]), &[n, c * d, oh, ow]);
    let along = match plane {
        Op::MaxPool { ceil, .. } => Op::MaxPool { window: *depth, ceil: *ceil },
        Op::AveragePool { ceil, count_include_pad, .. } => {
            Op::AveragePool { window: *depth, ceil: *ceil, count_include_pad: *count_include_pad }
        }
        other => other.clone(),
    };
    let stacked = planes.seen_as(&[1, n * c, d, oh * ow]);
    Ok(emit.one(along, &stacked, &[1, n * c, od, oh * ow]).seen_as(shape))
}

/// The planes that each plane of the output reads become its channels.
fn conv(
    emit: &mut Emit,
    depth: &Window,
    plane: &Op,
    [x, weight]: [&Operand; 2],
    bias: Option<Operand>,
    shape: &[usize],
) -> Result<Operand, EngineError> {
    let (&[n, c, d, h, w], &[_, m, od, oh, ow]) = (x.shape.as_slice(), shape) else {
        return Err(emit.unsupported("its data are not N x C x D x H x W"));
    };
    let &[_, per_group, kd, kh, kw] = weight.shape.as_slice() else {
        return Err(emit.unsupported("its weight has not five axes"));
    };
    let [before, _, after, _] = depth.resolve_pads([d, 1]);
    let mut x = x.clone();
    if before + after > 0 {
        let pads = |by: usize| vec![0, 0, by as i64, 0, 0];
        let op = Op::Pad { before: pads(before), after: pads(after), mode: PadMode::Constant(0.0) };
        x = emit.one(op, &x, &[n, c, d + before + after, h, w]);
    }
    let (stride, dilation) = (depth.strides[0], depth.dilations[0]);
    let part = |emit: &mut Emit, k: usize| {
        emit.slice(&x, 2, [k * dilation, od, stride]).seen_as(&[n, c, 1, od, h, w])
    };
    let parts: Vec<Operand> = (0..kd).map(|k| part(emit, k)).collect();
    let joined = emit.concat(&parts, 2);
    let planes = emit.transpose(&joined, &[0, 3, 1, 2, 4, 5]).seen_as(&[n * od, c * kd, h, w]);
    let weight = weight.seen_as(&[m, per_group * kd, kh, kw]);
    let y = emit.step(plane.clone(), vec![Some(planes), Some(weight), bias], &[n * od, m, oh, ow]);
    Ok(emit.transpose(&y.seen_as(&[n, od, m, oh, ow]), &[0, 2, 1, 3, 4]))
}

/// Each plane gives planes for all steps of the kernel along the depth; those that lie on each other are added.
fn transposed(
    emit: &mut Emit,
    depth: &Window,
    plane: &Op,
    [x, weight]: [&Operand; 2],
    bias: Option<Operand>,
    shape: &[usize],
) -> Result<Operand, EngineError> {
    let (&[n, c, d, h, w], &[_, m, od, oh, ow]) = (x.shape.as_slice(), shape) else {
        return Err(emit.unsupported("its data are not N x C x D x H x W"));
    };
    let &[_, per_group, kd, kh, kw] = weight.shape.as_slice() else {
        return Err(emit.unsupported("its weight has not five axes"));
    };
    let Padding::Explicit([before, ..]) = depth.padding else {
        return Err(emit.unsupported("its padding is not resolved"));
    };
    let planes = emit.transpose(x, &[0, 2, 1, 3, 4]).seen_as(&[n * d, c, h, w]);
    let weight = weight.seen_as(&[c, per_group * kd, kh, kw]);
    let y = emit.step(plane.clone(), vec![Some(planes), Some(weight)], &[n * d, m * kd, oh, ow]);
    let steps = emit.transpose(&y.seen_as(&[n, d, m, kd, oh * ow]), &[0, 2, 1, 3, 4]);
    emit.room((d * kd).saturating_add(od).saturating_mul(4))?;
    let mut terms = vec![Vec::new(); od];
    for i in 0..d {
        for k in 0..kd {
            let at = (i * depth.strides[0] + k * depth.dilations[0]).checked_sub(before);
            if let Some(terms) = at.and_then(|at| terms.get_mut(at)) {
                terms.push((i * kd + k, 1.0));
            }
        }
    }
    let op = Op::Weighted { axis: 2, terms, added: Vec::new() };
    let y = emit.one(op, &steps.seen_as(&[n, m, d * kd, oh * ow]), &[n, m, od, oh * ow]).seen_as(shape);
    match bias {
        Some(bias) => emit.binary(BinaryOp::Add, &y, &bias.seen_as(&[m, 1, 1, 1])),
        None => Ok(y),
    }
}
