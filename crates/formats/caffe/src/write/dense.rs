//! Layers with weights.

use slq_graph::Node;
use slq_graph::op::Window;

use super::writer::{Writer, blob};
use crate::error::CaffeError;
use crate::proto::{
    BatchNormParameter, ConvolutionParameter, InnerProductParameter, PReLuParameter, ScaleParameter,
};

/// One value where both axes agree, else one for each.
fn pair(values: [usize; 2]) -> Vec<u32> {
    let [h, w] = values.map(|v| v as u32);
    if h == w { vec![h] } else { vec![h, w] }
}

/// A convolution, or its transpose with the given output padding.
pub(super) fn conv(
    w: &mut Writer,
    node: &Node,
    window: &Window,
    groups: usize,
    transposed: Option<[usize; 2]>,
) -> Result<(), CaffeError> {
    let input = w.shape(node, 0)?;
    let shape = w.shape(node, 1)?.to_vec();
    let pads = window.resolve_pads([input[2], input[3]]);
    if pads[0] != pads[2] || pads[1] != pads[3] {
        return Err(w.no(node, format!("Caffe pads both ends alike, not by {pads:?}")));
    }
    if transposed.is_some_and(|p| p != [0, 0]) {
        return Err(w.no(node, "Caffe has no output padding"));
    }
    let outputs = if transposed.is_some() { shape[1] * groups } else { shape[0] };
    let mut weights = vec![w.weight(node, 1, shape)?];
    if node.input(2).is_some() {
        weights.push(w.weight(node, 2, vec![outputs])?);
    }
    let param = ConvolutionParameter {
        num_output: Some(outputs as u32),
        bias_term: (weights.len() == 1).then_some(false),
        pad: if pads == [0; 4] { Vec::new() } else { pair([pads[0], pads[1]]) },
        kernel_size: pair(window.kernel),
        stride: if window.strides == [1, 1] { Vec::new() } else { pair(window.strides) },
        dilation: if window.dilations == [1, 1] { Vec::new() } else { pair(window.dilations) },
        group: (groups > 1).then_some(groups as u32),
        ..ConvolutionParameter::default()
    };
    let kind = if transposed.is_some() { "Deconvolution" } else { "Convolution" };
    w.simple(node, kind, |layer| {
        (layer.blobs, layer.param) = weights.into_iter().unzip();
        layer.convolution_param = Some(param);
    })
}

/// `Gemm` or `MatMul` by a constant matrix.
pub(super) fn gemm(w: &mut Writer, node: &Node, trans_b: bool) -> Result<(), CaffeError> {
    let &[a, b] = w.shape(node, 1)? else {
        return Err(w.no(node, "the second factor is not a matrix"));
    };
    let input = w.shape(node, 0)?;
    if w.constant(node, 1).is_none() || w.constant(node, 0).is_some() {
        return Err(w.no(node, "Caffe multiplies an activation by a constant matrix only"));
    }
    let outputs = if trans_b { a } else { b };
    let mut weights = vec![w.weight(node, 1, vec![a, b])?];
    if node.input(2).is_some() {
        let bias = match w.constant(node, 2) {
            Some(&[value]) if outputs != 1 => {
                let repeated = blob(vec![outputs], vec![value; outputs]);
                (repeated.ok_or_else(|| w.no(node, "bias"))?, Default::default())
            }
            _ => w.weight(node, 2, vec![outputs])?,
        };
        weights.push(bias);
    }
    let axis = input.len() as i32 - 1;
    let param = InnerProductParameter {
        num_output: Some(outputs as u32),
        bias_term: (weights.len() == 1).then_some(false),
        transpose: (!trans_b).then_some(true),
        axis: (axis != 1).then_some(axis),
        ..InnerProductParameter::default()
    };
    w.simple(node, "InnerProduct", |layer| {
        (layer.blobs, layer.param) = weights.into_iter().unzip();
        layer.inner_product_param = Some(param);
    })
}

/// A name for the second layer of a pair: the stem of its weight's name, if that is another one than the node's.
fn scale_name(node: &Node) -> String {
    match node.input(1).and_then(|n| n.strip_suffix(".weight")).filter(|n| *n != node.name) {
        Some(stem) => stem.into(),
        None => format!("{}.scale", node.name),
    }
}

/// `BatchNormalization` as Caffe's pair: `BatchNorm` (mean, variance, a factor of 1) and `Scale`.
pub(super) fn batch_norm(w: &mut Writer, node: &Node, eps: f32, momentum: f32) -> Result<(), CaffeError> {
    let channels = w.shape(node, 0)?.get(1).copied().unwrap_or(0);
    let (weight, bias) = (w.weight(node, 1, vec![channels])?, w.weight(node, 2, vec![channels])?);
    let (mean, var) = (w.weight(node, 3, vec![channels])?, w.weight(node, 4, vec![channels])?);
    let factor = blob(vec![1], vec![1.0]).ok_or_else(|| w.no(node, "factor"))?;
    let trivial = weight.0.data.iter().all(|&v| v == 1.0) && bias.0.data.iter().all(|&v| v.to_bits() == 0);
    let bottom = w.bottom(node, 0)?;
    let top = node.outputs[0].clone();
    let normed = if trivial { top.clone() } else { w.name(&format!("{}.normed", node.name)) };
    w.layer(&node.name, "BatchNorm", &[&bottom], &[&normed], |layer| {
        layer.blobs = vec![mean.0, var.0, factor];
        let moving_average_fraction = (momentum != 0.999).then_some(momentum);
        let eps = (eps != 1e-5).then_some(eps);
        let param = BatchNormParameter { use_global_stats: None, moving_average_fraction, eps };
        layer.batch_norm_param = Some(param);
    });
    if !trivial {
        w.layer(&scale_name(node), "Scale", &[&normed], &[&top], |layer| {
            (layer.blobs, layer.param) = [weight, bias].into_iter().unzip();
            layer.scale_param = Some(ScaleParameter { bias_term: Some(true), ..Default::default() });
        });
    }
    Ok(())
}

/// `PRelu` with one slope or one for each channel.
pub(super) fn prelu(w: &mut Writer, node: &Node) -> Result<(), CaffeError> {
    let channels = w.shape(node, 0)?.get(1).copied().unwrap_or(0);
    let slope = w.shape(node, 1)?;
    let data_rank = w.shape(node, 0)?.len();
    let shared = slope.iter().product::<usize>() == 1;
    // The slope broadcasts against the last axes, so that its channel axis must be followed by all others.
    let at = slope.len().checked_sub(data_rank - 1);
    let per_channel = at.is_some_and(|at| {
        slope.iter().enumerate().all(|(i, &d)| if i == at { d == channels } else { d == 1 })
    });
    if !shared && !per_channel {
        return Err(w.no(node, format!("slopes of the shape {slope:?} are neither one nor one a channel")));
    }
    let weight = w.weight(node, 1, if shared { vec![1] } else { vec![channels] })?;
    w.simple(node, "PReLU", |layer| {
        (layer.blobs, layer.param) = [weight].into_iter().unzip();
        let channel_shared = shared.then_some(true);
        layer.prelu_param = Some(PReLuParameter { filler: None, channel_shared });
    })
}
