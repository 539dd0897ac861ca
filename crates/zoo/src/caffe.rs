//! Networks without shortcuts, as Caffe's model zoo has them.

use slq_graph::Graph;

use crate::builder::{Builder, Conv, Feature, Init, Pool};
use crate::error::ZooError;

pub(crate) fn lenet(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(1, 28);
    let x = b.conv("conv1", &x, Conv::new(20, 5).init(Init::Xavier))?;
    let x = b.max_pool("pool1", &x, 2, 2);
    let x = b.conv("conv2", &x, Conv::new(50, 5).init(Init::Xavier))?;
    let x = b.max_pool("pool2", &x, 2, 2);
    let x = b.flatten("flatten", &x);
    let x = b.dense("ip1", &x, 500, Init::Xavier)?;
    let x = b.relu("relu1", &x);
    b.dense("ip2", &x, classes, Init::Xavier)?;
    b.finish(classes)
}

pub(crate) fn lenet_300_100(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(1, 28);
    let x = b.flatten("flatten", &x);
    let x = b.dense("ip1", &x, 300, Init::Xavier)?;
    let x = b.relu("relu1", &x);
    let x = b.dense("ip2", &x, 100, Init::Xavier)?;
    let x = b.relu("relu2", &x);
    b.dense("ip3", &x, classes, Init::Xavier)?;
    b.finish(classes)
}

pub(crate) fn cifar_quick(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let average = Pool { op: "AveragePool", kernel: 3, stride: 2, pad: 0, ceil: true };
    let x = b.input(3, 32);
    let x = b.conv("conv1", &x, Conv::new(32, 5).pad(2))?;
    let x = b.max_pool("pool1", &x, 3, 2);
    let x = b.relu("relu1", &x);
    let x = b.conv("conv2", &x, Conv::new(32, 5).pad(2))?;
    let x = b.relu("relu2", &x);
    let x = b.pool("pool2", &x, average);
    let x = b.conv("conv3", &x, Conv::new(64, 5).pad(2))?;
    let x = b.relu("relu3", &x);
    let x = b.pool("pool3", &x, average);
    let x = b.flatten("flatten", &x);
    let x = b.dense("ip1", &x, 64, Init::Xavier)?;
    b.dense("ip2", &x, classes, Init::Small)?;
    b.finish(classes)
}

pub(crate) fn alexnet(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 227);
    let x = conv_relu(&mut b, "1", &x, Conv::new(96, 11).stride(4))?;
    let x = b.lrn("norm1", &x);
    let x = b.max_pool("pool1", &x, 3, 2);
    let x = conv_relu(&mut b, "2", &x, Conv::new(256, 5).pad(2).groups(2))?;
    let x = b.lrn("norm2", &x);
    let x = b.max_pool("pool2", &x, 3, 2);
    let x = conv_relu(&mut b, "3", &x, Conv::new(384, 3).pad(1))?;
    let x = conv_relu(&mut b, "4", &x, Conv::new(384, 3).pad(1).groups(2))?;
    let x = conv_relu(&mut b, "5", &x, Conv::new(256, 3).pad(1).groups(2))?;
    let x = b.max_pool("pool5", &x, 3, 2);
    head(b, &x, classes)
}

pub(crate) fn vgg16(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let mut x = b.input(3, 224);
    for (block, (layers, outputs)) in
        [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)].into_iter().enumerate()
    {
        for layer in 1..=layers {
            x = conv_relu(&mut b, &format!("{}_{layer}", block + 1), &x, Conv::new(outputs, 3).pad(1))?;
        }
        x = b.max_pool(&format!("pool{}", block + 1), &x, 2, 2);
    }
    head(b, &x, classes)
}

fn conv_relu(b: &mut Builder, number: &str, x: &Feature, conv: Conv) -> Result<Feature, ZooError> {
    let x = b.conv(&format!("conv{number}"), x, conv)?;
    Ok(b.relu(&format!("relu{number}"), &x))
}

/// The fully connected layers that AlexNet and VGG share.
fn head(mut b: Builder, x: &Feature, classes: usize) -> Result<Graph, ZooError> {
    let mut x = b.flatten("flatten", x);
    for number in [6, 7] {
        x = b.dense(&format!("fc{number}"), &x, 4096, Init::He)?;
        x = b.relu(&format!("relu{number}"), &x);
        x = b.dropout(&format!("drop{number}"), &x, 0.5)?;
    }
    b.dense("fc8", &x, classes, Init::Small)?;
    b.finish(classes)
}
