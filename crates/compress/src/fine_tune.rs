//! Training at full precision: from scratch, or as the reference that a compressed network is held against.

use slq_engine::{Executor, Isa};
use slq_graph::Graph;

use crate::error::CompressError;
use crate::observer::{Event, Observer};
use crate::report::Accuracy;
use crate::settings::TrainingSettings;
use crate::training::{self, Course, Part, Span, TrainingData, advance, check_trainable, evaluate};

/// A trained network.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The network.
    pub graph: Graph,
    /// Test accuracy before.
    pub baseline: Accuracy,
    /// Test accuracy after.
    pub accuracy: Accuracy,
    /// Test accuracies on the way, each with the steps done.
    pub tests: Vec<(u64, Accuracy)>,
    /// Steps done, those before a resumption included.
    pub iterations: u64,
    /// Seconds of training, evaluation excluded.
    pub seconds: f64,
}

/// Where a training stands, beside the parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Standing {
    /// Steps done.
    pub iteration: u64,
    /// The optimiser's history by parameter ([`Executor::momentum`]).
    pub history: Vec<(String, Vec<f32>)>,
}

/// What a snapshot is made with: the network and where its training stands.
pub type SnapshotWriter<'a> =
    &'a mut dyn FnMut(&Graph, &Standing) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// How a training is run, beside its settings.
#[derive(Default)]
pub struct TrainOptions<'a> {
    /// Seed of the order of images, augmentation and dropout.
    pub seed: u64,
    /// Instruction set.
    pub isa: Isa,
    /// Whose outputs distillation trains towards; `None` for those of the network itself, as it came.
    pub teacher: Option<&'a Graph>,
    /// Where the training stood when the parameters were saved; default: at its beginning.
    pub resume: Option<Standing>,
    /// Called after every so many steps.
    pub snapshots: Option<(u64, SnapshotWriter<'a>)>,
    /// Whether the snapshot writer is called at the end, too.
    pub snapshot_at_end: bool,
}

/// Trains all parameters of `graph`; palettes are dropped, since their weights move. With
/// [`TrainingSettings::distill`] the network is trained towards its own outputs at the start, or a teacher's.
///
/// # Errors
/// [`CompressError::Setting`] for settings that cannot be, [`CompressError::TooFewImages`] for less than one batch
/// of images, and what engine and data report.
pub fn train(
    graph: Graph,
    data: &TrainingData,
    settings: &TrainingSettings,
    seed: u64,
    isa: Isa,
    observer: &mut dyn Observer,
) -> Result<Trained, CompressError> {
    train_with(graph, data, settings, TrainOptions { seed, isa, ..TrainOptions::default() }, observer)
}

/// As [`train`], resumed or with snapshots.
///
/// # Errors
/// As [`train`]; [`CompressError::Snapshot`] with what the snapshot writer reports.
pub fn train_with(
    mut graph: Graph,
    data: &TrainingData,
    settings: &TrainingSettings,
    options: TrainOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Trained, CompressError> {
    settings.check()?;
    for weight in graph.weights.values_mut() {
        weight.palette = None;
    }
    let TrainOptions { seed, isa, teacher, resume, mut snapshots, snapshot_at_end } = options;
    let mut executor = training::executor(&graph, settings, seed, isa)?;
    check_trainable(&mut executor, data, settings.batch)?;
    let mut teacher = training::teacher(teacher, &graph, settings, seed, isa)?;
    let baseline = evaluate(&mut executor, &data.test, &data.transform, settings.batch)?;
    observer.on(&Event::Baseline(baseline));
    let iterations = settings.duration.iterations(data.train.len(), settings.batch * settings.iter_size);
    let span = Span { done: 0, iterations, seed };
    let course = Course { train: &data.train, transform: &data.transform, settings, span };
    let mut first = 0;
    if let Some(standing) = resume {
        executor.set_momentum(&standing.history)?;
        first = standing.iteration.min(iterations);
    }
    let (mut tests, mut seconds, mut saved) = (Vec::new(), 0.0, None);
    let every = snapshots.as_ref().map(|(every, _)| *every);
    while first < iterations {
        let next =
            [settings.test_interval, every].into_iter().flatten().map(|n| (first / n.max(1) + 1) * n.max(1));
        let part = Part { first, steps: next.min().unwrap_or(iterations).min(iterations) - first };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        seconds += advance(&mut executor, teacher, &course, part, observer, &mut |_, _| Ok(()))?;
        first += part.steps;
        let due = |every: Option<u64>| every.is_some_and(|n| first.is_multiple_of(n.max(1)));
        if due(settings.test_interval) && first < iterations {
            let accuracy = evaluate(&mut executor, &data.test, &data.transform, settings.batch)?;
            observer.on(&Event::Tested { iteration: first, accuracy });
            tests.push((first, accuracy));
        }
        if let (Some((_, write)), true) = (&mut snapshots, due(every)) {
            executor.store_parameters(&mut graph)?;
            let standing = Standing { iteration: first, history: executor.momentum() };
            write(&graph, &standing).map_err(CompressError::Snapshot)?;
            saved = Some(first);
        }
    }
    executor.store_parameters(&mut graph)?;
    if let (Some((_, write)), true) = (&mut snapshots, snapshot_at_end && saved != Some(first)) {
        let standing = Standing { iteration: first, history: executor.momentum() };
        write(&graph, &standing).map_err(CompressError::Snapshot)?;
    }
    let accuracy = evaluate(&mut executor, &data.test, &data.transform, settings.batch)?;
    observer.on(&Event::Final(accuracy));
    Ok(Trained { graph, baseline, accuracy, tests, iterations: first, seconds })
}
