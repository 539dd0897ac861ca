//! Convolution, pooling, matrix products, normalisation, softmax.

use super::Context;
use crate::error::GraphError;
use crate::op::{Op, Padding, Window};

/// Refuses data that do not have two spatial axes.
fn two_spatial_axes(cx: &Context, rank: usize) -> Result<(), GraphError> {
    match rank {
        4 => Ok(()),
        0..=2 => Err(cx.mismatch(format!("an image batch [N, C, H, W] is needed, not rank {rank}"))),
        3 => Err(cx.unsupported("a one-dimensional window")),
        n => Err(cx.unsupported(format!("a window over {} spatial axes instead of two", n - 2))),
    }
}

/// The kernel of a convolution, which its weight gives.
fn kernel_of_weight(cx: &Context) -> Result<[usize; 2], GraphError> {
    if let Ok(rank) = cx.rank(0) {
        two_spatial_axes(cx, rank)?;
    }
    cx.require_inputs(2)?;
    let declared = cx.settings::<2>("kernel_shape", 1)?;
    let shape = match (cx.shape(1), declared) {
        (Err(_), Some(kernel)) => return Ok(kernel),
        (shape, _) => shape?,
    };
    two_spatial_axes(cx, shape.len())?;
    let kernel = [shape[2], shape[3]];
    if declared.is_some_and(|d| d != kernel) {
        let reason = format!("differs from the weight's kernel {kernel:?}");
        return Err(cx.bad_attribute("kernel_shape", reason));
    }
    for extent in kernel {
        cx.setting("kernel_shape", extent as i64, 1)?;
    }
    Ok(kernel)
}

/// The kernel of a pooling layer, which an attribute gives.
fn declared_kernel(cx: &Context) -> Result<[usize; 2], GraphError> {
    if let Ok(rank) = cx.rank(0) {
        two_spatial_axes(cx, rank)?;
    }
    if let Some([_] | [_, _, _]) = cx.ints("kernel_shape")? {
        return Err(cx.unsupported("a window over a number of spatial axes other than two"));
    }
    cx.settings::<2>("kernel_shape", 1)?.ok_or_else(|| cx.bad_attribute("kernel_shape", "is missing"))
}

fn window(cx: &Context, kernel: [usize; 2]) -> Result<Window, GraphError> {
    let strides = cx.settings::<2>("strides", 1)?.unwrap_or([1; 2]);
    let dilations = cx.settings::<2>("dilations", 1)?.unwrap_or([1; 2]);
    let pads = cx.settings::<4>("pads", 0)?;
    let padding = match cx.string("auto_pad", "NOTSET")? {
        "NOTSET" | "" => Padding::Explicit(pads.unwrap_or([0; 4])),
        "VALID" => Padding::Explicit([0; 4]),
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        other => return Err(cx.bad_attribute("auto_pad", format!("is `{other}`"))),
    };
    Ok(Window { kernel, strides, dilations, padding })
}

fn groups(cx: &Context) -> Result<usize, GraphError> {
    let groups = cx.setting("group", cx.int("group", 1)?, 1)?;
    let channels = cx.shape(1).map(|s| s[0]).ok();
    if let Some(n) = channels.filter(|n| n % groups != 0) {
        return Err(cx.bad_attribute("group", format!("is {groups}, which does not divide {n} channels")));
    }
    Ok(groups)
}

pub(super) fn conv(cx: &Context) -> Result<Op, GraphError> {
    let window = window(cx, kernel_of_weight(cx)?)?;
    Ok(Op::Conv { window, groups: groups(cx)? })
}

pub(super) fn conv_transpose(cx: &Context) -> Result<Op, GraphError> {
    let mut window = window(cx, kernel_of_weight(cx)?)?;
    let groups = groups(cx)?;
    let mut output_padding = cx.settings::<2>("output_padding", 0)?.unwrap_or([0; 2]);
    for (i, &extra) in output_padding.iter().enumerate() {
        if extra >= window.strides[i].max(window.dilations[i]) {
            let reason = format!("is {output_padding:?}, not below stride or dilation");
            return Err(cx.bad_attribute("output_padding", reason));
        }
    }
    let wanted = cx.settings::<2>("output_shape", 1)?;
    if wanted.is_some() || !matches!(window.padding, Padding::Explicit(_)) {
        (window.padding, output_padding) = transposed_padding(cx, &window, output_padding, wanted)?;
    }
    Ok(Op::ConvTranspose { window, groups, output_padding })
}

/// Padding that makes a transposed convolution's output as large as wanted (default: at most input * stride). Where
/// even without padding it would be too small, the output is padded.
fn transposed_padding(
    cx: &Context,
    window: &Window,
    output_padding: [usize; 2],
    wanted: Option<[usize; 2]>,
) -> Result<(Padding, [usize; 2]), GraphError> {
    let input = cx.shape(0)?;
    two_spatial_axes(cx, input.len())?;
    let too_large = || cx.mismatch("the output's extent cannot be reached");
    let (mut pads, mut extra) = ([0; 4], output_padding);
    for i in 0..2 {
        let (extent, stride) = (input[2 + i], window.strides[i]);
        let target = match wanted {
            Some(wanted) => wanted[i],
            None => extent.checked_mul(stride).ok_or_else(too_large)?,
        };
        let full =
            extent.saturating_sub(1).checked_mul(stride).and_then(|n| n.checked_add(window.reach()[i]));
        let full = full.and_then(|n| n.checked_add(output_padding[i])).ok_or_else(too_large)?;
        // Where the stride exceeds the kernel, `SAME_*` cannot reach input * stride; nothing is padded then.
        let total = full.saturating_sub(target);
        if wanted.is_some() {
            extra[i] += target.saturating_sub(full);
            if extra[i] >= stride.max(window.dilations[i]) {
                return Err(too_large());
            }
        }
        let (small, large) = (total / 2, total - total / 2);
        (pads[i], pads[i + 2]) =
            if window.padding == Padding::SameUpper { (small, large) } else { (large, small) };
    }
    Ok((Padding::Explicit(pads), extra))
}

pub(super) fn max_pool(cx: &Context) -> Result<Op, GraphError> {
    if cx.node.outputs.get(1).is_some_and(|o| !o.is_empty()) {
        return Err(cx.unsupported("the output of positions"));
    }
    let window = window(cx, declared_kernel(cx)?)?;
    padding_below_kernel(cx, &window)?;
    Ok(Op::MaxPool { window, ceil: cx.flag("ceil_mode", false)? })
}

pub(super) fn average_pool(cx: &Context) -> Result<Op, GraphError> {
    let window = window(cx, declared_kernel(cx)?)?;
    padding_below_kernel(cx, &window)?;
    let count_include_pad = cx.flag("count_include_pad", false)?;
    Ok(Op::AveragePool { window, ceil: cx.flag("ceil_mode", false)?, count_include_pad })
}

/// Refuses padding as large as the window: a window inside the padding has no maximum and no mean.
fn padding_below_kernel(cx: &Context, window: &Window) -> Result<(), GraphError> {
    let Padding::Explicit(pads) = window.padding else { return Ok(()) };
    let reach = window.reach();
    if (0..4).any(|i| pads[i] >= reach[i % 2]) {
        let reason = format!("is {pads:?}, not below the window's extent {reach:?}");
        return Err(cx.bad_attribute("pads", reason));
    }
    Ok(())
}

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
