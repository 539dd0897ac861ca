//! Layers that move elements.

use slq_graph::op::{Op, PadMode};
use slq_graph::{Node, TrainingRates};

use super::cut::keep;
use super::pool;
use super::writer::{Writer, blob, training};
use crate::error::CaffeError;
use crate::proto::{
    BlobShape, ConcatParameter, ConvolutionParameter, FlattenParameter, PermuteParameter, ReshapeParameter,
    SliceParameter,
};

pub(super) fn concat(w: &mut Writer, node: &Node, axis: usize) -> Result<(), CaffeError> {
    let bottoms: Vec<String> = (0..node.inputs.len()).map(|i| w.bottom(node, i)).collect::<Result<_, _>>()?;
    let bottoms: Vec<&str> = bottoms.iter().map(String::as_str).collect();
    w.layer(&node.name, "Concat", &bottoms, &[&node.outputs[0]], |l| {
        l.concat_param = (axis != 1).then_some(ConcatParameter { axis: Some(axis as i32), concat_dim: None });
    });
    Ok(())
}

pub(super) fn split(w: &mut Writer, node: &Node, axis: usize, sizes: &[usize]) -> Result<(), CaffeError> {
    let bottom = w.bottom(node, 0)?;
    if node.outputs.iter().any(String::is_empty) {
        return Err(w.no(node, "an output without a name"));
    }
    let mut points = Vec::new();
    let mut at = 0;
    for size in &sizes[..sizes.len().saturating_sub(1)] {
        at += size;
        points.push(at as u32);
    }
    let tops: Vec<&str> = node.outputs.iter().map(String::as_str).collect();
    w.layer(&node.name, "Slice", &[&bottom], &tops, |l| {
        let axis = Some(axis as i32);
        l.slice_param = Some(SliceParameter { axis, slice_point: points, slice_dim: None });
    });
    let silent: Vec<&str> = tops.into_iter().filter(|top| w.is_idle(top)).collect();
    if !silent.is_empty() {
        w.layer(&format!("{}.silence", node.name), "Silence", &silent, &[], |_| ());
    }
    Ok(())
}

/// `Flatten`; left out before an inner product, which flattens its input itself.
pub(super) fn flatten(w: &mut Writer, node: &Node, axis: usize) -> Result<(), CaffeError> {
    let bottom = w.bottom(node, 0)?;
    let top = &node.outputs[0];
    if let Some(next) = w.only_reader(top).filter(|_| axis == 1) {
        let (reader, op) = w.at(next);
        let product = matches!(op, Op::Gemm { .. } | Op::MatMul) && w.constant(reader, 1).is_some();
        if product && reader.input(0) == Some(top) {
            w.alias(top, bottom);
            return Ok(());
        }
    }
    if axis == 1 {
        w.layer(&node.name, "Flatten", &[&bottom], &[top], |l| {
            l.flatten_param = Some(FlattenParameter::default());
        });
        return Ok(());
    }
    reshape(w, node)
}

/// The target of a reshape is written out, except for the batch.
pub(super) fn reshape(w: &mut Writer, node: &Node) -> Result<(), CaffeError> {
    let (from, to) = (w.shape(node, 0)?, w.out_shape(node, 0)?);
    let flat = from.len() > 1 && to.len() == 2 && from[0] == to[0];
    if flat && !node.op.is_empty() && node.op != "Flatten" {
        return flatten(w, node, 1);
    }
    let dim = to.iter().enumerate().map(|(i, &d)| match i {
        0 if from.first() == Some(&d) => 0,
        0 => -1,
        _ => d as i64,
    });
    let shape = Some(BlobShape { dim: dim.collect() });
    let param = ReshapeParameter { shape, axis: None, num_axes: None };
    w.simple(node, "Reshape", |l| l.reshape_param = Some(param))
}

pub(super) fn transpose(w: &mut Writer, node: &Node, perm: &[usize]) -> Result<(), CaffeError> {
    let order = perm.iter().map(|&p| p as u32).collect();
    w.simple(node, "Permute", |l| l.permute_param = Some(PermuteParameter { order }))
}

