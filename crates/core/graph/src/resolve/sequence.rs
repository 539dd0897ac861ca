//! Attention, rotary positions, sampling by a grid, Einstein sums.

use super::Context;
use crate::error::GraphError;
use crate::op::{Attention, Grid, GridPadding, Interpolation, Op, Rotary, Rounding};

pub(super) fn attention(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(3)?;
    let heads = match (cx.rank(0)?, cx.int("q_num_heads", 0)?, cx.int("kv_num_heads", 0)?) {
        (4, _, _) => None,
        (3, q, kv) => Some([cx.setting("q_num_heads", q, 1)?, cx.setting("kv_num_heads", kv, 1)?]),
        (rank, _, _) => {
            return Err(cx.mismatch(format!("queries of three or four axes are needed, not {rank}")));
        }
    };
    let softcap = cx.float("softcap", 0.0)?;
    if softcap < 0.0 {
        return Err(cx.bad_attribute("softcap", format!("is {softcap}")));
    }
    let scale = if cx.has("scale") { Some(cx.float("scale", 1.0)?) } else { None };
    let products = cx.int("qk_matmul_output_mode", 0)?;
    let products = u8::try_from(products).ok().filter(|p| *p < 4);
    let window = |name: &str| match cx.int(name, -1)? {
        -1 => Ok(None),
        width => cx.setting(name, width, 0).map(Some),
    };
    if cx.node.input(4).is_some() != cx.node.input(5).is_some() {
        return Err(cx.mismatch("past keys and past values are needed together"));
    }
    if cx.node.input(6).is_some() && cx.node.input(4).is_some() {
        return Err(cx.mismatch("past keys and lengths exclude each other"));
    }
    let lengths = cx.constant_ints(6)?.unwrap_or_default();
    let lengths: Result<Vec<usize>, _> = lengths.into_iter().map(usize::try_from).collect();
    Ok(Op::Attention(Attention {
        heads,
        scale,
        causal: cx.flag("is_causal", false)?,
        window: [window("left_window_size")?, window("right_window_size")?],
        softcap,
        products: products.ok_or_else(|| cx.bad_attribute("qk_matmul_output_mode", "is not 0, 1, 2 or 3"))?,
        lengths: lengths.map_err(|_| cx.bad_input(6, "holds a negative length"))?,
    }))
}

pub(super) fn rotary(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(3)?;
    let heads = match (cx.rank(0)?, cx.int("num_heads", 0)?) {
        (4, _) => None,
        (3, heads) => Some(cx.setting("num_heads", heads, 1)?),
        (rank, _) => return Err(cx.mismatch(format!("data of three or four axes are needed, not {rank}"))),
    };
    let turned = cx.setting("rotary_embedding_dim", cx.int("rotary_embedding_dim", 0)?, 0)?;
    if turned % 2 != 0 {
        return Err(cx.bad_attribute("rotary_embedding_dim", "is odd"));
    }
    Ok(Op::Rotary(Rotary { heads, turned, interleaved: cx.flag("interleaved", false)? }))
}

pub(super) fn grid_sample(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    if cx.rank(0)? == 5 {
        return Err(cx.unsupported("a grid over three spatial axes"));
    }
    let interpolation = match cx.string("mode", "linear")? {
        "linear" | "bilinear" => Interpolation::Linear,
        "nearest" => Interpolation::Nearest(Rounding::PreferFloor),
        "cubic" | "bicubic" => Interpolation::Cubic { a: -0.75 },
        other => return Err(cx.bad_attribute("mode", format!("is `{other}`"))),
    };
    let padding = match cx.string("padding_mode", "zeros")? {
        "zeros" => GridPadding::Zeros,
        "border" => GridPadding::Border,
        "reflection" => GridPadding::Reflection,
        other => return Err(cx.bad_attribute("padding_mode", format!("is `{other}`"))),
    };
    Ok(Op::GridSample(Grid { interpolation, padding, align_corners: cx.flag("align_corners", false)? }))
}

/// Labels of axes: letters, and those that an ellipsis stands for, counted from the last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Ellipsis(usize),
    Letter(char),
}

/// The labels of one operand of `rank` axes, or of the result, where the ellipsis stands for `wide` axes.
fn labels(text: &str, wide: Result<usize, usize>) -> Option<Vec<Label>> {
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let letters = |part: &str| {
        part.chars().map(|c| c.is_ascii_alphabetic().then_some(Label::Letter(c))).collect::<Option<Vec<_>>>()
    };
    match text.split_once("...") {
        None => letters(&text),
        Some((before, after)) => {
            let (before, after) = (letters(before)?, letters(after)?);
            let count = match wide {
                Ok(rank) => rank.checked_sub(before.len() + after.len())?,
                Err(count) => count,
            };
            let middle = (0..count).rev().map(Label::Ellipsis);
            Some(before.into_iter().chain(middle).chain(after).collect())
        }
    }
}

pub(super) fn einsum(cx: &Context) -> Result<Op, GraphError> {
    let count = cx.node.inputs.len();
    cx.require_inputs(count)?;
    let equation = cx.string("equation", "")?;
    let refuse = |what: &str| cx.bad_attribute("equation", format!("is `{equation}`: {what}"));
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation, None),
    };
    let parts: Vec<&str> = left.split(',').collect();
    if parts.len() != count {
        return Err(refuse("it has another number of operands than the node"));
    }
    let mut operands = Vec::with_capacity(count);
    for (i, part) in parts.iter().enumerate() {
        let rank = cx.rank(i)?;
        let found = labels(part, Ok(rank)).filter(|l| l.len() == rank);
        operands.push(found.ok_or_else(|| refuse("it does not fit the operands"))?);
    }
    let all: Vec<Label> = operands.iter().flatten().copied().collect();
    let mut known = all.clone();
    known.sort_unstable();
    known.dedup();
    let wide = known.iter().filter(|l| matches!(l, Label::Ellipsis(_))).count();
    let result = match right {
        Some(right) => labels(right, Err(wide)).ok_or_else(|| refuse("its result is no list of axes"))?,
        None => {
            let once = known
                .iter()
                .filter(|l| matches!(l, Label::Letter(_)) && all.iter().filter(|a| a == l).count() == 1);
            (0..wide).rev().map(Label::Ellipsis).chain(once.copied()).collect()
        }
    };
    let number = |label: &Label| known.iter().position(|k| k == label);
    let numbers = |labels: &[Label]| labels.iter().map(number).collect::<Option<Vec<usize>>>();
    let result = numbers(&result).ok_or_else(|| refuse("its result has an axis that no operand has"))?;
    let distinct = |list: &[usize]| (1..list.len()).all(|i| !list[..i].contains(&list[i]));
    let operands = operands.iter().map(|o| numbers(o)).collect::<Option<Vec<_>>>().unwrap_or_default();
    if !distinct(&result) || operands.iter().any(|o| !distinct(o)) {
        return Err(cx.unsupported("an axis that one operand or the result has twice"));
    }
    if count > 2 {
        return Err(cx.unsupported(format!("a product of {count} operands")));
    }
    Ok(Op::Einsum { operands, result })
}
