//! Inference: evaluating, predicting, running, timing.

use std::path::Path;
use std::time::{Duration, Instant};

use slq_compress::{Accuracy, CompressError, check_fit, evaluate, sized};
use slq_data::{Mode, Split, Transform};
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa, Session, StepSettings, Target};
use slq_graph::{Graph, Tensor};

use crate::Error;

fn executor(graph: &Graph, batch: usize, isa: Isa) -> Result<CpuExecutor, Error> {
    Ok(CpuExecutor::new(graph, batch, &EngineOptions { isa, ..EngineOptions::default() })?)
}

/// An executor for the examples of `split`, which must have labels; sizes that the network leaves open are those of the examples.
fn executor_for(graph: &Graph, split: &Split, batch: usize, isa: Isa) -> Result<CpuExecutor, Error> {
    if !split.is_labelled() {
        let reason =
            "it has no labels to measure against; slq compare sets the outputs of two networks side by side";
        return Err(CompressError::DataMismatch { reason: reason.into() }.into());
    }
    if split.inputs().is_some() {
        return executor(&sized(graph.clone(), split), batch, isa);
    }
    executor(graph, batch, isa)
}

/// Accuracy and loss of a network on a split.
///
/// # Errors
/// [`Error::Engine`] for operators that cannot run, [`Error::Data`] for labels beyond the network's outputs.
pub fn evaluate_model(
    graph: &Graph,
    split: &Split,
    transform: &Transform,
    batch: usize,
    isa: Isa,
) -> Result<Accuracy, Error> {
    evaluate_on(&mut executor_for(graph, split, batch, isa)?, split, transform)
}

/// The same on an executor that is there already, such as that of a packed network; batches have the size that it was
/// planned for.
///
/// # Errors
/// As [`evaluate_model`].
pub fn evaluate_on(
    executor: &mut CpuExecutor,
    split: &Split,
    transform: &Transform,
) -> Result<Accuracy, Error> {
    check_fit(executor, split, transform)?;
    check_images(executor)?;
    let batch = executor.batch();
    Ok(evaluate(executor, split, transform, batch)?)
}

/// The index of each image's largest output, the first one on ties.
///
/// # Errors
/// As [`evaluate_model`].
pub fn predict(
    graph: &Graph,
    split: &Split,
    transform: &Transform,
    batch: usize,
    isa: Isa,
) -> Result<Vec<i64>, Error> {
    predict_on(&mut executor_for(graph, split, batch, isa)?, split, transform)
}

/// The same on an executor that is there already.
///
/// # Errors
/// As [`evaluate_model`].
pub fn predict_on(
    executor: &mut CpuExecutor,
    split: &Split,
    transform: &Transform,
) -> Result<Vec<i64>, Error> {
    let mut predictions = Vec::with_capacity(split.len());
    check_fit(executor, split, transform)?;
    check_images(executor)?;
    let classes = executor.classes()?;
    for prepared in split.batches(executor.batch(), transform, Mode::Eval, false)? {
        let logits = executor.logits(&prepared?.images)?;
        predictions.extend(logits.chunks_exact(classes).map(first_maximum));
    }
    Ok(predictions)
}

/// Checks that the batches of images beside the executor fit into memory.
fn check_images(executor: &CpuExecutor) -> Result<(), Error> {
    let values: usize = executor.inputs().iter().map(slq_engine::InputInfo::values).sum();
    Ok(executor.check_room(values.saturating_mul(4 * IMAGES * executor.batch()))?)
}

/// Batches of images in memory at once: the one that runs and the one being prepared, with what its preparation takes.
const IMAGES: usize = 3;

fn first_maximum(row: &[f32]) -> i64 {
    let best = row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best });
    best as i64
}

/// An image file as a network input [1, C, H, W].
///
/// # Errors
/// [`Error::Data`] for an image that cannot be read or does not fit the preprocessing.
pub fn image_tensor(path: &Path, transform: &Transform) -> Result<Tensor, Error> {
    split_tensor(&image_split(path)?, transform)
}

