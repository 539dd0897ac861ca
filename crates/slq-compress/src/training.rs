//! Re-training: masked SGD over a deterministic stream of batches.

use std::time::Instant;

use slq_data::{Batch, Mode, Split, Transform};
use slq_engine::{CpuExecutor, Executor, Statistics, StepSettings, Target};

use crate::error::CompressError;
use crate::observer::{Event, Observer};
use crate::report::Accuracy;
use crate::settings::TrainingSettings;

/// The images a job works with.
#[derive(Debug, Clone)]
pub struct TrainingData {
    /// Training images.
    pub train: Split,
    /// Test images: their accuracy is reported and never read back.
    pub test: Split,
    /// Preprocessing and augmentation.
    pub transform: Transform,
}

/// Where a re-training stands in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Steps that the run has done before (they set the place in the stream of images).
    pub done: u64,
    /// Steps to do now.
    pub iterations: u64,
    /// Seed of the stream.
    pub seed: u64,
}

/// Runs SGD steps on `executor`; with a `teacher`, towards its outputs instead of the labels. The learning rate
/// starts anew with each call.
///
/// Returns the seconds it took.
///
/// # Errors
/// [`CompressError::Engine`] where a step fails or diverges, [`CompressError::Data`] for an unreadable image.
pub fn retrain(
    executor: &mut dyn Executor,
    teacher: Option<&mut dyn Executor>,
    train: &Split,
    transform: &Transform,
    settings: &TrainingSettings,
    span: Span,
    observer: &mut dyn Observer,
) -> Result<f64, CompressError> {
    retrain_with(executor, teacher, train, transform, settings, span, observer, &mut |_, _| Ok(()))
}

/// What is done after each step, with the step's rate.
pub(crate) type AfterStep<'a> = &'a mut dyn FnMut(&mut dyn Executor, f32) -> Result<(), CompressError>;

/// As [`retrain`]; `after` is called after every step.
#[allow(clippy::too_many_arguments)]
pub(crate) fn retrain_with(
    executor: &mut dyn Executor,
    mut teacher: Option<&mut dyn Executor>,
    train: &Split,
    transform: &Transform,
    settings: &TrainingSettings,
    span: Span,
    observer: &mut dyn Observer,
    after: AfterStep<'_>,
) -> Result<f64, CompressError> {
    let began = Instant::now();
    executor.reset_momentum();
    executor.set_iteration(span.done);
    let mut stream = train.stream(settings.batch, transform, span.seed)?;
    stream.seek(span.done * settings.batch as u64);
    let mut batch = Batch::default();
    let policy = settings.lr_policy.clone().with_length(span.iterations);
    for iteration in 0..span.iterations {
        stream.next_into(&mut batch)?;
        let learning_rate = policy.at(settings.learning_rate, iteration) as f32;
        let step = StepSettings {
            learning_rate,
            momentum: settings.momentum as f32,
            weight_decay: settings.weight_decay as f32,
            nesterov: settings.nesterov,
            rule: settings.rule,
            clip_gradients: settings.clip_gradients,
        };
        let statistics = match (&mut teacher, settings.distill) {
            (Some(teacher), Some(temperature)) => {
                let mut outputs = teacher.logits(&batch.images)?;
                let classes = teacher.classes()?;
                softmax_with_temperature(&mut outputs, classes, temperature);
                let target = Target::Distribution { probabilities: &outputs, temperature };
                executor.train_step(&batch.images, target, &step)?
            }
            _ => executor.train_step(&batch.images, Target::Labels(&batch.labels), &step)?,
        };
        after(executor, learning_rate)?;
        observer.on(&Event::Step {
            iteration: iteration + 1,
            iterations: span.iterations,
            loss: statistics.loss,
            learning_rate,
            images: statistics.images,
            correct: statistics.top1,
        });
    }
    Ok(began.elapsed().as_secs_f64())
}

/// Accuracy and loss of the executor's network on a whole split.
///
/// # Errors
/// [`CompressError::Engine`] where it cannot run, [`CompressError::Data`] for an unreadable image.
pub fn evaluate(
    executor: &mut dyn Executor,
    split: &Split,
    transform: &Transform,
    batch: usize,
) -> Result<Accuracy, CompressError> {
    let mut sum = Statistics::default();
    for prepared in split.batches(batch, transform, Mode::Eval, false)? {
        let prepared = prepared?;
        sum.merge(&executor.evaluate(&prepared.images, Some(Target::Labels(&prepared.labels)))?);
    }
    Ok(Accuracy::new(&sum, executor.classes()?))
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
        let reason = format!(
            "the images are {} (channels, height, width), the network's input takes {}; crop or resize them",
            text(&images),
            text(input)
        );
        return Err(CompressError::DataMismatch { reason });
    }
    Ok(split.check_labels(executor.classes()?)?)
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

/// Turns rows of `classes` logits into probabilities: softmax(logits / temperature).
pub(crate) fn softmax_with_temperature(logits: &mut [f32], classes: usize, temperature: f32) {
    for row in logits.chunks_exact_mut(classes.max(1)) {
        let top = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|v| *v = ((*v - top) / temperature).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|v| *v /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temperature_softens_and_rows_sum_to_one() {
        let mut sharp = vec![1.0, 2.0, 3.0, 1000.0, 0.0, 0.0];
        let mut soft = sharp.clone();
        softmax_with_temperature(&mut sharp, 3, 1.0);
        softmax_with_temperature(&mut soft, 3, 4.0);
        assert!((sharp[2] - 0.665_24).abs() < 1e-4 && soft[2] < sharp[2]);
        assert_eq!(sharp[3..], [1.0, 0.0, 0.0]);
        assert!((soft[..3].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
}
