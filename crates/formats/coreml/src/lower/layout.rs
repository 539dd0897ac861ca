//! Operators that move, join or reduce elements.

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::{PadMode, Reduction};

use super::node::{Lowered, part, unsupported};
use crate::builder::{Builder, Val};
use crate::mil::{Argument, DataType};

pub fn concat<W: Write>(b: &mut Builder<'_, W>, node: &Node, axis: usize) -> Lowered {
    let wanted = b.like(&node.outputs[0]).data_type;
    let mut values = Argument::default();
    for index in 0..node.inputs.len() {
        let value = b.input(node, index)?;
        values.arguments.extend(b.cast(value, wanted).arg().arguments);
    }
    let (axis, interleave) = (b.int(axis), b.flag(false));
    b.result(node, "concat", &[("values", values), ("axis", axis), ("interleave", interleave)]);
    Ok(())
}

pub fn split<W: Write>(b: &mut Builder<'_, W>, node: &Node, axis: usize, sizes: &[usize]) -> Lowered {
    let x = b.input(node, 0)?;
    if let [_] = sizes {
        return pass(b, node);
    }
    let label = |(i, output): (usize, &String)| match output.is_empty() {
        true => format!("{}_unused{i}", node.name),
        false => output.clone(),
    };
    let labels: Vec<String> = node.outputs.iter().enumerate().map(label).collect();
    let mut outputs = Vec::new();
    for (label, &size) in labels.iter().zip(sizes) {
        let mut like = x.clone();
        like.shape[axis] = size;
        outputs.push((label.as_str(), like));
    }
    let (lengths, axis) = (b.sizes(sizes), b.int(axis));
    let made = b.op_many("split", &[("x", x.arg()), ("split_sizes", lengths), ("axis", axis)], &outputs);
    for (output, value) in node.outputs.iter().zip(made) {
        b.values.insert(output.clone(), value);
    }
    Ok(())
}

/// Any change of shape that keeps the order of elements.
pub fn reshape<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let x = b.input(node, 0)?;
    let shape = b.like(&node.outputs[0]).shape;
    if shape.is_empty() {
        return unsupported("a tensor without axes");
    }
    let shape = b.sizes(&shape);
    b.result(node, "reshape", &[("x", x.arg()), ("shape", shape)]);
    Ok(())
}

pub fn transpose<W: Write>(b: &mut Builder<'_, W>, node: &Node, perm: &[usize]) -> Lowered {
    let x = b.input(node, 0)?;
    let perm = b.sizes(perm);
    b.result(node, "transpose", &[("x", x.arg()), ("perm", perm)]);
    Ok(())
}

pub fn slice<W: Write>(b: &mut Builder<'_, W>, node: &Node, ranges: &[(i64, i64, i64)]) -> Lowered {
    let x = b.input(node, 0)?;
    let inputs = window(b, &x, ranges);
    b.result(node, "slice_by_index", &inputs);
    Ok(())
}

/// The inputs of a slice. An end before the first element, which only a negative step has, is said by the mask.
fn window<W: Write>(
    b: &mut Builder<'_, W>,
    x: &Val,
    ranges: &[(i64, i64, i64)],
) -> Vec<(&'static str, Argument)> {
    vec![
        ("x", x.arg()),
        ("begin", b.ints(ranges.iter().map(|r| r.0))),
        ("end", b.ints(ranges.iter().map(|r| r.1.max(0)))),
        ("stride", b.ints(ranges.iter().map(|r| r.2))),
        ("begin_mask", b.flags(vec![false; ranges.len()])),
        ("end_mask", b.flags(ranges.iter().map(|r| r.1 < 0).collect())),
        ("squeeze_mask", b.flags(vec![false; ranges.len()])),
    ]
}

