//! Training at full precision: from scratch, or fine-tuning.

use serde::{Deserialize, Serialize};
use slq_engine::{CpuExecutor, Executor, Isa};
use slq_graph::Graph;
use slq_reduce::{Alone, Reducer};

use super::data::{TrainingData, check_trainable, executor};
use super::distill::teacher;
use super::evaluate::evaluate_shared;
use super::keep::{Between, Home, Keep, Nothing};
use super::processes::check_same;
use super::retrain::{Course, Ended, Part, Span, advance};
use super::settings::TrainingSettings;
use crate::error::CompressError;
use crate::progress::{Accuracy, Event, Observer};

/// A trained network.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network.
    pub graph: Graph,
    /// The figures.
    pub report: FineTuneReport,
}

/// The figures of a training at full precision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FineTuneReport {
    /// Test accuracy before.
    pub baseline: Accuracy,
    /// Test accuracy after.
    #[serde(rename = "final")]
    pub final_accuracy: Accuracy,
    /// Test accuracies in between ([`TrainingSettings::test_interval`]), each with the steps done.
    pub tests: Vec<(u64, Accuracy)>,
    /// Steps done, those before a resumption included.
    pub iterations: u64,
    /// Seconds of training, evaluation excluded.
    pub seconds: f64,
}

/// State of a training beside the parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// Steps done.
    pub iteration: u64,
    /// The optimiser's momentum by parameter ([`Executor::momentum`]).
    pub history: Vec<(String, Vec<f32>)>,
}

/// Writes a snapshot of the network and the state of its training.
pub type SnapshotWriter<'a> =
    &'a mut dyn FnMut(&Graph, &Standing) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How a training is run, beside its settings.
#[derive(Default)]
pub struct TrainOptions<'a> {
    /// Seed of the order of images, augmentation and dropout.
    pub seed: u64,
    /// Instruction set.
    pub isa: Isa,
    /// Teacher of a distillation; `None` for the network itself, before the training.
    pub teacher: Option<&'a Graph>,
    /// State of the training when the parameters were saved; default: at its beginning.
    pub resume: Option<Standing>,
    /// Called after every so many steps.
    pub snapshots: Option<(u64, SnapshotWriter<'a>)>,
    /// Whether the snapshot writer is called at the end, too.
    pub snapshot_at_end: bool,
    /// The processes that train together, of which the first writes snapshots; `None` for one alone.
    pub reducer: Option<&'a dyn Reducer>,
}

