//! The images a training works with, and whether they fit the network.

use slq_data::{Split, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Isa};
use slq_graph::Graph;

use super::settings::TrainingSettings;
use crate::error::CompressError;

/// Images with their preprocessing.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Training images.
    pub train: Split,
    /// Test images: their accuracy is reported and never used for a choice.
    pub test: Split,
    /// Preprocessing and augmentation.
    pub transform: Transform,
}

/// An executor for `graph` that trains and evaluates as `settings` say.
///
/// # Errors
/// [`CompressError::Engine`] for a network that the engine cannot run.
pub(crate) fn executor(
    graph: &Graph,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
) -> Result<CpuExecutor, CompressError> {
    let (batch_norm, heads) = (settings.batch_norm, settings.heads.clone());
    Ok(CpuExecutor::new(graph, settings.batch, &EngineOptions { isa, batch_norm, seed, heads })?)
}

/// Checks that images and labels of `split` fit the executor's network.
///
/// # Errors
/// [`CompressError::DataMismatch`] naming both shapes, [`CompressError::Data`] naming a label beyond the outputs.
pub fn check_fit(
    executor: &mut CpuExecutor,
    split: &Split,
    transform: &Transform,
) -> Result<(), CompressError> {
    let (images, input) = (transform.output_shape(split)?, executor.image_shape());
    if images.as_slice() != input {
        let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let [c, h, w] = images;
        let advice = if input == [h, w, c] && input != [c, h, w] {
            "its channels come last, export it with channels first (tf2onnx: --inputs-as-nchw INPUT)"
        } else if input.len() == 3 && input[0] != c {
            "its channels are others"
        } else {
            "crop or resize them"
        };
        let reason = format!(
            "the images are {} (channels, height, width), the network's input takes {}; {advice}",
            text(&images),
            text(input)
        );
        return Err(CompressError::DataMismatch { reason });
    }
    Ok(split.check_labels(executor.labels()?)?)
}

/// Checks that a network can be trained on the data: see [`check_fit`], and at least one full batch.
pub(crate) fn check_trainable(
    executor: &mut CpuExecutor,
    data: &TrainingData,
    batch: usize,
) -> Result<(), CompressError> {
    check_fit(executor, &data.train, &data.transform)?;
    check_fit(executor, &data.test, &data.transform)?;
    if data.train.len() < batch {
        let reason = format!("a batch takes {batch}");
        return Err(CompressError::TooFewImages { images: data.train.len(), reason });
    }
    Ok(())
}
