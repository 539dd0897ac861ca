//! Matrix products, batch normalisation, softmax, bounds.

use super::Context;
use crate::error::GraphError;
use crate::op::Op;

pub(super) fn gemm(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    Ok(Op::Gemm {
        alpha: cx.float("alpha", 1.0)?,
        beta: cx.float("beta", 1.0)?,
        trans_a: cx.flag("transA", false)?,
        trans_b: cx.flag("transB", false)?,
    })
}

pub(super) fn batch_norm(cx: &Context) -> Result<Op, GraphError> {
    const ADVICE: &str = "export the network for inference";
    cx.require_inputs(5)?;
    if cx.flag("training_mode", false)? || cx.node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return Err(cx.unsupported_but("the training form", ADVICE));
    }
    if !cx.flag("spatial", true)? {
        return Err(cx.unsupported("one statistic for each position (spatial = 0)"));
    }
    let epsilon = cx.float("epsilon", 1e-5)?;
    if epsilon < 0.0 {
        return Err(cx.bad_attribute("epsilon", format!("is {epsilon}")));
    }
    Ok(Op::BatchNorm { epsilon, momentum: cx.float("momentum", 0.9)? })
}

pub(super) fn lrn(cx: &Context) -> Result<Op, GraphError> {
    if !cx.has("size") {
        return Err(cx.bad_attribute("size", "is missing"));
    }
    let size = cx.setting("size", cx.int("size", 0)?, 1)?;
    Ok(Op::Lrn {
        size,
        alpha: cx.float("alpha", 1e-4)?,
        beta: cx.float("beta", 0.75)?,
        bias: cx.float("bias", 1.0)?,
    })
}

pub(super) fn dropout(cx: &Context) -> Result<Op, GraphError> {
    let ratio = match cx.constant_float(1)? {
        Some(ratio) => ratio,
        None => cx.float("ratio", 0.5)?,
    };
    if !(0.0..1.0).contains(&ratio) {
        return Err(cx.bad_attribute("ratio", format!("is {ratio}, outside 0 <= ratio < 1")));
    }
    let training = match cx.constant(2)?.map(|t| t.to_i64()) {
        None => false,
        Some(Some(flag)) => flag.iter().any(|&v| v != 0),
        Some(None) => return Err(cx.bad_input(2, "is no Boolean")),
    };
    if training && ratio > 0.0 {
        return Err(cx.unsupported_but("the training form", "export the network for inference"));
    }
    Ok(Op::Dropout { ratio })
}

pub(super) fn softmax(cx: &Context) -> Result<Op, GraphError> {
    let (axis, flatten) = softmax_axis(cx)?;
    Ok(Op::Softmax { axis, flatten, log: false })
}

pub(super) fn log_softmax(cx: &Context) -> Result<Op, GraphError> {
    let (axis, flatten) = softmax_axis(cx)?;
    Ok(Op::Softmax { axis, flatten, log: true })
}

/// The axis, and whether it and everything after it count as one (before opset 13).
fn softmax_axis(cx: &Context) -> Result<(usize, bool), GraphError> {
    let flattens = cx.opset() < 13;
    let rank = cx.rank(0)?;
    let axis = cx.axis(cx.int("axis", if flattens { 1 } else { -1 })?, rank)?;
    // Over the last axis the two rules agree.
    Ok((axis, flattens && axis + 1 != rank))
}

pub(super) fn clip(cx: &Context) -> Result<Op, GraphError> {
    let bound = |index: usize, attribute: &str, absent: f32| match cx.constant_float(index)? {
        Some(v) => Ok(v),
        None => match cx.node.attributes.get(attribute) {
            None => Ok(absent),
            Some(crate::Attribute::Float(v)) if !v.is_nan() => Ok(*v),
            Some(_) => Err(cx.bad_attribute(attribute, "is not a number")),
        },
    };
    let min = bound(1, "min", f32::NEG_INFINITY)?;
    Ok(Op::Clip { min, max: bound(2, "max", f32::INFINITY)? })
}