/// The first image of `split` as a network input [1, C, H, W].
///
/// # Errors
/// [`Error::Data`] for an image that does not fit the preprocessing.
pub fn split_tensor(split: &Split, transform: &Transform) -> Result<Tensor, Error> {
    let mut batch = slq_data::Batch::default();
    split.batches(1, transform, Mode::Eval, false)?.next_into(&mut batch)?;
    Ok(Tensor::f32(batch.shape.to_vec(), batch.images)?)
}

/// An image file as a split of one image of class 0.
///
/// # Errors
/// [`Error::Data`] for an image that cannot be read.
pub fn image_split(path: &Path) -> Result<Split, Error> {
    Ok(Split::from_image(path)?)
}

/// Runs a network on named inputs; outputs by name, in the graph's order.
///
/// # Errors
/// [`Error::Engine`] for operators that cannot run and inputs that do not fit.
pub fn run_model(
    graph: &Graph,
    inputs: &[(String, Tensor)],
    isa: Isa,
) -> Result<Vec<(String, Tensor)>, Error> {
    Ok(slq_engine::run(graph, &borrowed(inputs), isa)?)
}

/// The same on a session, such as that of a packed network.
///
/// # Errors
/// As [`run_model`].
pub fn run_session(
    session: &mut Session,
    inputs: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>, Error> {
    Ok(session.run(&borrowed(inputs))?)
}

fn borrowed(inputs: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    inputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

/// Speed of a network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Images a second, forward.
    pub forward: f64,
    /// Images a second, training step: forward, backward, SGD with momentum and weight decay.
    pub train: f64,
    /// Memory that the executor's plan takes, in bytes.
    pub peak_bytes: usize,
}

/// Measures forward passes and training steps on random images in memory, each for `seconds` after two passes to warm
/// up; the median over passes counts.
///
/// # Errors
/// [`Error::Engine`] for operators that cannot run.
pub fn measure_speed(graph: &Graph, batch: usize, seconds: f64, isa: Isa) -> Result<Speed, Error> {
    let mut executor = executor(graph, batch, isa)?;
    // Before time is spent on forward passes.
    executor.plan_training()?;
    check_images(&executor)?;
    let images = random_images(&executor);
    let classes = executor.classes()?;
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    // The rate is too small to leave the starting point, so that no measurement can diverge.
    let step = StepSettings { learning_rate: 1e-9, ..StepSettings::default() };
    let forward = median_rate(batch, seconds, || executor.evaluate(&images, None).map(drop))?;
    let train = median_rate(batch, seconds, || {
        executor.train_step(&images, Target::Labels(&labels), &step).map(drop)
    })?;
    Ok(Speed { forward, train, peak_bytes: executor.peak_bytes() })
}

/// Measures forward passes only, as [`measure_speed`] does; images a second.
///
/// # Errors
/// As [`measure_speed`].
pub fn measure_forward(executor: &mut CpuExecutor, seconds: f64) -> Result<f64, Error> {
    check_images(executor)?;
    let (images, batch) = (random_images(executor), executor.batch());
    median_rate(batch, seconds, || executor.evaluate(&images, None).map(drop))
}

/// A batch of random images.
fn random_images(executor: &CpuExecutor) -> Vec<f32> {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let values = executor.image_shape().iter().product::<usize>() * executor.batch();
    (0..values).map(|_| random()).collect()
}

fn median_rate(
    images: usize,
    seconds: f64,
    mut pass: impl FnMut() -> Result<(), slq_engine::EngineError>,
) -> Result<f64, Error> {
    pass()?;
    pass()?;
    let (mut times, began) = (Vec::new(), Instant::now());
    let limit = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(3));
    while times.len() < 3 || began.elapsed() < limit {
        let start = Instant::now();
        pass()?;
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(images as f64 / times[times.len() / 2].max(1e-12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_outputs_wins() {
        assert_eq!(first_maximum(&[1.0, 3.0, 3.0]), 1);
        assert_eq!(first_maximum(&[2.0, 2.0]), 0);
    }
}
