//! Training at full precision: from scratch, or as the reference that a compressed network is held against.

use std::time::Instant;

use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa};
use slq_graph::Graph;

use crate::error::CompressError;
use crate::observer::{Event, Observer};
use crate::report::Accuracy;
use crate::settings::TrainingSettings;
use crate::training::{Span, TrainingData, check_trainable, evaluate, retrain};

/// A trained network.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network.
    pub graph: Graph,
    /// Test accuracy before.
    pub baseline: Accuracy,
    /// Test accuracy after.
    pub accuracy: Accuracy,
    /// Steps done.
    pub iterations: u64,
    /// Seconds of training, evaluation excluded.
    pub seconds: f64,
}

/// Trains all parameters of `graph`; palettes are dropped, since their weights move. With
/// [`TrainingSettings::distill`] the network is trained towards its own outputs at the start.
///
/// # Errors
/// [`CompressError::Setting`] for settings that cannot be, [`CompressError::TooFewImages`] for less than one batch
/// of images, and what engine and data report.
pub fn train(
    mut graph: Graph,
    data: &TrainingData,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
    observer: &mut dyn Observer,
) -> Result<Trained, CompressError> {
    settings.check()?;
    for weight in graph.weights.values_mut() {
        weight.palette = None;
    }
    let options = EngineOptions { isa, batch_norm: settings.batch_norm, seed };
    let mut executor = CpuExecutor::new(&graph, settings.batch, &options)?;
    check_trainable(&mut executor, data, settings.batch)?;
    let mut teacher =
        settings.distill.map(|_| CpuExecutor::new(&graph, settings.batch, &options)).transpose()?;
    let baseline = evaluate(&mut executor, &data.test, &data.transform, settings.batch)?;
    observer.on(&Event::Baseline(baseline));
    let iterations = settings.duration.iterations(data.train.len(), settings.batch);
    let span = Span { done: 0, iterations, seed };
    let began = Instant::now();
    let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
    retrain(&mut executor, teacher, &data.train, &data.transform, settings, span, observer)?;
    let seconds = began.elapsed().as_secs_f64();
    executor.store_parameters(&mut graph)?;
    let accuracy = evaluate(&mut executor, &data.test, &data.transform, settings.batch)?;
    observer.on(&Event::Final(accuracy));
    Ok(Trained { graph, baseline, accuracy, iterations, seconds })
}