/// Padding on any axes; what is negative crops first.
pub fn pad<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    [before, after]: [&[i64]; 2],
    mode: PadMode,
) -> Lowered {
    let mut x = b.float_input(node, 0)?;
    let crop: Vec<(i64, i64, i64)> = x
        .shape
        .iter()
        .zip(before.iter().zip(after))
        .map(|(&extent, (&start, &end))| ((-start).max(0), extent as i64 + end.min(0), 1))
        .collect();
    if before.iter().chain(after).any(|&p| p < 0) {
        let shape: Vec<usize> =
            crop.iter().map(|(start, end, _)| usize::try_from(end - start).unwrap_or(0)).collect();
        let inputs = window(b, &x, &crop);
        x = b.op("slice_by_index", &inputs, &part(node, "cropped"), &x.with_shape(&shape));
    }
    let around: Vec<i64> = before.iter().zip(after).flat_map(|(&s, &e)| [s.max(0), e.max(0)]).collect();
    let (name, value) = match mode {
        PadMode::Constant(value) => ("constant", value),
        PadMode::Reflect => ("reflect", 0.0),
        PadMode::Edge => ("replicate", 0.0),
        PadMode::Wrap => return unsupported("padding by the tensor itself"),
    };
    let spatial = 2 * x.shape.len().saturating_sub(2);
    if name != "constant" && around[..spatial].iter().any(|&p| p != 0) {
        return unsupported(format!("padding of mode {name} on other than the last two axes"));
    }
    // Of the axes in front, those that are not padded are left out.
    let first = around.chunks(2).position(|p| p != [0, 0]).unwrap_or(0).min(x.shape.len().saturating_sub(2));
    let first = if name == "constant" { first } else { x.shape.len().saturating_sub(2) };
    let around = b.ints(around[2 * first..].iter().copied());
    let (mode, value) = (b.text(name), b.float(value));
    let inputs = [("x", x.arg()), ("pad", around), ("mode", mode), ("constant_val", value)];
    b.result(node, "pad", &inputs);
    Ok(())
}

pub fn reduce<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    reduction: Reduction,
    axes: &[usize],
    keep_dims: bool,
) -> Lowered {
    let x = b.float_input(node, 0)?;
    if axes.is_empty() {
        return pass(b, node);
    }
    if !keep_dims && axes.len() == x.shape.len() {
        return unsupported("a tensor without axes");
    }
    let kind = match reduction {
        Reduction::Mean => "reduce_mean",
        Reduction::Sum => "reduce_sum",
        Reduction::Max => "reduce_max",
        Reduction::Min => "reduce_min",
        other => return unsupported(format!("the reduction {other:?}")),
    };
    let (axes, keep) = (b.sizes(axes), b.flag(keep_dims));
    b.result(node, kind, &[("x", x.arg()), ("axes", axes), ("keep_dims", keep)]);
    Ok(())
}

pub fn gather<W: Write>(b: &mut Builder<'_, W>, node: &Node, axis: usize) -> Lowered {
    let (x, indices) = (b.input(node, 0)?, b.input(node, 1)?);
    let indices = b.cast(indices, DataType::Int32);
    let (axis, batch, validate) = (b.int(axis), b.int(0), b.flag(false));
    let inputs = [
        ("x", x.arg()),
        ("indices", indices.arg()),
        ("axis", axis),
        ("batch_dims", batch),
        ("validate_indices", validate),
    ];
    b.result(node, "gather", &inputs);
    Ok(())
}

/// Repeats along axes of extent 1.
pub fn expand<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let mut x = b.input(node, 0)?;
    let shape = b.like(&node.outputs[0]).shape;
    if x.shape.len() < shape.len() {
        let wide = [vec![1; shape.len() - x.shape.len()], x.shape.clone()].concat();
        let target = b.sizes(&wide);
        x = b.op("reshape", &[("x", x.arg()), ("shape", target)], &part(node, "wide"), &x.with_shape(&wide));
    }
    let times: Vec<usize> = shape.iter().zip(&x.shape).map(|(&to, &from)| to / from.max(1)).collect();
    let times = b.sizes(&times);
    b.result(node, "tile", &[("x", x.arg()), ("reps", times)]);
    Ok(())
}

/// The input under the output's name: nothing is computed.
pub fn pass<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let x = b.input(node, 0)?;
    b.values.insert(node.outputs[0].clone(), x);
    Ok(())
}

/// The input, or a cast of it where the element types differ.
pub fn identity<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let x = b.input(node, 0)?;
    let wanted = b.like(&node.outputs[0]).data_type;
    if x.data_type == wanted {
        return pass(b, node);
    }
    let to = b.text(if wanted == DataType::Int32 { "int32" } else { "fp32" });
    b.result(node, "cast", &[("x", x.arg()), ("dtype", to)]);
    Ok(())
}
