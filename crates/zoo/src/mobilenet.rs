//! MobileNetV2 (Sandler et al., 2018, table 2), width 1.

use slq_graph::{Graph, Node};

use crate::builder::{Builder, Conv, Feature, Init};
use crate::error::ZooError;

/// Expansion, output channels, repetitions, stride of the first repetition.
const STAGES: [(usize, usize, usize, usize); 7] = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
];

pub(crate) fn mobilenet_v2(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    b.scalar("clip.min", 0.0)?;
    b.scalar("clip.max", 6.0)?;
    let x = b.input(3, 224);
    let mut x = conv_norm_clip(&mut b, "features.0", &x, Conv::new(32, 3).stride(2).pad(1))?;
    let mut index = 1;
    for (expansion, channels, repetitions, first_stride) in STAGES {
        for repetition in 0..repetitions {
            let stride = if repetition == 0 { first_stride } else { 1 };
            x = bottleneck(&mut b, &format!("features.{index}"), &x, expansion, channels, stride)?;
            index += 1;
        }
    }
    let x = conv_norm_clip(&mut b, &format!("features.{index}"), &x, Conv::new(1280, 1))?;
    let x = b.global_average("avgpool", &x);
    let x = b.flatten("flatten", &x);
    let x = b.dropout("classifier.0", &x, 0.2)?;
    b.dense("classifier.1", &x, classes, Init::Small)?;
    b.finish(classes)
}

/// Convolution, batch-norm and ReLU6.
fn conv_norm_clip(b: &mut Builder, name: &str, x: &Feature, conv: Conv) -> Result<Feature, ZooError> {
    let x = b.conv(&format!("{name}.0"), x, conv.no_bias())?;
    let x = b.batch_norm(&format!("{name}.1"), &x)?;
    let clip = Node::new(&format!("{name}.2"), "Clip", &[&x.name, "clip.min", "clip.max"], &[]);
    Ok(b.same(clip, &x))
}

/// Expansion, depthwise convolution, linear projection; a shortcut where the shape stays.
fn bottleneck(
    b: &mut Builder,
    name: &str,
    input: &Feature,
    expansion: usize,
    channels: usize,
    stride: usize,
) -> Result<Feature, ZooError> {
    let (hidden, mut x, mut part) = (input.channels * expansion, input.clone(), 0);
    if expansion != 1 {
        x = conv_norm_clip(b, &format!("{name}.conv.{part}"), &x, Conv::new(hidden, 1))?;
        part += 1;
    }
    let depthwise = Conv::new(hidden, 3).stride(stride).pad(1).groups(hidden);
    x = conv_norm_clip(b, &format!("{name}.conv.{part}"), &x, depthwise)?;
    x = b.conv(&format!("{name}.conv.{}", part + 1), &x, Conv::new(channels, 1).no_bias())?;
    x = b.batch_norm(&format!("{name}.conv.{}", part + 2), &x)?;
    let residual = stride == 1 && input.channels == channels;
    Ok(if residual { b.add(&format!("{name}.add"), input, &x) } else { x })
}
