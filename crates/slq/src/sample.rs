//! The built-in sample: 10 000 images of MNIST and a LeNet trained on them.

use crate::Error;
use crate::dataset::Dataset;
use crate::model::{Model, Source};
use crate::preprocessing;

/// `slq train zoo:lenet --data mnist-10k` made it; CONTRIBUTING.md has the whole command.
static LENET: &[u8] = include_bytes!("../models/lenet_mnist10k.onnx");

/// The built-in sample: a LeNet trained on 8000 images of MNIST, and these images with 2000 test images.
///
/// # Errors
/// Those of the readers, only if the built-in files are damaged.
pub fn sample() -> Result<(Model, Dataset), Error> {
    let graph = slq_onnx::read_bytes(LENET)?;
    let transform = preprocessing::stored(&graph)?;
    let model = Model { transform, source: Source::Onnx, ..graph.into() };
    Ok((model, Dataset::open("mnist-10k")?))
}
