//! The training loop: masked SGD over a deterministic stream of batches.

use std::time::{Duration, Instant};

use slq_data::{Batch, Split, Stream, Transform};
use slq_engine::{Executor, Statistics, StepSettings, Target, soften};
use slq_reduce::Reducer;

use super::evaluate::evaluate_shared;
use super::keep::{Between, Home};
use super::processes::{Shard, check_same};
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

/// Images, preprocessing, settings and length of a training.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course<'a> {
    pub train: &'a Split,
    pub test: &'a Split,
    pub transform: &'a Transform,
    pub settings: &'a TrainingSettings,
    pub span: Span,
    /// The processes that train together.
    pub reducer: &'a dyn Reducer,
}

/// Runs SGD steps on `executor`; with a `teacher`, towards its outputs instead of the labels. The learning rate
/// starts anew with each call, and the accuracy on the test images is measured every
/// [`TrainingSettings::test_interval`] steps. It goes on from the moment that `home` kept, if there is one; the parameters
/// are in the graph of `home` at the end.
///
/// Returns the seconds it took.
///
/// # Errors
/// [`CompressError::Engine`] where a step fails or diverges, [`CompressError::Data`] for an unreadable image,
/// [`CompressError::Interrupted`] where the observer asks to stop; the moment is kept then.
pub(crate) fn retrain(
    executor: &mut dyn Executor,
    mut teacher: Option<&mut (dyn Executor + '_)>,
    course: &Course<'_>,
    home: &mut Home<'_, '_>,
    between: &mut dyn Between,
    observer: &mut dyn Observer,
) -> Result<f64, CompressError> {
    let (settings, iterations) = (course.settings, course.span.iterations);
    let interval = settings.test_interval.unwrap_or(u64::MAX).max(1);
    let (mut seconds, mut first) = (0.0, 0);
    if let Some(moment) = home.resume(executor)? {
        (seconds, first) = (moment.seconds, moment.iteration.min(iterations));
        between.restore(moment.between)?;
        observer.on(&Event::Continued { iteration: first, iterations });
    }
    while first < iterations {
        let next = (first / interval).saturating_add(1).saturating_mul(interval).min(iterations);
        let part = Part { first, steps: next - first, pause: home.pause() };
        let done = advance(executor, teacher.as_deref_mut(), course, part, observer, &mut *between)?;
        (seconds, first) = (seconds + done.seconds, first + done.steps);
        if first == iterations {
            break;
        }
        if done.ended != Ended::Done {
            home.keep_first(executor, first, seconds, between, course.reducer)?;
        }
        if done.ended == Ended::Stopped {
            return Err(CompressError::Interrupted);
        }
        if first.is_multiple_of(interval) {
            let images = (course.test, course.transform);
            let accuracy = evaluate_shared(executor, images, settings.batch, course.reducer)?;
            observer.on(&Event::Tested { iteration: first, accuracy });
        }
    }
    executor.store_parameters(home.graph)?;
    check_same(home.graph, course.reducer)?;
    Ok(seconds)
}

/// Consecutive steps of a training.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// Steps done before; 0 starts with zero momentum.
    pub first: u64,
    /// Steps to do.
    pub steps: u64,
    /// Ends the part early after this time.
    pub pause: Option<Duration>,
}

/// Why a part ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// All its steps are done.
    Done,
    /// Its time is over.
    Paused,
    /// The observer asked to stop.
    Stopped,
}

/// What was done of a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Advanced {
    /// Steps.
    pub steps: u64,
    /// Seconds they took.
    pub seconds: f64,
    /// Why it ended.
    pub ended: Ended,
}

/// Does `part` of a training, at least one step of it.
///
/// # Errors
/// [`CompressError::Engine`] where a step fails or diverges, [`CompressError::Data`] for an unreadable image.
pub(crate) fn advance(
    executor: &mut dyn Executor,
    mut teacher: Option<&mut (dyn Executor + '_)>,
    course: &Course<'_>,
    part: Part,
    observer: &mut dyn Observer,
    between: &mut dyn Between,
) -> Result<Advanced, CompressError> {
    let Course { train, transform, settings, span, reducer, .. } = *course;
    let own = Shard::new(settings, reducer)?;
    let began = Instant::now();
    if part.first == 0 {
        executor.reset_momentum();
    }
    let batches = (span.done + part.first) * settings.iter_size as u64;
    executor.set_iteration(batches);
    executor.set_copy(reducer.rank() as u64);
    let stream = train.stream(own.count, transform, span.seed)?;
    let mut images = Images { stream, own, next: batches, batch: Batch::default() };
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
        let seen = one_step(executor, &mut teacher, settings, &mut images, &step)?;
        between.after_step(executor, learning_rate)?;
        let seen = own.figures(seen)?;
        observer.on(&Event::Step {
            iteration: iteration + 1,
            iterations: span.iterations,
            loss: seen.loss,
            learning_rate,
            images: seen.images,
            correct: seen.top1 + seen.agreement.round() as usize,
        });
        let advanced = |ended| Advanced {
            steps: iteration + 1 - part.first,
            seconds: began.elapsed().as_secs_f64(),
            ended,
        };
        let over = part.pause.is_some_and(|pause| began.elapsed() >= pause);
        let (stop, over) = own.agree(observer.stop(), over)?;
        if stop {
            return Ok(advanced(Ended::Stopped));
        }
        if over {
            return Ok(advanced(Ended::Paused));
        }
    }
    Ok(Advanced { steps: part.steps, seconds: began.elapsed().as_secs_f64(), ended: Ended::Done })
}

/// What a training reads.
struct Images<'a> {
    stream: Stream,
    own: Shard<'a>,
    /// Number of the next batch.
    next: u64,
    batch: Batch,
}

/// One update of the parameters, over as many batches as the settings say.
fn one_step(
    executor: &mut dyn Executor,
    teacher: &mut Option<&mut (dyn Executor + '_)>,
    settings: &TrainingSettings,
    images: &mut Images<'_>,
    step: &StepSettings,
) -> Result<Statistics, CompressError> {
    let mut seen = Statistics::default();
    for earlier in (0..settings.iter_size).rev() {
        let Images { stream, own, next, batch } = &mut *images;
        own.read(stream, *next, batch)?;
        *next += 1;
        let outputs = match (&mut *teacher, settings.distill) {
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
            None if executor.follows() => Target::Network,
            None => Target::Labels(&batch.labels),
        };
        seen.merge(&match earlier {
            0 => executor.train_share(&batch.images, target, step, own.share())?,
            _ => executor.accumulate_share(&batch.images, target, own.share())?,
        });
    }
    Ok(seen)
}
