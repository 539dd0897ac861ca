//! Operators that choose, repeat or add up elements along axes.

use super::Context;
use super::resample::one_integer;
use crate::error::GraphError;
use crate::node::Attribute;
use crate::op::Op;

pub(super) fn arg_extreme(cx: &Context, largest: bool) -> Result<Op, GraphError> {
    Ok(Op::ArgExtreme {
        axis: cx.axis(cx.int("axis", 0)?, cx.rank(0)?)?,
        keep_dims: cx.flag("keepdims", true)?,
        largest,
        last: cx.flag("select_last_index", false)?,
    })
}

pub(super) fn top_k(cx: &Context) -> Result<Op, GraphError> {
    let shape = cx.shape(0)?;
    let axis = cx.axis(cx.int("axis", -1)?, shape.len())?;
    let count = if cx.opset() < 10 { Some(cx.int("k", 0)?) } else { one_integer(cx, 1)? };
    let fits = count.and_then(|k| usize::try_from(k).ok()).filter(|k| (1..=shape[axis]).contains(k));
    let count = fits.ok_or_else(|| cx.mismatch(format!("k is {count:?}, outside 1..={}", shape[axis])))?;
    Ok(Op::TopK { axis, count, largest: cx.flag("largest", true)?, positions: false })
}

pub(super) fn tile(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let rank = cx.rank(0)?;
    let given = cx.constant_ints(1)?.unwrap_or_default();
    let repeats: Option<Vec<usize>> =
        given.iter().map(|&r| usize::try_from(r).ok().filter(|r| (1..=1 << 24).contains(r))).collect();
    let repeats = repeats.filter(|r| r.len() == rank);
    let repeats =
        repeats.ok_or_else(|| cx.bad_input(1, format!("is {given:?}, no repetition of {rank} axes")))?;
    Ok(Op::Tile { repeats })
}

pub(super) fn cum_sum(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let axis = one_integer(cx, 1)?.unwrap_or_default();
    Ok(Op::CumSum {
        axis: cx.axis(axis, cx.rank(0)?)?,
        exclusive: cx.flag("exclusive", false)?,
        reverse: cx.flag("reverse", false)?,
    })
}

pub(super) fn trilu(cx: &Context) -> Result<Op, GraphError> {
    if cx.rank(0)? < 2 {
        return Err(cx.mismatch("there is no matrix"));
    }
    Ok(Op::Trilu { upper: cx.flag("upper", true)?, diagonal: one_integer(cx, 1)?.unwrap_or(0) })
}

pub(super) fn gather_elements(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    Ok(Op::GatherElements { axis: cx.axis(cx.int("axis", 0)?, cx.rank(0)?)? })
}

pub(super) fn gather_nd(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let (data, indices) = (cx.shape(0)?, cx.shape(1)?);
    let batch_dims = cx.setting("batch_dims", cx.int("batch_dims", 0)?, 0)?;
    let fits = batch_dims < indices.len()
        && batch_dims < data.len()
        && data[..batch_dims] == indices[..batch_dims]
        && indices.last().is_some_and(|&k| (1..=data.len() - batch_dims).contains(&k));
    if !fits {
        return Err(cx.mismatch("the indices do not fit the data"));
    }
    Ok(Op::GatherNd { batch_dims })
}

/// Blocks of channels become blocks of space, or the other way round.
pub(super) fn blocks(cx: &Context, to_space: bool) -> Result<Op, GraphError> {
    let b = cx.setting("blocksize", cx.int("blocksize", 0)?, 1)?;
    let &[n, c, h, w] = cx.shape(0)? else {
        return Err(cx.mismatch("an image batch [N, C, H, W] is needed"));
    };
    let square = b * b;
    if to_space {
        if c % square != 0 {
            return Err(cx.mismatch(format!("blocks of {b} x {b} do not divide {c} channels")));
        }
        let out = c / square;
        let (split, perm) = match cx.string("mode", "DCR")? {
            "DCR" => (vec![n, b, b, out, h, w], vec![0, 3, 4, 1, 5, 2]),
            "CRD" => (vec![n, out, b, b, h, w], vec![0, 1, 4, 2, 5, 3]),
            other => return Err(cx.bad_attribute("mode", format!("is `{other}`"))),
        };
        return Ok(Op::Rearrange {
            split,
            perm,
            shape: vec![n, out, h.saturating_mul(b), w.saturating_mul(b)],
        });
    }
    if h % b != 0 || w % b != 0 {
        return Err(cx.mismatch(format!("blocks of {b} x {b} do not divide {h} x {w}")));
    }
    let split = vec![n, c, h / b, b, w / b, b];
    let perm = match cx.string("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(cx.bad_attribute("mode", format!("is `{other}`"))),
    };
    Ok(Op::Rearrange { split, perm, shape: vec![n, c.saturating_mul(square), h / b, w / b] })
}

/// A tensor of one value whose shape is a constant.
pub(super) fn constant_of_shape(cx: &Context) -> Result<Op, GraphError> {
    let dims = cx.constant_ints(0)?.unwrap_or_default();
    let shape: Option<Vec<usize>> =
        dims.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d > 0)).collect();
    let shape = shape.ok_or_else(|| cx.bad_input(0, format!("asks for the shape {dims:?}")))?;
    let value = match cx.node.attributes.get("value") {
        None => 0.0,
        Some(Attribute::Tensor(t)) if t.len() == 1 => match (t.to_f32(), t.to_i64()) {
            (Some(v), _) => v[0],
            (None, Some(v)) if v[0].abs() <= 1 << 24 => v[0] as f32,
            _ => return Err(cx.unsupported("a value that 32-bit floats do not hold")),
        },
        Some(_) => return Err(cx.bad_attribute("value", "is not a single number")),
    };
    Ok(Op::Fill { value, shape })
}