/// Ranges with step 1 become `Slice` layers; other steps along height and width become a 1 x 1 convolution with strides.
pub(super) fn slice(w: &mut Writer, node: &Node, ranges: &[(i64, i64, i64)]) -> Result<(), CaffeError> {
    let (from, to) = (w.shape(node, 0)?, w.out_shape(node, 0)?);
    if from.first() != to.first() || ranges.iter().any(|&(start, _, step)| step < 1 || start < 0) {
        return Err(w.no(node, "Caffe cuts forward, and never along the batch"));
    }
    let steps: Vec<usize> = ranges.iter().map(|r| r.2 as usize).collect();
    let bottom = w.bottom(node, 0)?;
    let top = node.outputs[0].clone();
    let starts: Vec<usize> = ranges.iter().map(|r| r.0 as usize).collect();
    if steps.iter().all(|&s| s == 1) {
        let cuts: Vec<_> = (0..from.len()).map(|i| (i, starts[i], starts[i] + to[i], from[i])).collect();
        if from == to {
            w.layer(&node.name, "Split", &[&bottom], &[&top], |_| ());
        } else {
            keep(w, &node.name, &bottom, &top, &cuts);
        }
        return Ok(());
    }
    let &[_, channels, ..] = from else { return Err(w.no(node, "not an image batch")) };
    if from.len() != 4 || steps[1] != 1 || starts != [0; 4] || from[1] != to[1] {
        return Err(w.no(node, "Caffe picks every n-th pixel from the first on, nothing else"));
    }
    for i in 2..4 {
        if (from[i] - 1) / steps[i] + 1 != to[i] {
            return Err(w.no(node, "Caffe picks every n-th pixel up to the last, nothing less"));
        }
    }
    let ones = blob(vec![channels, 1, 1, 1], vec![1.0; channels]).ok_or_else(|| w.no(node, "channels"))?;
    let param = ConvolutionParameter {
        num_output: Some(channels as u32),
        bias_term: Some(false),
        kernel_size: vec![1],
        stride: vec![steps[2] as u32, steps[3] as u32],
        group: Some(channels as u32),
        ..ConvolutionParameter::default()
    };
    w.layer(&node.name, "Convolution", &[&bottom], &[&top], |l| {
        l.blobs = vec![ones];
        l.param = vec![training(TrainingRates::FROZEN)];
        l.convolution_param = Some(param);
    });
    Ok(())
}

/// Zeros before an average pool become its padding; channels of zeros become a 1 x 1 convolution that copies the others.
pub(super) fn pad(
    w: &mut Writer,
    position: usize,
    node: &Node,
    before: &[i64],
    after: &[i64],
    mode: PadMode,
) -> Result<(), CaffeError> {
    let from = w.shape(node, 0)?;
    let zeros = mode == PadMode::Constant(0.0) && before.iter().chain(after).all(|&v| v >= 0);
    if !zeros || from.len() != 4 || before[0] != 0 || after[0] != 0 {
        return Err(w.no(node, "Caffe pads images with zeros only, and only inside other layers"));
    }
    let spatial = before[2..].iter().chain(&after[2..]).any(|&v| v > 0);
    let top = node.outputs[0].clone();
    if spatial {
        let next = w.only_reader(&top).filter(|&n| n > position && before[1] == 0 && after[1] == 0);
        if let Some((reader, Op::AveragePool { window, count_include_pad, .. })) = next.map(|n| w.at(n)) {
            let bottom = w.bottom(node, 0)?;
            w.alias(&top, bottom);
            w.merged.extend(next);
            let padded = [before[2], before[3], after[2], after[3]].map(|v| v as usize);
            return pool::average(w, reader, window, *count_include_pad, Some(padded));
        }
        return Err(w.no(node, "Caffe pads inside convolution and pooling only"));
    }
    let (channels, first) = (from[1], before[1] as usize);
    let wider = first + channels + after[1] as usize;
    let mut values = vec![0.0; wider * channels];
    for c in 0..channels {
        values[(first + c) * channels + c] = 1.0;
    }
    let copies = blob(vec![wider, channels, 1, 1], values).ok_or_else(|| w.no(node, "channels"))?;
    let param = ConvolutionParameter {
        num_output: Some(wider as u32),
        bias_term: Some(false),
        kernel_size: vec![1],
        ..ConvolutionParameter::default()
    };
    w.simple(node, "Convolution", |l| {
        l.blobs = vec![copies];
        l.param = vec![training(TrainingRates::FROZEN)];
        l.convolution_param = Some(param);
    })
}
