//! Convolution and pooling, over one to three spatial axes.

use super::Context;
use crate::error::GraphError;
use crate::op::{Op, Padding, Window};

/// Settings of a window along each spatial axis.
struct Axes {
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    /// Padding at the beginning of each axis, then at the end of each.
    pads: Vec<usize>,
    /// `auto_pad`, where it asks for the same extent as the strides give.
    same: Option<Padding>,
}

impl Axes {
    /// A window of the node's strides, dilations and pads.
    fn new(cx: &Context, kernel: Vec<usize>) -> Result<Self, GraphError> {
        let n = kernel.len();
        let strides = cx.settings("strides", n, 1)?.unwrap_or(vec![1; n]);
        let dilations = cx.settings("dilations", n, 1)?.unwrap_or(vec![1; n]);
        let pads = cx.settings("pads", 2 * n, 0)?;
        let (pads, same) = match cx.string("auto_pad", "NOTSET")? {
            "NOTSET" | "" => (pads, None),
            "VALID" => (None, None),
            "SAME_UPPER" => (None, Some(Padding::SameUpper)),
            "SAME_LOWER" => (None, Some(Padding::SameLower)),
            other => return Err(cx.bad_attribute("auto_pad", format!("is `{other}`"))),
        };
        Ok(Self { kernel, strides, dilations, pads: pads.unwrap_or(vec![0; 2 * n]), same })
    }

    fn count(&self) -> usize {
        self.kernel.len()
    }

    /// Extent of the window along axis `i`, with its dilation.
    fn reach(&self, i: usize) -> usize {
        (self.kernel[i] - 1).saturating_mul(self.dilations[i]).saturating_add(1)
    }

    /// The window over a pair of axes; `None` is an axis of extent 1.
    fn pair(&self, axes: [Option<usize>; 2]) -> Window {
        let of = |list: &[usize], absent: usize| axes.map(|axis| axis.map_or(absent, |i| list[i]));
        let n = self.count();
        let [top, left] = of(&self.pads[..n], 0);
        let [bottom, right] = of(&self.pads[n..], 0);
        Window {
            kernel: of(&self.kernel, 1),
            strides: of(&self.strides, 1),
            dilations: of(&self.dilations, 1),
            padding: self.same.unwrap_or(Padding::Explicit([top, left, bottom, right])),
        }
    }

    /// The operator that `plane` makes of a window over two axes; `extra` are the output paddings of a transposed
    /// convolution along each axis.
    fn apply(&self, extra: &[usize], plane: impl Fn(Window, [usize; 2]) -> Op) -> Op {
        let extra = |i: usize| extra.get(i).copied().unwrap_or(0);
        match self.count() {
            1 => Op::Line(Box::new(plane(self.pair([None, Some(0)]), [0, extra(0)]))),
            2 => plane(self.pair([Some(0), Some(1)]), [extra(0), extra(1)]),
            _ => Op::Volume {
                depth: self.pair([Some(0), None]),
                output_padding: extra(0),
                plane: Box::new(plane(self.pair([Some(1), Some(2)]), [extra(1), extra(2)])),
            },
        }
    }
}

/// Number of spatial axes of data of `rank` axes: one to three.
fn spatial_axes(cx: &Context, rank: usize) -> Result<usize, GraphError> {
    match rank {
        0..=2 => Err(cx.mismatch(format!("an image batch [N, C, H, W] is needed, not rank {rank}"))),
        3..=5 => Ok(rank - 2),
        n => Err(cx.unsupported(format!("a window over {} spatial axes", n - 2))),
    }
}

/// The kernel of a convolution, which its weight gives.
fn kernel_of_weight(cx: &Context) -> Result<Vec<usize>, GraphError> {
    let known = cx.rank(0).ok().map(|rank| spatial_axes(cx, rank)).transpose()?;
    cx.require_inputs(2)?;
    let shape = match cx.shape(1) {
        Ok(shape) => shape,
        Err(unknown) => {
            let count = known.or(cx.ints("kernel_shape")?.map(<[i64]>::len)).unwrap_or(2);
            return cx.settings("kernel_shape", count, 1)?.ok_or(unknown);
        }
    };
    let count = spatial_axes(cx, shape.len())?;
    if known.is_some_and(|k| k != count) {
        return Err(cx.mismatch("data and weight differ in their number of axes"));
    }
    let kernel = shape[2..].to_vec();
    if cx.settings("kernel_shape", count, 1)?.is_some_and(|d| d != kernel) {
        let reason = format!("differs from the weight's kernel {kernel:?}");
        return Err(cx.bad_attribute("kernel_shape", reason));
    }
    for &extent in &kernel {
        cx.setting("kernel_shape", extent as i64, 1)?;
    }
    Ok(kernel)
}

