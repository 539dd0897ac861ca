//! The built-in sample: 10 000 images of MNIST and a LeNet trained on them.

use slq_compress::TrainingData;
use slq_data::Dataset;
use slq_graph::Graph;

use crate::{Error, preprocessing};

/// `slq train zoo:lenet --data mnist-10k` made it; CONTRIBUTING.md has the whole command.
static LENET: &[u8] = include_bytes!("../models/lenet_mnist10k.onnx");

/// The sample's network and data.
#[derive(Debug, Clone)]
pub struct Sample {
    /// A LeNet trained on the 8000 training images.
    pub graph: Graph,
    /// The images with the network's preprocessing.
    pub data: TrainingData,
}

/// The built-in sample.
///
/// # Errors
/// None that a sound build gives; the sample is parsed like any file.
pub fn sample() -> Result<Sample, Error> {
    let graph = slq_onnx::read_bytes(LENET)?;
    let transform = preprocessing::stored(&graph)?.unwrap_or_default();
    let Dataset { train, test, .. } = Dataset::named("mnist-10k")?;
    Ok(Sample { graph, data: TrainingData { train, test, transform } })
}
