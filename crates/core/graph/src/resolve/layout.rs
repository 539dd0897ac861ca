//! Operators that move, join or reduce elements.

use super::Context;
use crate::error::GraphError;
use crate::op::{Op, PadMode, Reduction, UnaryOp};

pub(super) fn concat(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(cx.node.inputs.len())?;
    if !cx.has("axis") {
        return Err(cx.bad_attribute("axis", "is missing"));
    }
    Ok(Op::Concat { axis: cx.axis(cx.int("axis", 0)?, cx.rank(0)?)? })
}

pub(super) fn split(cx: &Context) -> Result<Op, GraphError> {
    let shape = cx.shape(0)?;
    let axis = cx.axis(cx.int("axis", 0)?, shape.len())?;
    let (extent, parts) = (shape[axis], cx.node.outputs.len());
    if parts == 0 {
        return Err(cx.mismatch("there are no outputs to split into"));
    }
    let given = cx.ints_of("split", 1)?;
    let sizes: Vec<usize> = match given {
        Some(sizes) => {
            let sizes: Option<Vec<usize>> =
                sizes.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s <= extent)).collect();
            sizes.ok_or_else(|| cx.mismatch(format!("the parts do not lie within {extent}")))?
        }
        None => {
            let declared = cx.int("num_outputs", parts as i64)?;
            if usize::try_from(declared).ok() != Some(parts) {
                let reason = format!("is {declared}, the node has {parts} outputs");
                return Err(cx.bad_attribute("num_outputs", reason));
            }
            if !cx.has("num_outputs") && extent % parts != 0 {
                return Err(cx.mismatch(format!("{extent} cannot be split into {parts} equal parts")));
            }
            let part = extent.div_ceil(parts);
            let last = extent.checked_sub(part.saturating_mul(parts - 1));
            let last = last.ok_or_else(|| cx.mismatch(format!("{extent} is too few for {parts} parts")))?;
            (0..parts).map(|i| if i + 1 == parts { last } else { part }).collect()
        }
    };
    let sum = sizes.iter().try_fold(0usize, |n, &s| n.checked_add(s));
    if sizes.len() != parts || sum != Some(extent) {
        return Err(cx.mismatch(format!("parts {sizes:?} do not fit {parts} outputs of {extent} in all")));
    }
    Ok(Op::Split { axis, sizes })
}

pub(super) fn flatten(cx: &Context) -> Result<Op, GraphError> {
    let (axis, rank) = (cx.int("axis", 1)?, cx.rank(0)?);
    // Unlike elsewhere, the rank itself is a valid axis: everything goes to the first dimension.
    let axis = if axis == rank as i64 { rank } else { cx.axis(axis, rank)? };
    Ok(Op::Flatten { axis })
}

pub(super) fn reshape(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let target = cx.constant_ints(1)?.unwrap_or_default();
    if let Some(d) = target.iter().find(|&&d| d < -1) {
        return Err(cx.bad_input(1, format!("asks for an extent of {d}")));
    }
    if target.iter().filter(|&&d| d == -1).count() > 1 {
        return Err(cx.bad_input(1, "leaves more than one extent open"));
    }
    if cx.flag("allowzero", false)? && target.contains(&0) {
        return Err(cx.unsupported("an empty tensor"));
    }
    Ok(Op::Reshape { target })
}

/// A target for `Reshape` with the extents of `shape`.
fn target(cx: &Context, shape: &[usize]) -> Result<Vec<i64>, GraphError> {
    let extent = |&d: &usize| i64::try_from(d).map_err(|_| cx.mismatch("an extent is too large"));
    shape.iter().map(extent).collect()
}

pub(super) fn squeeze(cx: &Context) -> Result<Op, GraphError> {
    let shape = cx.shape(0)?;
    let axes = match cx.ints_of("axes", 1)? {
        Some(axes) => cx.axes(&axes, shape.len())?,
        None => (0..shape.len()).filter(|&i| shape[i] == 1).collect(),
    };
    if let Some(axis) = axes.iter().find(|&&a| shape[a] != 1) {
        return Err(cx.mismatch(format!("axis {axis} has extent {}, not 1", shape[*axis])));
    }
    let kept: Vec<usize> = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i]).collect();
    Ok(Op::Reshape { target: target(cx, &kept)? })
}

pub(super) fn unsqueeze(cx: &Context) -> Result<Op, GraphError> {
    let shape = cx.shape(0)?;
    let axes = cx.ints_of("axes", 1)?.ok_or_else(|| cx.bad_attribute("axes", "is missing"))?;
    let axes = cx.axes(&axes, shape.len().saturating_add(axes.len()))?;
    let mut rest = shape.iter();
    let wide = (0..shape.len() + axes.len())
        .map(|i| if axes.contains(&i) { 1 } else { rest.next().copied().unwrap_or(1) });
    Ok(Op::Reshape { target: target(cx, &wide.collect::<Vec<_>>())? })
}