/// The kernel of a pooling layer, which an attribute gives.
fn declared_kernel(cx: &Context) -> Result<Vec<usize>, GraphError> {
    let declared = cx.ints("kernel_shape")?.ok_or_else(|| cx.bad_attribute("kernel_shape", "is missing"))?;
    let count = match cx.rank(0) {
        Ok(rank) => spatial_axes(cx, rank)?,
        Err(_) => spatial_axes(cx, declared.len() + 2)?,
    };
    let kernel = cx.settings("kernel_shape", count, 1)?;
    kernel.ok_or_else(|| cx.bad_attribute("kernel_shape", "is missing"))
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
    let axes = Axes::new(cx, kernel_of_weight(cx)?)?;
    let groups = groups(cx)?;
    Ok(axes.apply(&[], |window, _| Op::Conv { window, groups }))
}

pub(super) fn conv_transpose(cx: &Context) -> Result<Op, GraphError> {
    let mut axes = Axes::new(cx, kernel_of_weight(cx)?)?;
    let (groups, n) = (groups(cx)?, axes.count());
    let mut extra = cx.settings("output_padding", n, 0)?.unwrap_or(vec![0; n]);
    if (0..n).any(|i| extra[i] >= axes.strides[i].max(axes.dilations[i])) {
        let reason = format!("is {extra:?}, not below stride or dilation");
        return Err(cx.bad_attribute("output_padding", reason));
    }
    let wanted = cx.settings("output_shape", n, 1)?;
    if wanted.is_some() || axes.same.is_some() {
        transposed_padding(cx, &mut axes, &mut extra, wanted)?;
    }
    Ok(axes.apply(&extra, |window, output_padding| Op::ConvTranspose { window, groups, output_padding }))
}

/// Padding that makes a transposed convolution's output as large as wanted (default: at most input * stride). Where
/// even without padding it would be too small, the output is padded.
fn transposed_padding(
    cx: &Context,
    axes: &mut Axes,
    extra: &mut [usize],
    wanted: Option<Vec<usize>>,
) -> Result<(), GraphError> {
    let input = cx.shape(0)?;
    let n = axes.count();
    spatial_axes(cx, input.len())?;
    let too_large = || cx.mismatch("the output's extent cannot be reached");
    for i in 0..n {
        let (extent, stride) = (input[2 + i], axes.strides[i]);
        let target = match &wanted {
            Some(wanted) => wanted[i],
            None => extent.checked_mul(stride).ok_or_else(too_large)?,
        };
        let full = extent.saturating_sub(1).checked_mul(stride).and_then(|n| n.checked_add(axes.reach(i)));
        let full = full.and_then(|n| n.checked_add(extra[i])).ok_or_else(too_large)?;
        // Where the stride exceeds the kernel, `SAME_*` cannot reach input * stride; nothing is padded then.
        let total = full.saturating_sub(target);
        if wanted.is_some() {
            extra[i] += target.saturating_sub(full);
            if extra[i] >= stride.max(axes.dilations[i]) {
                return Err(too_large());
            }
        }
        let (small, large) = (total / 2, total - total / 2);
        let upper = axes.same == Some(Padding::SameUpper);
        (axes.pads[i], axes.pads[i + n]) = if upper { (small, large) } else { (large, small) };
    }
    axes.same = None;
    Ok(())
}

pub(super) fn max_pool(cx: &Context) -> Result<Op, GraphError> {
    if cx.node.outputs.get(1).is_some_and(|o| !o.is_empty()) {
        return Err(cx.unsupported("the output of positions"));
    }
    let axes = Axes::new(cx, declared_kernel(cx)?)?;
    padding_below_kernel(cx, &axes)?;
    let ceil = cx.flag("ceil_mode", false)?;
    Ok(axes.apply(&[], |window, _| Op::MaxPool { window, ceil }))
}

pub(super) fn average_pool(cx: &Context) -> Result<Op, GraphError> {
    let axes = Axes::new(cx, declared_kernel(cx)?)?;
    padding_below_kernel(cx, &axes)?;
    let (ceil, count_include_pad) = (cx.flag("ceil_mode", false)?, cx.flag("count_include_pad", false)?);
    Ok(axes.apply(&[], |window, _| Op::AveragePool { window, ceil, count_include_pad }))
}

/// Refuses padding as large as the window: a window inside the padding has no maximum and no mean.
fn padding_below_kernel(cx: &Context, axes: &Axes) -> Result<(), GraphError> {
    let n = axes.count();
    let reach: Vec<usize> = (0..n).map(|i| axes.reach(i)).collect();
    if axes.same.is_none() && (0..2 * n).any(|i| axes.pads[i] >= reach[i % n]) {
        let reason = format!("is {:?}, not below the window's extent {reach:?}", axes.pads);
        return Err(cx.bad_attribute("pads", reason));
    }
    Ok(())
}
