//! Convolutions.

use slq_graph::{Attribute, Node};

use super::builder::{Builder, Param};
use super::mapped::Mapped;
use crate::error::CaffeError;
use crate::proto::{ConvolutionParameter, LayerParameter};

/// The two extents that a repeated field and its `_h`/`_w` forms give.
fn pair(list: &[u32], h: Option<u32>, w: Option<u32>, default: Option<u32>) -> Result<[usize; 2], String> {
    let [h, w] = match (list, h, w) {
        ([], None, None) => match default {
            Some(d) => [d, d],
            None => return Err("missing".into()),
        },
        ([], h, w) => match (h.or(default), w.or(default)) {
            (Some(h), Some(w)) => [h, w],
            _ => return Err("height and width must both be given".into()),
        },
        (_, Some(_), _) | (_, _, Some(_)) => return Err("given twice: alone and by height and width".into()),
        ([both], ..) => [*both, *both],
        ([h, w], ..) => [*h, *w],
        _ => return Err(format!("{} spatial axes; two are supported", list.len())),
    };
    Ok([h as usize, w as usize])
}

/// Kernel, strides, dilations and pads, each (height, width).
struct Geometry {
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pad: [usize; 2],
}

/// Bound on each setting: far above any use, low enough that no product of a few overflows.
const MAX_SETTING: usize = 1 << 20;

fn geometry(b: &Builder, layer: &LayerParameter, p: &ConvolutionParameter) -> Result<Geometry, CaffeError> {
    let bad = |field: &str| {
        let field = field.to_owned();
        move |reason: String| b.bad(layer, &field, reason)
    };
    let g = Geometry {
        kernel: pair(&p.kernel_size, p.kernel_h, p.kernel_w, None).map_err(bad("kernel_size"))?,
        stride: pair(&p.stride, p.stride_h, p.stride_w, Some(1)).map_err(bad("stride"))?,
        dilation: pair(&p.dilation, None, None, Some(1)).map_err(bad("dilation"))?,
        pad: pair(&p.pad, p.pad_h, p.pad_w, Some(0)).map_err(bad("pad"))?,
    };
    let positive = [("kernel_size", g.kernel), ("stride", g.stride), ("dilation", g.dilation)];
    for (field, values) in positive {
        if values.iter().any(|&v| v == 0 || v > MAX_SETTING) {
            return Err(b.bad(layer, field, format!("{values:?} is out of range")));
        }
    }
    if g.pad.iter().any(|&v| v > MAX_SETTING) {
        return Err(b.bad(layer, "pad", format!("{:?} is out of range", g.pad)));
    }
    Ok(g)
}

/// Height and width of the output; `None` where the kernel does not fit an input of `shape`.
fn output_extents(shape: &[usize], g: &Geometry, direction: Direction) -> Option<[usize; 2]> {
    let mut extents = [0; 2];
    for axis in 0..2 {
        let (size, reach) = (shape[2 + axis], g.dilation[axis] * (g.kernel[axis] - 1) + 1);
        let extent = match direction {
            Direction::Transposed => (g.stride[axis] * (size - 1) + reach).checked_sub(2 * g.pad[axis])?,
            Direction::Forward => (size + 2 * g.pad[axis]).checked_sub(reach)? / g.stride[axis] + 1,
        };
        extents[axis] = Some(extent).filter(|&e| e > 0)?;
    }
    Some(extents)
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|&v| v as i64).collect())
}

/// Which way a convolution goes. The layouts of the blobs are ONNX's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// `Convolution` and its depthwise relatives; blob 0 is [M, C / groups, kh, kw].
    Forward,
    /// `Deconvolution`; blob 0 is [C, M / groups, kh, kw].
    Transposed,
}

/// `Convolution`, its depthwise relatives, and `Deconvolution`.
pub(super) fn add(
    b: &mut Builder,
    layer: &LayerParameter,
    direction: Direction,
) -> Result<Mapped, CaffeError> {
    let transposed = direction == Direction::Transposed;
    let p = layer.convolution_param.clone().unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    if layer.bottom.len() != 1 || layer.top.len() != 1 {
        return Err(b.bad(layer, "bottom", "several inputs in one convolution layer are not supported"));
    }
    if !matches!(p.axis(), 1 | -3) {
        return Err(b.bad(layer, "axis", format!("{} is not supported, only 1", p.axis())));
    }
    let g = geometry(b, layer, &p)?;
    let outputs = p.num_output() as usize;
    let groups = p.group() as usize;
    if outputs == 0 || groups == 0 || !outputs.is_multiple_of(groups) {
        return Err(b.bad(layer, "num_output", format!("{outputs} outputs in {groups} groups")));
    }
    if let Some(shape) = &input.shape
        && shape.len() != 4
    {
        return Err(b.bad(layer, "bottom", format!("{shape:?} is not an image batch of four axes")));
    }
    let channels = match (&input.shape, b.blobs.shape(layer, 0)) {
        (Some(shape), _) => shape[1],
        (None, Some(&[m, c, _, _])) => {
            if transposed {
                m
            } else {
                c.saturating_mul(groups)
            }
        }
        (None, _) => return Ok(Mapped::Opaque("the shape of its input is not known".into())),
    };
    if !channels.is_multiple_of(groups) || channels == 0 {
        return Err(b.bad(layer, "group", format!("{channels} channels in {groups} groups")));
    }
    let [kh, kw] = g.kernel;
    let shape = if transposed {
        vec![channels, outputs / groups, kh, kw]
    } else {
        vec![outputs, channels / groups, kh, kw]
    };
    let output_shape = match &input.shape {
        Some(s) => match output_extents(s, &g, direction) {
            Some([h, w]) => Some(vec![s[0], outputs, h, w]),
            None => return Err(b.bad(layer, "kernel_size", format!("does not fit the input {s:?}"))),
        },
        None => None,
    };
    b.blobs.check_count(layer, 1 + usize::from(p.bias_term()))?;
    let weight = b.param(layer, Param::weight(layer, shape, p.weight_filler.as_ref()))?;
    let mut inputs = vec![input.name.clone(), weight];
    if p.bias_term() {
        inputs.push(b.param(layer, Param::bias(layer, outputs, p.bias_filler.as_ref()))?);
    }
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let output = b.top(layer, 0, output_shape)?;
    let op = if transposed { "ConvTranspose" } else { "Conv" };
    let [ph, pw] = g.pad;
    b.push(
        Node::new(layer.name(), op, &inputs, &[&output])
            .with("kernel_shape", ints(&g.kernel))
            .with("strides", ints(&g.stride))
            .with("dilations", ints(&g.dilation))
            .with("pads", ints(&[ph, pw, ph, pw]))
            .with("group", Attribute::Int(groups as i64)),
    );
    Ok(Mapped::Done)
}
