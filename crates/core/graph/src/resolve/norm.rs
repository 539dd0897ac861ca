//! Normalisation of each sample by its own statistics.

use super::Context;
use crate::error::GraphError;
use crate::op::{Normalization, Op};

fn epsilon(cx: &Context) -> Result<f32, GraphError> {
    let epsilon = cx.float("epsilon", 1e-5)?;
    if epsilon < 0.0 {
        return Err(cx.bad_attribute("epsilon", format!("is {epsilon}")));
    }
    Ok(epsilon)
}

pub(super) fn layer(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    if cx.node.outputs.iter().skip(1).any(|o| !o.is_empty()) {
        return Err(cx.unsupported("the output of mean or deviation"));
    }
    computed_in_float(cx)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(0)?)?;
    Ok(Op::Normalize { over: Normalization::Layer { axis }, epsilon: epsilon(cx)? })
}

pub(super) fn rms(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    computed_in_float(cx)?;
    let axis = cx.axis(cx.int("axis", -1)?, cx.rank(0)?)?;
    Ok(Op::Normalize { over: Normalization::Rms { axis }, epsilon: epsilon(cx)? })
}

/// Refuses statistics in another type than 32-bit floats.
fn computed_in_float(cx: &Context) -> Result<(), GraphError> {
    match cx.int("stash_type", 1)? {
        1 => Ok(()),
        other => Err(cx.unsupported(format!("statistics in element type {other}"))),
    }
}

pub(super) fn instance(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(3)?;
    Ok(Op::Normalize { over: Normalization::Instance, epsilon: epsilon(cx)? })
}

pub(super) fn group(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(3)?;
    computed_in_float(cx)?;
    if !cx.has("num_groups") {
        return Err(cx.bad_attribute("num_groups", "is missing"));
    }
    let groups = cx.setting("num_groups", cx.int("num_groups", 0)?, 1)?;
    let by_channel = cx.opset() >= 21;
    Ok(Op::Normalize { over: Normalization::Group { groups, by_channel }, epsilon: epsilon(cx)? })
}
