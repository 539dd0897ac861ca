//! The training loop: masked SGD over a deterministic stream of batches.

use std::time::Instant;

use slq_data::{Batch, Split, Transform};
use slq_engine::{Executor, Statistics, StepSettings, Target, soften};

use super::evaluate::evaluate;
use super::settings::TrainingSettings;
use crate::error::CompressError;
use crate::progress::{Event, Observer};

/// Place of a training in its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    /// Steps that the run has done before (they set the place in the stream of images).
    pub(crate) done: u64,
    /// Steps to do now.
    pub(crate) iterations: u64,
    /// Seed of the stream.
    pub(crate) seed: u64,
}

/// Called after each step, with the step's learning rate.
pub(crate) type AfterStep<'a> = &'a mut dyn FnMut(&mut dyn Executor, f32) -> Result<(), CompressError>;

/// Images, preprocessing, settings and length of a training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    pub train: &'a Split,
    pub transform: &'a Transform,
    pub settings: &'a TrainingSettings,
    pub span: Span,
}

/// Runs SGD steps on `executor`; with a `teacher`, towards its outputs instead of the labels. The learning rate
/// starts anew with each call; `after` is called after every step, and the accuracy on `test` is measured every
/// [`TrainingSettings::test_interval`] steps.
///
/// Returns the seconds it took.
///
/// # Errors
/// [`CompressError::Engine`] where a step fails or diverges, [`CompressError::Data`] for an unreadable image.
pub(crate) fn retrain(
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

/// Consecutive steps of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Steps done before; 0 starts with zero momentum.
    pub first: u64,
    /// Steps to do.
    pub steps: u64,
}

/// Does `part` of a training. Returns the seconds it took.
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
                    soften(&mut outputs, teacher.classes()?, temperature);
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