pub(super) fn transpose(cx: &Context) -> Result<Op, GraphError> {
    let rank = cx.rank(0)?;
    let perm: Vec<usize> = match cx.ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(perm) => perm.iter().filter_map(|&p| usize::try_from(p).ok()).collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted != (0..rank).collect::<Vec<_>>() {
        return Err(cx.bad_attribute("perm", format!("is not a permutation of {rank} axes")));
    }
    Ok(Op::Transpose { perm })
}

pub(super) fn slice(cx: &Context) -> Result<Op, GraphError> {
    let shape = cx.shape(0)?;
    let list = |attribute: &str, index: usize| cx.ints_of(attribute, index);
    let missing = |name: &str| cx.bad_attribute(name, "is missing");
    let starts = list("starts", 1)?.ok_or_else(|| missing("starts"))?;
    let ends = list("ends", 2)?.ok_or_else(|| missing("ends"))?;
    let axes = list("axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = cx.constant_ints(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(cx.mismatch("starts, ends, axes and steps differ in length"));
    }
    let mut ranges = Vec::new();
    for &extent in shape {
        let extent = i64::try_from(extent).map_err(|_| cx.mismatch("an extent is too large"))?;
        ranges.push((0, extent, 1));
    }
    cx.axes(&axes, shape.len())?; // refuses an axis given twice
    for (i, &axis) in axes.iter().enumerate() {
        let axis = cx.axis(axis, shape.len())?;
        let extent = ranges[axis].1;
        let (start, end, step) = (starts[i], ends[i], steps[i]);
        if step == 0 {
            return Err(cx.mismatch(format!("the step along axis {axis} is 0")));
        }
        let from_front = |v: i64| if v < 0 { v.saturating_add(extent) } else { v };
        ranges[axis] = if step > 0 {
            (from_front(start).clamp(0, extent), from_front(end).clamp(0, extent), step)
        } else {
            (from_front(start).clamp(0, (extent - 1).max(0)), from_front(end).clamp(-1, extent - 1), step)
        };
    }
    Ok(Op::Slice { ranges })
}

pub(super) fn pad(cx: &Context) -> Result<Op, GraphError> {
    let rank = cx.rank(0)?;
    let pads = cx.ints_of("pads", 1)?.ok_or_else(|| cx.bad_attribute("pads", "is missing"))?;
    let axes: Vec<usize> = match cx.constant_ints(3)? {
        None => (0..rank).collect(),
        Some(axes) => {
            cx.axes(&axes, rank)?;
            axes.iter().map(|&a| cx.axis(a, rank)).collect::<Result<_, _>>()?
        }
    };
    if pads.len() != 2 * axes.len() {
        return Err(cx.mismatch(format!("{} pads for {} axes", pads.len(), axes.len())));
    }
    let (mut before, mut after) = (vec![0; rank], vec![0; rank]);
    for (i, &axis) in axes.iter().enumerate() {
        (before[axis], after[axis]) = (pads[i], pads[axes.len() + i]);
    }
    let value = match cx.constant_float(2)? {
        Some(value) => value,
        None => cx.float("value", 0.0)?,
    };
    let mode = match cx.string("mode", "constant")? {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(cx.unsupported(format!("padding mode `{other}`"))),
    };
    Ok(Op::Pad { before, after, mode })
}

/// The statistic of a reduction.
pub(super) fn reduction(op: &str) -> Option<Reduction> {
    Some(match op {
        "ReduceMean" => Reduction::Mean,
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        _ => return None,
    })
}

pub(super) fn reduce(cx: &Context) -> Result<Op, GraphError> {
    let rank = cx.rank(0)?;
    let reduction = reduction(&cx.node.op).ok_or_else(|| cx.unsupported("no reduction"))?;
    let given = cx.ints_of("axes", 1)?.filter(|axes| !axes.is_empty());
    let axes = match given {
        Some(axes) => cx.axes(&axes, rank)?,
        // Without axes the reduction is none, though the function of the elements stays.
        None if cx.flag("noop_with_empty_axes", false)? => match reduction {
            Reduction::L1 | Reduction::L2 => return Ok(Op::Unary(UnaryOp::Abs)),
            Reduction::LogSum => return Ok(Op::Unary(UnaryOp::Log)),
            Reduction::SumSquare => return Ok(Op::Reduce { reduction, axes: vec![], keep_dims: true }),
            _ => return Ok(Op::Identity),
        },
        None => (0..rank).collect(),
    };
    Ok(Op::Reduce { reduction, axes, keep_dims: cx.flag("keepdims", true)? })
}

pub(super) fn expand(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let target = cx.constant_ints(1)?.unwrap_or_default();
    let extents: Option<Vec<usize>> =
        target.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d > 0)).collect();
    Ok(Op::Expand {
        shape: extents.ok_or_else(|| cx.bad_input(1, format!("asks for the shape {target:?}")))?,
    })
}
