//! Pooling with Caffe's ceil rule, expressed by ONNX's padding.

use slq_graph::{Attribute, Node, Tensor};

use super::builder::Builder;
use super::mapped::Mapped;
use crate::error::CaffeError;
use crate::proto::LayerParameter;
use crate::proto::pooling_parameter::{PoolMethod, RoundMode};

/// Extents of one axis of a pooling layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Axis {
    /// Output extent.
    pub out: usize,
    /// Padding at the end with which ONNX's floor rule gives that extent.
    pub end: usize,
}

/// Output extent: `ceil((size + 2 pad - kernel) / stride) + 1`; with padding, one less where the last window
/// would begin at or past `size + pad` (`PoolingLayer::Reshape` of Caffe). `None` where no window fits.
pub(crate) fn extent(
    size: usize,
    kernel: usize,
    stride: usize,
    pad: usize,
    rounding: RoundMode,
) -> Option<Axis> {
    let span = (size + 2 * pad).checked_sub(kernel)?;
    let steps = match rounding {
        RoundMode::Floor => span / stride,
        RoundMode::Ceil => span.div_ceil(stride),
    };
    let mut out = steps + 1;
    if pad > 0 && (out - 1) * stride >= size + pad {
        out -= 1;
    }
    // A window without a single pixel: Caffe returns -FLT_MAX or divides by zero.
    if (out - 1) * stride >= size + pad || pad >= kernel {
        return None;
    }
    let needed = ((out - 1) * stride + kernel).saturating_sub(size + pad);
    let symmetric = needed <= pad && size + 2 * pad < out * stride + kernel;
    Some(Axis { out, end: if symmetric { pad } else { needed } })
}

/// Output extent by Caffe's rule.
pub(crate) fn extent_of(size: usize, kernel: usize, stride: usize, pad: usize) -> Option<usize> {
    extent(size, kernel, stride, pad, RoundMode::Ceil).map(|a| a.out)
}

fn extents(h: Option<u32>, w: Option<u32>, both: Option<u32>, default: Option<u32>) -> Option<[usize; 2]> {
    let h = h.or(both).or(default)?;
    let w = w.or(both).or(default)?;
    Some([h as usize, w as usize])
}

