//! Well-known architectures as graphs with random initial weights.
//!
//! ```
//! let lenet = slq_zoo::build("lenet", 0)?;
//! assert_eq!(lenet.parameter_count(), 431_080);
//! # Ok::<(), slq_zoo::ZooError>(())
//! ```
//!
//! Every network takes `input` [N, channels, height, width] and gives `logits` [N, classes]; N is free. The autoencoder takes
//! `input` [N, 640], and its `logits` [N, 640] are the input as it reconstructs it. The nodes follow ONNX's operator set 13.

#![forbid(unsafe_code)]

mod builder;
mod caffe;
mod error;
mod googlenet;
mod mobilenet;
mod resnet;
mod tiny;

use builder::Builder;
pub use error::{MAX_CLASSES, ZooError, names};
use slq_graph::Graph;

/// The architecture `name` with random initial weights, for the number of classes it was published with.
///
/// | name | input | classes | parameters | source |
/// |---|---|---|---|---|
/// | `lenet` | 1 x 28 x 28 | 10 | 431 080 | Caffe's LeNet after LeCun et al. 1998 (ReLU before the last layer only) |
/// | `lenet-300-100` | 1 x 28 x 28 | 10 | 266 610 | LeCun et al. 1998, two hidden layers with ReLU |
/// | `cifar-quick` | 3 x 32 x 32 | 10 | 145 578 | Caffe's "quick" network for CIFAR-10 |
/// | `resnet20`, `32`, `56` | 3 x 32 x 32 | 10 | 0.27, 0.46, 0.85 M | He et al. 2016, section 4.2, shortcut A |
/// | `alexnet` | 3 x 227 x 227 | 1000 | 60 965 224 | Krizhevsky et al. 2012, in Caffe's form: groups, LRN |
/// | `vgg16` | 3 x 224 x 224 | 1000 | 138 357 544 | Simonyan and Zisserman 2015, configuration D |
/// | `googlenet` | 3 x 224 x 224 | 1000 | 6 998 552 | Szegedy et al. 2015, without the auxiliary heads |
/// | `resnet18` | 3 x 224 x 224 | 1000 | 11 689 512 | He et al. 2016, shortcut B |
/// | `mobilenet-v2` | 3 x 224 x 224 | 1000 | 3 504 872 | Sandler et al. 2018, width 1 |
/// | `ds-cnn` | 1 x 49 x 10 | 12 | 23 756 | MLPerf Tiny (Banbury et al. 2021), keyword spotting |
/// | `mobilenet-v1-025` | 3 x 96 x 96 | 2 | 216 322 | MLPerf Tiny, visual wake words: Howard et al. 2017, width 0.25 |
/// | `resnet8` | 3 x 32 x 32 | 10 | 78 186 | MLPerf Tiny, image classification |
/// | `autoencoder` | 640 | 640 outputs | 267 928 | MLPerf Tiny, anomaly detection |
///
/// Running statistics of batch-norm are not counted here. With them the four of MLPerf Tiny have the published 24 908,
/// 221 794, 78 666 and 269 992.
///
/// Weights are uniform, drawn by ChaCha8 from `seed`: He's rule, ±sqrt(6 / fan-in), where a ReLU follows;
/// Caffe's "xavier", ±sqrt(3 / fan-in), for the two LeNets; a standard deviation of 0.01 for the last layer of the others.
/// Biases are 0, batch-norm is the identity. Each tensor has its own stream of random numbers.
///
/// # Errors
/// [`ZooError::UnknownName`].
pub fn build(name: &str, seed: u64) -> Result<Graph, ZooError> {
    let classes = match name {
        "alexnet" | "vgg16" | "googlenet" | "resnet18" | "mobilenet-v2" => 1000,
        "ds-cnn" => 12,
        "mobilenet-v1-025" => 2,
        "autoencoder" => tiny::FRAME,
        _ => 10,
    };
    build_for(name, classes, seed)
}

/// As [`build`], with a last layer for `classes` classes.
///
/// # Errors
/// [`ZooError::UnknownName`]; [`ZooError::Classes`] for none or more than [`MAX_CLASSES`]; [`ZooError::NotClasses`] for the
/// autoencoder with other than its 640 outputs.
pub fn build_for(name: &str, classes: usize, seed: u64) -> Result<Graph, ZooError> {
    if !(1..=MAX_CLASSES).contains(&classes) {
        return Err(ZooError::Classes { classes });
    }
    match name {
        "lenet" => caffe::lenet(Builder::new(name, seed), classes),
        "lenet-300-100" => caffe::lenet_300_100(Builder::new(name, seed), classes),
        "cifar-quick" => caffe::cifar_quick(Builder::new(name, seed), classes),
        "alexnet" => caffe::alexnet(Builder::new(name, seed), classes),
        "vgg16" => caffe::vgg16(Builder::new(name, seed), classes),
        "googlenet" => googlenet::googlenet(Builder::new(name, seed), classes),
        "resnet20" => resnet::cifar(Builder::new(name, seed), 3, classes),
        "resnet32" => resnet::cifar(Builder::new(name, seed), 5, classes),
        "resnet56" => resnet::cifar(Builder::new(name, seed), 9, classes),
        "resnet18" => resnet::resnet18(Builder::new(name, seed), classes),
        "mobilenet-v2" => mobilenet::mobilenet_v2(Builder::new(name, seed), classes),
        "ds-cnn" => tiny::ds_cnn(Builder::new(name, seed), classes),
        "mobilenet-v1-025" => tiny::mobilenet_v1_025(Builder::new(name, seed), classes),
        "resnet8" => tiny::resnet8(Builder::new(name, seed), classes),
        "autoencoder" if classes == tiny::FRAME => tiny::autoencoder(Builder::new(name, seed)),
        "autoencoder" => Err(ZooError::NotClasses { name: name.into(), outputs: tiny::FRAME, classes }),
        _ => Err(ZooError::UnknownName { name: name.into() }),
    }
}