/// Trains all parameters of `graph`; palettes are dropped, since their weights move. With
/// [`TrainingSettings::distill`] the targets are the network's own outputs at the start, or a teacher's.
///
/// # Errors
/// [`CompressError::Setting`] for settings out of range, [`CompressError::TooFewImages`] for less than one batch
/// of images, [`CompressError::Snapshot`] with what the snapshot writer reports, [`CompressError::Interrupted`] where the
/// observer asks to stop (a snapshot is written first), and the errors of engine and data.
pub fn train(
    graph: Graph,
    data: &TrainingData,
    settings: &TrainingSettings,
    options: TrainOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Trained, CompressError> {
    train_kept(graph, data, settings, options, None, observer)
}

/// As [`train`], with a `keeper` of moments to go on from.
pub(crate) fn train_kept(
    mut graph: Graph,
    data: &TrainingData,
    settings: &TrainingSettings,
    options: TrainOptions<'_>,
    keeper: Option<&mut dyn Keep>,
    observer: &mut dyn Observer,
) -> Result<Trained, CompressError> {
    settings.check()?;
    settings.check_norms(&graph)?;
    for weight in graph.weights.values_mut() {
        weight.palette = None;
    }
    let TrainOptions { seed, isa, teacher: other, resume, snapshots, snapshot_at_end, reducer } = options;
    let reducer = reducer.unwrap_or(Alone::shared());
    let mut executor = executor(&graph, settings, Some(data), (seed, isa))?;
    check_trainable(&mut executor, data, settings.batch)?;
    let mut teacher = teacher(other, &graph, &mut executor, settings, seed, isa)?;
    let baseline = evaluate_shared(&mut executor, (&data.test, &data.transform), settings.batch, reducer)?;
    observer.on(&Event::Baseline(baseline));
    let iterations = settings.steps(data.train.len());
    let span = Span { done: 0, iterations, seed };
    let TrainingData { train, test, transform, .. } = data;
    let course = Course { train, test, transform, settings, span, reducer };
    let mut home = Home { graph: &mut graph, keeper };
    let (mut first, mut seconds, mut tests) = (0, 0.0, Vec::new());
    if let Some(standing) = resume {
        executor.set_momentum(&standing.history)?;
        first = standing.iteration.min(iterations);
    }
    if let Some(moment) = home.resume(&mut executor)? {
        (first, seconds) = (moment.iteration.min(iterations), moment.seconds);
        tests = serde_json::from_value(moment.between)
            .map_err(|e| CompressError::MethodState { reason: e.to_string() })?;
        observer.on(&Event::Continued { iteration: first, iterations });
    }
    let mut saver = Saver::new(snapshots, snapshot_at_end);
    saver.write = saver.write.filter(|_| reducer.rank() == 0);
    while first < iterations {
        let steps = next_stop(first, iterations, settings, saver.every) - first;
        let part = Part { first, steps, pause: home.pause() };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        let done = advance(&mut executor, teacher, &course, part, observer, &mut Nothing)?;
        (first, seconds) = (first + done.steps, seconds + done.seconds);
        let stopped = done.ended == Ended::Stopped && first < iterations;
        if due(settings.test_interval, first) && first < iterations {
            let accuracy = evaluate_shared(&mut executor, (test, transform), settings.batch, reducer)?;
            observer.on(&Event::Tested { iteration: first, accuracy });
            tests.push((first, accuracy));
        }
        saver.save(&executor, home.graph, first, if stopped { When::Now } else { When::Due })?;
        if done.ended != Ended::Done && first < iterations {
            home.keep_first(&executor, first, seconds, &Tests(&tests), reducer)?;
        }
        if stopped {
            return Err(CompressError::Interrupted);
        }
    }
    executor.store_parameters(&mut graph)?;
    check_same(&graph, reducer)?;
    saver.save(&executor, &mut graph, first, When::AtEnd)?;
    let final_accuracy =
        evaluate_shared(&mut executor, (&data.test, &data.transform), settings.batch, reducer)?;
    observer.on(&Event::Final(final_accuracy));
    let report = FineTuneReport { baseline, final_accuracy, tests, iterations: first, seconds };
    Ok(Trained { graph, report })
}

/// The next step after `first` at which something is measured or saved.
fn next_stop(first: u64, iterations: u64, settings: &TrainingSettings, every: Option<u64>) -> u64 {
    let next = |n: u64| (first / n.max(1)).saturating_add(1).saturating_mul(n.max(1));
    [settings.test_interval, every]
        .into_iter()
        .flatten()
        .map(next)
        .min()
        .unwrap_or(iterations)
        .min(iterations)
}

fn due(every: Option<u64>, done: u64) -> bool {
    done > 0 && every.is_some_and(|n| done.is_multiple_of(n.max(1)))
}

/// The test accuracies so far, as a checkpoint keeps them.
struct Tests<'a>(&'a [(u64, Accuracy)]);

impl Between for Tests<'_> {
    fn after_step(&mut self, _: &mut dyn Executor, _: f32) -> Result<(), CompressError> {
        Ok(())
    }

    fn state(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }
}

/// Whether a snapshot is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// If its interval is over.
    Due,
    /// If its interval is over or one is asked for at the end.
    AtEnd,
    /// In any case: the training stops here.
    Now,
}

/// Calls the snapshot writer when a snapshot is due.
struct Saver<'a> {
    write: Option<SnapshotWriter<'a>>,
    every: Option<u64>,
    at_end: bool,
    saved: Option<u64>,
}

impl<'a> Saver<'a> {
    fn new(snapshots: Option<(u64, SnapshotWriter<'a>)>, at_end: bool) -> Self {
        let (every, write) = snapshots.map_or((None, None), |(every, write)| (Some(every), Some(write)));
        Self { write, every, at_end, saved: None }
    }

    fn save(
        &mut self,
        executor: &CpuExecutor,
        graph: &mut Graph,
        done: u64,
        when: When,
    ) -> Result<(), CompressError> {
        let Some(write) = &mut self.write else { return Ok(()) };
        let wanted = match when {
            When::Due => due(self.every, done),
            When::AtEnd => due(self.every, done) || self.at_end,
            When::Now => true,
        };
        if self.saved == Some(done) || !wanted {
            return Ok(());
        }
        executor.store_parameters(graph)?;
        let standing = Standing { iteration: done, history: executor.momentum() };
        write(graph, &standing).map_err(CompressError::Snapshot)?;
        self.saved = Some(done);
        Ok(())
    }
}
