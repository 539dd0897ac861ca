//! Pooling: ONNX's extents by Caffe's ceil rule, cropped where that gives one row or column more.

use slq_graph::Node;
use slq_graph::op::{Reduction, Window};

use super::cut::keep;
use super::writer::Writer;
use crate::error::CaffeError;
use crate::proto::pooling_parameter::PoolMethod;
use crate::proto::reduction_parameter::ReductionOp;
use crate::proto::{FlattenParameter, PoolingParameter, ReductionParameter};
use crate::read::pool_extent;

/// A `Pooling` layer over a blob of `input` extents whose output has `wanted` extents.
fn pooling(
    w: &mut Writer,
    node: &Node,
    method: PoolMethod,
    window: &Window,
    pad: [usize; 2],
    input: [usize; 2],
    wanted: [usize; 2],
) -> Result<(), CaffeError> {
    if window.dilations != [1, 1] {
        return Err(w.no(node, "Caffe has no dilated pooling"));
    }
    let mut got = [0; 2];
    for i in 0..2 {
        let extent = pool_extent(input[i], window.kernel[i], window.strides[i], pad[i]);
        got[i] = extent.ok_or_else(|| w.no(node, "a window would lie outside of the image"))?;
        if got[i] < wanted[i] {
            return Err(w.no(node, "its padding at the end is larger than Caffe's rule gives"));
        }
    }
    let one = |v: [usize; 2]| (v[0] == v[1]).then_some(v[0] as u32);
    let two = |v: [usize; 2], i: usize| (v[0] != v[1]).then_some(v[i] as u32);
    let param = PoolingParameter {
        pool: Some(method as i32),
        kernel_size: one(window.kernel),
        kernel_h: two(window.kernel, 0),
        kernel_w: two(window.kernel, 1),
        stride: one(window.strides).filter(|&s| s != 1),
        stride_h: two(window.strides, 0),
        stride_w: two(window.strides, 1),
        pad: one(pad).filter(|&p| p != 0),
        pad_h: two(pad, 0),
        pad_w: two(pad, 1),
        ..PoolingParameter::default()
    };
    let bottom = w.bottom(node, 0)?;
    let top = node.outputs[0].clone();
    let pooled = if got == wanted { top.clone() } else { w.name(&format!("{}.pooled", node.name)) };
    w.layer(&node.name, "Pooling", &[&bottom], &[&pooled], |l| l.pooling_param = Some(param));
    if got != wanted {
        let ranges = [(2, 0, wanted[0], got[0]), (3, 0, wanted[1], got[1])];
        keep(w, &format!("{}.crop", node.name), &pooled, &top, &ranges);
    }
    Ok(())
}

fn extents(w: &Writer, node: &Node) -> Result<([usize; 2], [usize; 2]), CaffeError> {
    match (w.shape(node, 0)?, w.out_shape(node, 0)?) {
        (&[_, _, h, wd], &[_, _, oh, ow]) => Ok(([h, wd], [oh, ow])),
        (shape, _) => Err(w.no(node, format!("{shape:?} is not an image batch of four axes"))),
    }
}

/// Maximum pooling. What lies outside of the image never counts, so that only the padding before it matters.
pub(super) fn max(w: &mut Writer, node: &Node, window: &Window) -> Result<(), CaffeError> {
    if node.outputs.get(1).is_some_and(|o| !o.is_empty()) {
        return Err(w.no(node, "the positions of the maxima are not supported"));
    }
    let (input, wanted) = extents(w, node)?;
    let pads = window.resolve_pads(input);
    pooling(w, node, PoolMethod::Max, window, [pads[0], pads[1]], input, wanted)
}

/// Average pooling; `padded` is the explicit zero padding (top, left, bottom, right) in front of it.
///
/// Caffe divides by the part of the window inside the image and its padding on either side.
pub(super) fn average(
    w: &mut Writer,
    node: &Node,
    window: &Window,
    include_pad: bool,
    padded: Option<[usize; 4]>,
) -> Result<(), CaffeError> {
    let (mut input, wanted) = extents(w, node)?;
    let pads = window.resolve_pads(input);
    let mut pad = [pads[0], pads[1]];
    if let Some([top, left, bottom, right]) = padded {
        let inside = |i: usize, pads: usize| input[i].checked_sub(pads);
        let (Some(rows), Some(columns)) =
            (inside(0, top.saturating_add(bottom)), inside(1, left.saturating_add(right)))
        else {
            return Err(w.no(node, "more padding than the average pool's input has"));
        };
        input = [rows, columns];
        if pad != [0, 0] || include_pad && (pads[2], pads[3]) != (0, 0) {
            return Err(w.no(node, "padding in front of a padded average pool has no counterpart"));
        }
        pad = [top, left];
    }
    for i in 0..2 {
        // Divisors agree where every window ends inside the image, or inside both paddings.
        let end = (wanted[i] - 1) * window.strides[i] + window.kernel[i];
        let image = pad[i] + input[i];
        let counted = match padded {
            Some(p) => image + p[2 + i],
            None if include_pad => image + pads[2 + i],
            None => image,
        };
        let begins = include_pad || padded.is_some() || pad[i] == 0;
        if !begins || end.min(counted) != end.min(image + pad[i]) {
            return Err(w.no(node, "Caffe's average counts padding in a different way"));
        }
    }
    pooling(w, node, PoolMethod::Ave, window, pad, input, wanted)
}

/// Pooling over the whole image.
pub(super) fn global(w: &mut Writer, node: &Node, method: PoolMethod) -> Result<(), CaffeError> {
    let param = PoolingParameter {
        pool: Some(method as i32),
        global_pooling: Some(true),
        ..PoolingParameter::default()
    };
    w.simple(node, "Pooling", |l| l.pooling_param = Some(param))
}

/// `ReduceMean` over an image is global pooling; over the last axes it is a `Reduction`.
pub(super) fn reduce(
    w: &mut Writer,
    node: &Node,
    reduction: Reduction,
    axes: &[usize],
    keep_dims: bool,
) -> Result<(), CaffeError> {
    let rank = w.shape(node, 0)?.len();
    if !matches!(reduction, Reduction::Mean | Reduction::Sum) {
        return Err(w.no(node, format!("Caffe has no layer for the reduction {reduction:?}")));
    }
    let mean = reduction == Reduction::Mean;
    if mean && rank == 4 && axes == [2, 3] {
        if keep_dims {
            return global(w, node, PoolMethod::Ave);
        }
        let bottom = w.bottom(node, 0)?;
        let pooled = w.name(&format!("{}.pooled", node.name));
        let param = PoolingParameter {
            pool: Some(PoolMethod::Ave as i32),
            global_pooling: Some(true),
            ..PoolingParameter::default()
        };
        w.layer(&node.name, "Pooling", &[&bottom], &[&pooled], |l| l.pooling_param = Some(param));
        let name = format!("{}.flatten", node.name);
        w.layer(&name, "Flatten", &[&pooled], &[&node.outputs[0]], |l| {
            l.flatten_param = Some(FlattenParameter::default());
        });
        return Ok(());
    }
    let start = axes.first().copied().unwrap_or(0);
    if keep_dims || start == 0 || !axes.iter().copied().eq(start..rank) {
        return Err(w.no(node, format!("Caffe reduces all axes from one on, not {axes:?} of {rank}")));
    }
    let operation = if mean { ReductionOp::Mean } else { ReductionOp::Sum };
    let param =
        ReductionParameter { operation: Some(operation as i32), axis: Some(start as i32), coeff: None };
    w.simple(node, "Reduction", |l| l.reduction_param = Some(param))
}
