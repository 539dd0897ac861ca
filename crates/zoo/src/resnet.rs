//! Residual networks (He et al., 2016).

use slq_graph::{Graph, Node};

use crate::builder::{Builder, Conv, Feature, Init, Pool};
use crate::error::ZooError;

/// The CIFAR networks of section 4.2 with `blocks` blocks in each of three stages, and shortcut A: where a stage
/// halves the image, the shortcut takes every second row and column and pads the channels with zeros on both
/// sides.
pub(crate) fn cifar(mut b: Builder, blocks: usize, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 32);
    let mut x = conv_norm(&mut b, "conv1", "bn1", &x, Conv::new(16, 3).pad(1))?;
    x = b.relu("relu1", &x);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let name = format!("layer{}.{block}", stage + 1);
            let shortcut =
                if x.channels == channels { x.clone() } else { subsample(&mut b, &name, &x, channels)? };
            x = basic_block(&mut b, &name, &x, shortcut, channels)?;
        }
    }
    let x = b.global_average("avgpool", &x);
    let x = b.flatten("flatten", &x);
    b.dense("linear", &x, classes, Init::Small)?;
    b.finish(classes)
}

/// The 18-layer network of table 1, with shortcut B: a 1 x 1 convolution where the shape changes.
pub(crate) fn resnet18(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 224);
    let x = conv_norm(&mut b, "conv1", "bn1", &x, Conv::new(64, 7).stride(2).pad(3))?;
    let x = b.relu("relu1", &x);
    let mut x = b.pool("maxpool", &x, Pool { op: "MaxPool", kernel: 3, stride: 2, pad: 1, ceil: false });
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let name = format!("layer{}.{block}", stage + 1);
            let shortcut = if x.channels == channels {
                x.clone()
            } else {
                let (conv, norm) = (format!("{name}.downsample.0"), format!("{name}.downsample.1"));
                conv_norm(&mut b, &conv, &norm, &x, Conv::new(channels, 1).stride(2))?
            };
            x = basic_block(&mut b, &name, &x, shortcut, channels)?;
        }
    }
    let x = b.global_average("avgpool", &x);
    let x = b.flatten("flatten", &x);
    b.dense("fc", &x, classes, Init::Small)?;
    b.finish(classes)
}

fn conv_norm(b: &mut Builder, conv: &str, norm: &str, x: &Feature, c: Conv) -> Result<Feature, ZooError> {
    let x = b.conv(conv, x, c.no_bias())?;
    b.batch_norm(norm, &x)
}

/// Two 3 x 3 convolutions, the shortcut added before the last ReLU.
fn basic_block(
    b: &mut Builder,
    name: &str,
    x: &Feature,
    shortcut: Feature,
    channels: usize,
) -> Result<Feature, ZooError> {
    let part = |p: &str| format!("{name}.{p}");
    let stride = x.hw[0] / shortcut.hw[0];
    let first = Conv::new(channels, 3).stride(stride).pad(1);
    let y = conv_norm(b, &part("conv1"), &part("bn1"), x, first)?;
    let y = b.relu(&part("relu1"), &y);
    let y = conv_norm(b, &part("conv2"), &part("bn2"), &y, Conv::new(channels, 3).pad(1))?;
    let y = b.add(&part("add"), &shortcut, &y);
    Ok(b.relu(&part("relu2"), &y))
}

fn subsample(b: &mut Builder, name: &str, x: &Feature, channels: usize) -> Result<Feature, ZooError> {
    // The constants are shared by all shortcuts.
    let end = i64::from(i32::MAX);
    for (list, values) in [("from", [0, 0]), ("to", [end, end]), ("axes", [2, 3]), ("steps", [2, 2])] {
        b.list(&format!("shortcut.{list}"), &values);
    }
    let inputs = [x.name.as_str(), "shortcut.from", "shortcut.to", "shortcut.axes", "shortcut.steps"];
    let slice = Node::new(&format!("{name}.subsample"), "Slice", &inputs, &[]);
    let sliced = b.node(slice, x.channels, x.hw.map(|n| n.div_ceil(2)));
    let each_side = (channels - x.channels) / 2;
    let (pads, extra) = (format!("shortcut.pads{channels}"), each_side as i64);
    b.list(&pads, &[0, extra, 0, 0, 0, extra, 0, 0]);
    b.scalar("shortcut.zero", 0.0)?;
    let pad = Node::new(&format!("{name}.pad"), "Pad", &[&sliced.name, &pads, "shortcut.zero"], &[]);
    Ok(b.node(pad, channels, sliced.hw))
}
