//! Re-training: masked SGD over a deterministic stream of batches.

use std::time::Instant;

use slq_data::{Batch, Mode, Split, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa, Statistics, StepSettings, Target};
use slq_graph::Graph;

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

/// An executor for `graph` as a job trains and measures it.
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

/// The network whose outputs distillation trains towards, where the settings ask for it: `other`, or `graph` itself.
///
/// # Errors
/// [`CompressError::Setting`] for a teacher that takes other images or tells other classes apart.
pub(crate) fn teacher(
    other: Option<&Graph>,
    graph: &Graph,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
) -> Result<Option<CpuExecutor>, CompressError> {
    if settings.distill.is_none() {
        return Ok(None);
    }
    let mut student = executor(graph, settings, seed, isa)?;
    let Some(other) = other else { return Ok(Some(student)) };
    // The heads of a solver's net are the student's own.
    let settings = TrainingSettings { heads: Vec::new(), ..settings.clone() };
    let mut teacher = executor(other, &settings, seed, isa)?;
    let taught = (teacher.image_shape().to_vec(), teacher.classes()?);
    let wanted = (student.image_shape().to_vec(), student.classes()?);
    if taught != wanted {
        let text = |(shape, classes): (Vec<usize>, usize)| {
            let shape: Vec<_> = shape.iter().map(usize::to_string).collect();
            format!("images of {} and {classes} outputs", shape.join("x"))
        };
        let reason = format!("it has {}, the network {}", text(taught), text(wanted));
        return Err(CompressError::Setting { name: "teacher", reason });
    }
    Ok(Some(teacher))
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
    let course = Course { train, transform, settings, span };
    let whole = Part { first: 0, steps: span.iterations };
    advance(executor, teacher, &course, whole, observer, &mut |_, _| Ok(()))
}

/// What is done after each step, with the step's rate.
pub(crate) type AfterStep<'a> = &'a mut dyn FnMut(&mut dyn Executor, f32) -> Result<(), CompressError>;

/// What a re-training goes through, whichever part of it is done now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    pub train: &'a Split,
    pub transform: &'a Transform,
    pub settings: &'a TrainingSettings,
    pub span: Span,
}

/// As [`retrain`]; `after` is called after every step, and the accuracy on `test` is measured every
/// [`TrainingSettings::test_interval`] steps.
///
/// # Errors
/// As [`retrain`].
pub(crate) fn retrain_with(
    executor: &mut dyn Executor,
    mut teacher: Option<&mut (dyn Executor + '_)>,
    course: &Course<'_>,
    test: &Split,
    observer: &mut dyn Observer,
    after: AfterStep<'_>,
) -> Result<f64, CompressError> {
    let (settings, iterations) = (course.settings, course.span.iterations);
    let interval = settings.test_interval.unwrap_or(iterations).max(1);
    let (mut seconds, mut first) = (0.0, 0);
    loop {
        let part = Part { first, steps: interval.min(iterations - first) };
        seconds += advance(executor, teacher.as_deref_mut(), course, part, observer, &mut *after)?;
        first += part.steps;
        if first >= iterations {
            return Ok(seconds);
        }
        let accuracy = evaluate(executor, test, course.transform, settings.batch)?;
        observer.on(&Event::Tested { iteration: first, accuracy });
    }
}

/// Part of a re-training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its steps that are done; 0 starts with a history of zeros.
    pub first: u64,
    /// Steps to do.
    pub steps: u64,
}

/// Does `part` of a re-training. Returns the seconds it took.
///
/// # Errors
/// As [`retrain`].
pub(crate) fn advance(
    executor: &mut dyn Executor,
    mut teacher: Option<&mut (dyn Executor + '_)>,
    course: &Course<'_>,
    part: Part,
    observer: &mut dyn Observer,
    after: AfterStep<'_>,
) -> Result<f64, CompressError> {
    let Course { train, transform, settings, span } = *course;
    let began = Instant::now();
    if part.first == 0 {
        executor.reset_momentum();
    }
    let batches = (span.done + part.first) * settings.iter_size as u64;
    executor.set_iteration(batches);
    let mut stream = train.stream(settings.batch, transform, span.seed)?;
    stream.seek(batches * settings.batch as u64);
    let mut batch = Batch::default();
    let policy = settings.lr_policy.clone().with_length(span.iterations);
    for iteration in part.first..part.first + part.steps {
        let learning_rate = policy.at(settings.learning_rate, iteration) as f32;
        let step = StepSettings {
            learning_rate,
            momentum: settings.momentum as f32,
            weight_decay: settings.weight_decay as f32,
            penalty: settings.penalty,
            nesterov: settings.nesterov,
            rule: settings.rule,
            clip_gradients: settings.clip_gradients,
            iter_size: settings.iter_size,
            iteration,
        };
        let mut seen = Statistics::default();
        for earlier in (0..settings.iter_size).rev() {
            stream.next_into(&mut batch)?;
            let outputs = match (&mut teacher, settings.distill) {
                (Some(teacher), Some(temperature)) => {
                    let mut outputs = teacher.logits(&batch.images)?;
                    softmax_with_temperature(&mut outputs, teacher.classes()?, temperature);
                    Some((outputs, temperature))
                }
                _ => None,
            };
            let target = match &outputs {
                Some((probabilities, temperature)) => {
                    Target::Distribution { probabilities, temperature: *temperature }
                }
                None => Target::Labels(&batch.labels),
            };
            seen.merge(&match earlier {
                0 => executor.train_step(&batch.images, target, &step)?,
                _ => executor.accumulate(&batch.images, target)?,
            });
        }
        after(executor, learning_rate)?;
        observer.on(&Event::Step {
            iteration: iteration + 1,
            iterations: span.iterations,
            loss: seen.loss,
            learning_rate,
            images: seen.images,
            correct: seen.top1,
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