/// `Pooling`: maximum or average, in windows or global.
pub(super) fn add(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.pooling_param.unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    if layer.top.len() != 1 {
        return Ok(Mapped::Opaque("it returns the positions of the maxima".into()));
    }
    let max = match p.pool() {
        PoolMethod::Max => true,
        PoolMethod::Ave => false,
        PoolMethod::Stochastic => return Ok(Mapped::Opaque("stochastic pooling is not supported".into())),
    };
    let pad = extents(p.pad_h, p.pad_w, p.pad, Some(0)).unwrap_or_default();
    let stride = extents(p.stride_h, p.stride_w, p.stride, Some(1)).unwrap_or([1, 1]);
    if p.global_pooling() {
        if pad != [0, 0] || stride != [1, 1] {
            return Err(b.bad(layer, "global_pooling", "needs pad 0 and stride 1"));
        }
        if let Some(shape) = input.shape.as_ref().filter(|s| s.len() != 4) {
            return Err(b.bad(layer, "bottom", format!("{shape:?} is not an image batch of four axes")));
        }
        let shape = input.shape.as_ref().map(|s| vec![s[0], s[1], 1, 1]);
        let output = b.top(layer, 0, shape)?;
        let op = if max { "GlobalMaxPool" } else { "GlobalAveragePool" };
        b.push(Node::new(layer.name(), op, &[&input.name], &[&output]));
        return Ok(Mapped::Done);
    }
    let Some(kernel) = extents(p.kernel_h, p.kernel_w, p.kernel_size, None) else {
        return Err(b.bad(layer, "kernel_size", "missing"));
    };
    let Some(shape) = input.shape.clone() else {
        return Ok(Mapped::Opaque("the shape of its input is not known".into()));
    };
    let &[n, c, h, w] = shape.as_slice() else {
        return Err(b.bad(layer, "bottom", format!("{shape:?} is not an image batch of four axes")));
    };
    let small = |v: &usize| *v <= 1 << 20;
    if kernel.contains(&0) || stride.contains(&0) || !kernel.iter().chain(&stride).chain(&pad).all(small) {
        let reason = format!("kernel {kernel:?}, stride {stride:?}, pad {pad:?} are out of range");
        return Err(b.bad(layer, "kernel_size", reason));
    }
    let axis = |i: usize, size| extent(size, kernel[i], stride[i], pad[i], p.round_mode());
    let (Some(y), Some(x)) = (axis(0, h), axis(1, w)) else {
        let reason = format!("kernel {kernel:?}, stride {stride:?}, pad {pad:?} do not fit {h} x {w}");
        return Err(b.bad(layer, "kernel_size", reason));
    };
    let (ends, mut begins) = ([y.end, x.end], pad);
    let mut data = input.name.clone();
    let mut pads = ends;
    let mut include = 0;
    if !max && pad != [0, 0] {
        if ends[0] <= pad[0] && ends[1] <= pad[1] {
            include = 1;
        } else {
            // Caffe's divisor counts the padding but not what the ceil rule adds: pad first, then pool with
            // an excess that does not count.
            let inner = [ends[0].min(pad[0]), ends[1].min(pad[1])];
            let amounts = [0, 0, pad[0], pad[1], 0, 0, inner[0], inner[1]].map(|v| v as i64);
            let amounts = b.constant(layer, "pads", Tensor::i64_vector(amounts.to_vec()));
            data = b.helper(layer, "pad", "Pad", &[&data, &amounts]);
            begins = [0, 0];
            pads = [ends[0] - inner[0], ends[1] - inner[1]];
        }
    }
    let output = b.top(layer, 0, Some(vec![n, c, y.out, x.out]))?;
    let ints = |v: &[usize]| Attribute::Ints(v.iter().map(|&d| d as i64).collect());
    let op = if max { "MaxPool" } else { "AveragePool" };
    let mut node = Node::new(layer.name(), op, &[&data], &[&output])
        .with("kernel_shape", ints(&kernel))
        .with("strides", ints(&stride))
        .with("pads", ints(&[begins[0], begins[1], pads[0], pads[1]]));
    if !max {
        node = node.with("count_include_pad", Attribute::Int(include));
    }
    b.push(node);
    Ok(Mapped::Done)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn extents_of_known_nets() {
        let table = [
            // LeNet, AlexNet, ResNet-50's first pool, GoogLeNet's 3x3/2 pool and padded 3x3/1.
            ((24, 2, 2, 0), (12, 0)),
            ((55, 3, 2, 0), (27, 0)),
            ((112, 3, 2, 0), (56, 1)),
            ((28, 3, 1, 1), (28, 1)),
            ((7, 7, 1, 0), (1, 0)),
            // The clip rule: ceil gives 4, whose last window would begin past the padding.
            ((5, 2, 2, 1), (3, 1)),
            ((112, 3, 2, 1), (57, 2)),
        ];
        for ((size, kernel, stride, pad), (out, end)) in table {
            let axis = extent(size, kernel, stride, pad, RoundMode::Ceil);
            assert_eq!(axis, Some(Axis { out, end }), "{size} {kernel} {stride} {pad}");
        }
        assert_eq!(extent(5, 1, 3, 0, RoundMode::Ceil), None, "the last window would lie outside");
        assert_eq!(extent(2, 3, 1, 0, RoundMode::Ceil), None, "no window fits");
    }

    proptest! {
        #[test]
        fn floor_rule_with_the_end_padding_gives_caffes_extent(
            size in 1usize..60, kernel in 1usize..8, stride in 1usize..6, pad in 0usize..4
        ) {
            if let Some(axis) = extent(size, kernel, stride, pad, RoundMode::Ceil) {
                prop_assert_eq!((size + pad + axis.end - kernel) / stride + 1, axis.out);
                let caffe = (size + 2 * pad - kernel).div_ceil(stride) + 1;
                prop_assert!(axis.out == caffe || (pad > 0 && axis.out + 1 == caffe));
                prop_assert!(axis.end < kernel, "onnxruntime refuses padding as large as the kernel");
                prop_assert!((axis.out - 1) * stride < size + pad);
            }
        }
    }
}
