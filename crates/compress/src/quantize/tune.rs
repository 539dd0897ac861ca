//! A stage of its own after quantization: codes stay, the shared values are trained (Han et al., ICLR 2016, section
//! 3.3), with biases and batch-norm.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use slq_engine::Executor;
use slq_graph::Graph;

use super::centroids::Centroids;
use crate::checkpoint::{Fingerprint, StageDir, TrainingDir};
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::{Event, Observer, RoundReport};
use crate::train::{
    Course, Home, Keep, Span, TrainingData, TrainingSettings, check_trainable, evaluate_shared, executor,
    retrain, teacher,
};

/// A stage that trains the shared values of weights that are quantized already.
///
/// Defaults: those of [`TrainingSettings`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Tune {
    /// The training.
    pub training: TrainingSettings,
}

impl Tune {
    /// Checks every value.
    ///
    /// # Errors
    /// [`CompressError::Setting`] naming the setting that is out of range.
    pub fn check(&self) -> Result<(), CompressError> {
        self.training.check()
    }
}

const TUNED: &str = "tuned";

#[derive(Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    /// SHA-256 of the weights.
    weights: String,
    report: RoundReport,
}

/// Trains the shared values of `weights`, which must be quantized; `done` steps of the same run came before.
///
/// # Errors
/// [`CompressError::NoData`], [`CompressError::NotQuantized`] where no weight has a codebook, and the errors of engine
/// and data.
pub(crate) fn tune(
    mut graph: Graph,
    weights: &[String],
    settings: &Tune,
    done: u64,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Graph, RoundReport), CompressError> {
    settings.check()?;
    let (data, training) = (context.require_data()?, &settings.training);
    let fixed = |name: &&String| graph.weights[*name].palette.as_ref().is_some_and(|p| p.is_fully_fixed());
    if weights.iter().filter(fixed).count() == 0 {
        return Err(CompressError::NotQuantized);
    }
    let dir = context.dir.map(StageDir::create).transpose()?;
    let fingerprint = Fingerprint::new(&graph, &context, settings)?;
    if let Some(dir) = &dir
        && let Some(state) = dir.state::<State>()?
    {
        state.fingerprint.check(&fingerprint, dir.path())?;
        dir.load_weights(TUNED, &state.weights, &mut graph)?;
        return Ok((graph, state.report));
    }
    let began = Instant::now();
    let Context { seed, isa, reducer, .. } = context;
    let mut executor = executor(&graph, training, Some(data), (seed, isa))?;
    check_trainable(&mut executor, data, training.batch)?;
    let mut teacher = teacher(context.teacher, &graph, &mut executor, training, seed, isa)?;
    let before = evaluate_shared(&mut executor, (&data.test, &data.transform), training.batch, reducer)?;
    observer.on(&Event::Shared { layers: &[], fixed_fraction: 1.0, before: Some(before) });
    let iterations = training.steps(data.train.len());
    let span = Span { done, iterations, seed: context.seed };
    let TrainingData { train, test, transform, .. } = data;
    let course = Course { train, test, transform, settings: training, span, reducer };
    let keeper = |dir| TrainingDir::new(dir, &fingerprint, "tuning".into(), context.every);
    let mut keeper = dir.as_ref().map(keeper);
    let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
    let mut centroids = Centroids::begin(&graph, weights.iter().cloned(), training, &mut executor)?;
    let mut home = Home { graph: &mut graph, keeper: keeper.as_mut().map(|k| k as &mut dyn Keep) };
    let retrain_seconds = retrain(&mut executor, teacher, &course, &mut home, &mut centroids, observer)?;
    centroids.finish(&mut graph, &mut executor)?;
    let after = evaluate_shared(&mut executor, (&data.test, &data.transform), training.batch, reducer)?;
    let report = RoundReport {
        fixed_fraction: 1.0,
        layers: Vec::new(),
        before: Some(before),
        after: Some(after),
        iterations,
        share_seconds: 0.0,
        retrain_seconds,
        seconds: began.elapsed().as_secs_f64(),
    };
    if let Some(dir) = &dir {
        let weights = dir.save_weights(TUNED, &graph)?;
        dir.save_state(&State { fingerprint, weights, report: report.clone() })?;
        keeper.iter_mut().for_each(TrainingDir::clear);
    }
    Ok((graph, report))
}
