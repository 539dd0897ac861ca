//! The four networks of MLPerf Tiny (Banbury et al., 2021, table 1), as its reference training scripts build them in Keras:
//! every convolution has a bias beside its batch-norm, and padding is TensorFlow's `same`.

use slq_graph::op::{Padding, Window};
use slq_graph::{Attribute, Graph, Node};

use crate::builder::{Builder, Conv, Feature, Init};
use crate::error::ZooError;

/// Values of one frame of the anomaly detector's input, and of its output.
pub(crate) const FRAME: usize = 640;

/// Keyword spotting: a depthwise separable network (Zhang et al., 2017, size S) on 49 x 10 spectral features.
pub(crate) fn ds_cnn(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input_of(1, [49, 10]);
    let mut x = block(&mut b, "conv1", &x, Conv::new(64, 0).stride(2), [10, 4])?;
    for i in 1..=4 {
        let depthwise = Conv::new(64, 0).groups(64);
        x = block(&mut b, &format!("block{i}.depthwise"), &x, depthwise, [3, 3])?;
        x = block(&mut b, &format!("block{i}.pointwise"), &x, Conv::new(64, 0), [1, 1])?;
    }
    head(b, &x, classes)
}

/// Visual wake words: MobileNetV1 (Howard et al., 2017) of width 0.25 on 96 x 96 pictures.
pub(crate) fn mobilenet_v1_025(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 96);
    let mut x = block(&mut b, "conv1", &x, Conv::new(8, 0).stride(2), [3, 3])?;
    let blocks = [
        (16, 1),
        (32, 2),
        (32, 1),
        (64, 2),
        (64, 1),
        (128, 2),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (128, 1),
        (256, 2),
        (256, 1),
    ];
    for (i, (outputs, stride)) in blocks.into_iter().enumerate() {
        let depthwise = Conv::new(x.channels, 0).groups(x.channels).stride(stride);
        x = block(&mut b, &format!("block{}.depthwise", i + 1), &x, depthwise, [3, 3])?;
        x = block(&mut b, &format!("block{}.pointwise", i + 1), &x, Conv::new(outputs, 0), [1, 1])?;
    }
    head(b, &x, classes)
}

/// Image classification: a residual network of 8 layers on 32 x 32 pictures, whose shortcuts are 1 x 1 convolutions.
pub(crate) fn resnet8(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 32);
    let mut x = block(&mut b, "conv1", &x, Conv::new(16, 0), [3, 3])?;
    for (stage, (outputs, stride)) in [(16, 1), (32, 2), (64, 2)].into_iter().enumerate() {
        let part = |p: &str| format!("stage{}.{p}", stage + 1);
        let y = block(&mut b, &part("conv1"), &x, Conv::new(outputs, 0).stride(stride), [3, 3])?;
        let y = same(&mut b, &part("conv2"), &y, Conv::new(outputs, 0), [3, 3])?;
        let y = b.batch_norm(&part("conv2.norm"), &y)?;
        let shortcut = match stride {
            1 => x,
            _ => same(&mut b, &part("shortcut"), &x, Conv::new(outputs, 0).stride(stride), [1, 1])?,
        };
        let sum = b.add(&part("add"), &shortcut, &y);
        x = b.relu(&part("relu"), &sum);
    }
    head(b, &x, classes)
}

/// Anomaly detection: an autoencoder of ten dense layers on frames of [`FRAME`] spectral features.
pub(crate) fn autoencoder(mut b: Builder) -> Result<Graph, ZooError> {
    let mut x = b.vector(FRAME);
    for (i, width) in [128, 128, 128, 128, 8, 128, 128, 128, 128].into_iter().enumerate() {
        let name = format!("dense{}", i + 1);
        x = b.dense(&name, &x, width, Init::He)?;
        x = b.batch_norm(&format!("{name}.norm"), &x)?;
        x = b.relu(&format!("{name}.relu"), &x);
    }
    b.dense("dense10", &x, FRAME, Init::Xavier)?;
    b.finish(FRAME)
}

/// Average over the image, and a dense layer.
fn head(mut b: Builder, x: &Feature, classes: usize) -> Result<Graph, ZooError> {
    let x = b.global_average("pool", x);
    let x = b.flatten("flatten", &x);
    b.dense("dense", &x, classes, Init::Small)?;
    b.finish(classes)
}

/// Convolution, batch-norm and ReLU.
fn block(
    b: &mut Builder,
    name: &str,
    x: &Feature,
    conv: Conv,
    kernel: [usize; 2],
) -> Result<Feature, ZooError> {
    let x = same(b, name, x, conv, kernel)?;
    let x = b.batch_norm(&format!("{name}.norm"), &x)?;
    Ok(b.relu(&format!("{name}.relu"), &x))
}

/// A convolution with a bias whose padding is TensorFlow's `same`: the odd element comes last.
fn same(
    b: &mut Builder,
    name: &str,
    x: &Feature,
    conv: Conv,
    kernel: [usize; 2],
) -> Result<Feature, ZooError> {
    let window = Window { kernel, strides: [conv.stride; 2], dilations: [1; 2], padding: Padding::SameUpper };
    let pads = window.resolve_pads(x.hw);
    let (weight, bias) = b.kernel(name, x, conv, kernel)?;
    let list = |values: &[usize]| Attribute::Ints(values.iter().map(|&v| v as i64).collect());
    let node = Node::new(name, "Conv", &[&x.name, &weight, &bias], &[])
        .with("kernel_shape", list(&kernel))
        .with("strides", list(&[conv.stride; 2]))
        .with("pads", list(&pads))
        .with("group", Attribute::Int(conv.groups as i64));
    Ok(b.node(node, conv.outputs, x.hw.map(|n| n.div_ceil(conv.stride))))
}
