//! The images a training works with, and whether they fit the network.

use slq_data::{AxisOrder, Portion, Split, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa};
use slq_graph::Graph;

use super::following::Following;
use super::settings::TrainingSettings;
use crate::error::CompressError;

/// Images with their preprocessing.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Training images.
    pub train: Split,
    /// Images that choices are made on; `None` takes some of the training images for each choice.
    pub validation: Option<Split>,
    /// Test images: their accuracy is reported and never used for a choice.
    pub test: Split,
    /// Preprocessing and augmentation.
    pub transform: Transform,
    /// What stands for labels where the data has none: the outputs of another network.
    pub following: Option<Following>,
}

impl TrainingData {
    /// What remains to train on, and the images that a choice is made on: the validation images, or `portion` of the training
    /// images, by the seed; a quarter of them where there are not more than `portion` counts.
    ///
    /// # Errors
    /// [`CompressError::Data`] where there are too few.
    pub(crate) fn parts(&self, portion: Portion, seed: u64) -> Result<(Split, Split), CompressError> {
        let Some(validation) = &self.validation else {
            let portion = match portion {
                Portion::Count(count) if count >= self.train.len() => {
                    Portion::Count((self.train.len() / 4).max(1))
                }
                portion => portion,
            };
            return Ok(self.train.split_off_validation(portion, seed)?);
        };
        let images = match portion {
            Portion::Count(count) => validation.calibration(count, seed)?,
            Portion::Fraction(_) => validation.clone(),
        };
        Ok((self.train.clone(), images))
    }
}

/// An executor for `graph` that trains and evaluates as `settings` say, on `data` if there is any.
///
/// # Errors
/// [`CompressError::Engine`] for a network that the engine cannot run.
pub(crate) fn executor(
    graph: &Graph,
    settings: &TrainingSettings,
    data: Option<&TrainingData>,
    (seed, isa): (u64, Isa),
) -> Result<CpuExecutor, CompressError> {
    Ok(CpuExecutor::new(graph, settings.batch, &options(settings, data, (seed, isa)))?)
}

/// The options of such an executor.
pub(crate) fn options(
    settings: &TrainingSettings,
    data: Option<&TrainingData>,
    (seed, isa): (u64, Isa),
) -> EngineOptions {
    let following = data.and_then(|d| d.following.as_ref());
    let heads = following.map_or(&settings.heads, |f| &f.heads).clone();
    let follow = following.map(|f| f.follow(settings));
    EngineOptions { isa, batch_norm: settings.batch_norm, seed, heads, follow }
}

/// An executor that only evaluates `graph`, in batches of `batch` examples.
///
/// # Errors
/// As [`executor`].
pub(crate) fn evaluator(
    graph: &Graph,
    batch: usize,
    data: &TrainingData,
    isa: Isa,
) -> Result<CpuExecutor, CompressError> {
    let settings = TrainingSettings { batch, ..TrainingSettings::default() };
    executor(graph, &settings, Some(data), (0, isa))
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
    if split.inputs().is_some() {
        return check_examples(executor, split);
    }
    let (images, input) = (transform.output_shape(split)?, executor.image_shape());
    if images.as_slice() != input {
        let text = |shape: &[usize]| shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
        let [c, h, w] = images;
        let (order, channels) = match transform.axis_order {
            AxisOrder::ChannelsFirst => ("channels, height, width", 0),
            AxisOrder::ChannelsLast => ("height, width, channels", 2),
        };
        let advice = if transform.axis_order == AxisOrder::ChannelsFirst && input == [h, w, c] {
            "its channels come last, export it with channels first (tf2onnx: --inputs-as-nchw INPUT)"
        } else if input.len() == 3 && input[channels] != images[channels] {
            "its channels are others"
        } else {
            "crop or resize them"
        };
        let reason = format!(
            "the images are {} ({order}), the network's input takes {}; {advice}",
            text(&images),
            text(input)
        );
        return Err(CompressError::DataMismatch { reason });
    }
    check_targets(executor, split)
}

/// Checks that the inputs of each example are those of the executor's network.
fn check_examples(executor: &mut CpuExecutor, split: &Split) -> Result<(), CompressError> {
    let text = |name: &str, shape: &[usize]| format!("'{name}' of {shape:?}");
    let given = split.inputs().unwrap_or_default().iter().map(|i| text(&i.name, &i.shape));
    let wanted = executor.inputs().iter().map(|i| text(&i.name, &i.shape));
    let (given, wanted): (Vec<String>, Vec<String>) = (given.collect(), wanted.collect());
    if given != wanted {
        let reason =
            format!("an example holds {}, the network's inputs are {}", given.join(", "), wanted.join(", "));
        return Err(CompressError::DataMismatch { reason });
    }
    check_targets(executor, split)
}

/// Checks that there are labels below the number of outputs, or a network to follow.
fn check_targets(executor: &mut CpuExecutor, split: &Split) -> Result<(), CompressError> {
    if executor.follows() {
        return Ok(());
    }
    if !split.is_labelled() {
        let reason = "it has no labels, and nothing else to compare the outputs with";
        return Err(CompressError::DataMismatch { reason: reason.into() });
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
    if let Some(validation) = &data.validation {
        check_fit(executor, validation, &data.transform)?;
    }
    if data.train.len() < batch {
        let reason = format!("a batch takes {batch}; with a batch of {} they would do", data.train.len());
        return Err(CompressError::TooFewImages { images: data.train.len(), reason });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_images_leave_the_training_images_whole() {
        let split = |count: usize, value: u8| {
            let labels = (0..count as u32).map(|i| i % 2).collect();
            Split::from_bytes(vec![value; count * 4], labels, [1, 2, 2]).unwrap()
        };
        let mut data = TrainingData {
            train: split(20, 1),
            validation: None,
            test: split(4, 2),
            transform: Transform::default(),
            following: None,
        };
        let sizes = |data: &TrainingData, portion| {
            let (train, images) = data.parts(portion, 0).unwrap();
            (train.len(), images.len())
        };
        assert_eq!(sizes(&data, Portion::Fraction(0.1)), (18, 2));
        assert_eq!(sizes(&data, Portion::Count(6)), (14, 6));
        assert_eq!(sizes(&data, Portion::Count(600)), (15, 5), "a quarter where there are too few");
        data.validation = Some(split(8, 3));
        assert_eq!(sizes(&data, Portion::Fraction(0.1)), (20, 8));
        assert_eq!(sizes(&data, Portion::Count(6)), (20, 6));
        assert_eq!(sizes(&data, Portion::Count(600)), (20, 8), "all there are");
    }
}
