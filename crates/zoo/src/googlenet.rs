//! GoogLeNet (Szegedy et al., 2015, table 1) in Caffe's form, without the auxiliary heads, which only training
//! from scratch uses.

use slq_graph::Graph;

use crate::builder::{Builder, Conv, Feature, Init, Pool};
use crate::error::ZooError;

/// Filters of one inception module, in the order of the paper's table: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5,
/// pool projection.
type Filters = [usize; 6];

const MODULES: [(&str, Filters); 9] = [
    ("3a", [64, 96, 128, 16, 32, 32]),
    ("3b", [128, 128, 192, 32, 96, 64]),
    ("4a", [192, 96, 208, 16, 48, 64]),
    ("4b", [160, 112, 224, 24, 64, 64]),
    ("4c", [128, 128, 256, 24, 64, 64]),
    ("4d", [112, 144, 288, 32, 64, 64]),
    ("4e", [256, 160, 320, 32, 128, 128]),
    ("5a", [256, 160, 320, 32, 128, 128]),
    ("5b", [384, 192, 384, 48, 128, 128]),
];

pub(crate) fn googlenet(mut b: Builder, classes: usize) -> Result<Graph, ZooError> {
    let x = b.input(3, 224);
    let x = conv_relu(&mut b, "conv1.7x7", &x, Conv::new(64, 7).stride(2).pad(3))?;
    let x = b.max_pool("pool1", &x, 3, 2);
    let x = b.lrn("norm1", &x);
    let x = conv_relu(&mut b, "conv2.3x3_reduce", &x, Conv::new(64, 1))?;
    let x = conv_relu(&mut b, "conv2.3x3", &x, Conv::new(192, 3).pad(1))?;
    let x = b.lrn("norm2", &x);
    let mut x = b.max_pool("pool2", &x, 3, 2);
    for (name, filters) in MODULES {
        x = inception(&mut b, name, &x, filters)?;
        if let Some(stage) = ["3b", "4e"].iter().position(|last| *last == name) {
            x = b.max_pool(&format!("pool{}", stage + 3), &x, 3, 2);
        }
    }
    let x = b.global_average("pool5", &x);
    let x = b.flatten("flatten", &x);
    let x = b.dropout("drop", &x, 0.4)?;
    b.dense("classifier", &x, classes, Init::Small)?;
    b.finish(classes)
}

fn conv_relu(b: &mut Builder, name: &str, x: &Feature, conv: Conv) -> Result<Feature, ZooError> {
    let x = b.conv(name, x, conv)?;
    Ok(b.relu(&format!("{name}.relu"), &x))
}

fn inception(b: &mut Builder, name: &str, x: &Feature, filters: Filters) -> Result<Feature, ZooError> {
    let [one, three_reduce, three, five_reduce, five, projection] = filters;
    let part = |p: &str| format!("inception_{name}.{p}");
    let direct = conv_relu(b, &part("1x1"), x, Conv::new(one, 1))?;
    let reduced = conv_relu(b, &part("3x3_reduce"), x, Conv::new(three_reduce, 1))?;
    let middle = conv_relu(b, &part("3x3"), &reduced, Conv::new(three, 3).pad(1))?;
    let reduced = conv_relu(b, &part("5x5_reduce"), x, Conv::new(five_reduce, 1))?;
    let wide = conv_relu(b, &part("5x5"), &reduced, Conv::new(five, 5).pad(2))?;
    let pool = Pool { op: "MaxPool", kernel: 3, stride: 1, pad: 1, ceil: true };
    let pooled = b.pool(&part("pool"), x, pool);
    let projected = conv_relu(b, &part("pool_proj"), &pooled, Conv::new(projection, 1))?;
    Ok(b.concat(&part("output"), &[direct, middle, wide, projected]))
}
