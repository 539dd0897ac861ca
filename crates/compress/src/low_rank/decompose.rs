//! The decompose stage: accuracy before, training at low rank, the split, training of the factors, accuracy after.

use std::time::Instant;

use slq_engine::{CpuExecutor, Executor};
use slq_graph::Graph;

use super::layer::{find, network_cost};
use super::plan::plan;
use super::report::{self, Change, DecomposeReport, FactorReport, Flops, TrpReport};
use super::settings::{Decompose, TrpSettings};
use super::split;
use super::trp::Truncation;
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::{Accuracy, Event, Observer};
use crate::train::{
    Course, Home, Keep, Nothing, Span, TrainingData, TrainingSettings, check_trainable, evaluate_shared,
    executor, retrain,
};

/// A decomposed network.
#[derive(Debug, Clone)]
pub(crate) struct Decomposed {
    /// The network with its layers split.
    pub(crate) graph: Graph,
    /// The figures.
    pub(crate) report: DecomposeReport,
}

/// Splits layers of `graph` into thin ones of low rank.
///
/// Training at low rank and fine-tuning need data; without them it serves to report accuracies. Palettes are
/// dropped, since the weights move off their codebooks.
///
/// # Errors
/// [`CompressError::NothingToDecompose`] where no layer can be split, [`CompressError::LayerRank`] for a rank above
/// a layer's full one, [`CompressError::BudgetTooSmall`], [`CompressError::Setting`], [`CompressError::NonFinite`],
/// [`CompressError::NoData`], and the errors of engine and data.
pub(crate) fn decompose(
    mut graph: Graph,
    settings: &Decompose,
    context: Context<'_>,
    keepers: Keepers<'_>,
    observer: &mut dyn Observer,
) -> Result<Decomposed, CompressError> {
    let began = Instant::now();
    settings.check()?;
    find(&graph, settings)?;
    if settings.trains() {
        context.require_data()?;
    }
    let before = network_cost(&graph)?;
    for weight in graph.weights.values_mut() {
        weight.palette = None;
    }
    let job = Job {
        settings,
        context,
        teacher: settings.trainings().any(|t| t.distill.is_some()).then(|| graph.clone()),
    };
    let baseline = context.accuracy(&graph, settings.batch)?;
    if let Some(accuracy) = baseline {
        observer.on(&Event::Baseline(accuracy));
    }
    let trp = match &settings.trp {
        Some(trp) => {
            let home = Home { graph: &mut graph, keeper: keepers.low_rank };
            Some(job.train_at_low_rank(home, context.require_data()?, trp, observer)?)
        }
        None => None,
    };
    let split_began = Instant::now();
    let plan = plan(&graph, settings, context.seed)?;
    split::apply(&mut graph, &plan.splits)?;
    let split_seconds = split_began.elapsed().as_secs_f64();
    let (layers, left_whole) = report::layers(&plan);
    let split_accuracy = context.accuracy(&graph, settings.batch)?;
    observer.on(&Event::Decomposed {
        split: layers.len(),
        whole: left_whole.len(),
        accuracy: split_accuracy,
    });
    let home = Home { graph: &mut graph, keeper: keepers.factors };
    let tuned = job.fine_tune(home, split_accuracy, observer)?;
    let final_accuracy = tuned.as_ref().map(|(_, after)| *after).or(split_accuracy);
    if let Some(accuracy) = final_accuracy {
        observer.on(&Event::Final(accuracy));
    }
    let after = network_cost(&graph)?;
    let report = DecomposeReport {
        scheme: settings.schemes(),
        baseline,
        final_accuracy,
        flops: Flops::new(before.macs, after.macs),
        parameters: Change { before: before.parameters, after: after.parameters },
        layers,
        left_whole,
        trp,
        fine_tune: tuned.map(|(report, _)| report),
        split_seconds,
        seconds: began.elapsed().as_secs_f64(),
    };
    Ok(Decomposed { graph, report })
}

/// What keeps the trainings of a decomposition on the way.
#[derive(Default)]
pub(crate) struct Keepers<'a> {
    /// The training at low rank; its end is kept, too.
    pub(crate) low_rank: Option<&'a mut dyn Keep>,
    /// The training of the factors.
    pub(crate) factors: Option<&'a mut dyn Keep>,
}

/// What all parts of a decomposition share.
struct Job<'a> {
    settings: &'a Decompose,
    context: Context<'a>,
    /// Teacher of a distillation where no other is given: the network before the stage.
    teacher: Option<Graph>,
}

impl Job<'_> {
    fn executor(
        &self,
        graph: &Graph,
        data: &TrainingData,
        training: &TrainingSettings,
    ) -> Result<CpuExecutor, CompressError> {
        let mut executor = executor(graph, training, Some(data), (self.context.seed, self.context.isa))?;
        check_trainable(&mut executor, data, training.batch)?;
        Ok(executor)
    }

    fn teacher(
        &self,
        data: &TrainingData,
        training: &TrainingSettings,
    ) -> Result<Option<CpuExecutor>, CompressError> {
        let graph = self.context.teacher.or(self.teacher.as_ref()).filter(|_| training.distill.is_some());
        let graph = graph.filter(|_| data.following.is_none());
        graph.map(|graph| self.executor(graph, data, training)).transpose()
    }

    fn train_at_low_rank(
        &self,
        mut home: Home<'_, '_>,
        data: &TrainingData,
        trp: &TrpSettings,
        observer: &mut dyn Observer,
    ) -> Result<TrpReport, CompressError> {
        let (training, reducer) = (&trp.training, self.context.reducer);
        let mut executor = self.executor(home.graph, data, training)?;
        let mut teacher = self.teacher(data, training)?;
        let (layers, _) = find(home.graph, self.settings)?;
        let iterations = training.steps(data.train.len());
        let cost = network_cost(home.graph)?;
        let mut truncation = Truncation::new(trp, self.settings, layers, cost, iterations);
        let span = Span { done: 0, iterations, seed: self.context.seed };
        let TrainingData { train, test, transform, .. } = data;
        let course = Course { train, test, transform, settings: training, span, reducer };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        let seconds = retrain(&mut executor, teacher, &course, &mut home, &mut truncation, observer)?;
        // What follows is quick to repeat.
        home.keep_first(&executor, iterations, seconds, &truncation, reducer)?;
        Ok(TrpReport {
            iterations,
            truncations: truncation.count,
            seconds,
            svd_seconds: truncation.seconds,
            svd_share: truncation.seconds / seconds.max(f64::MIN_POSITIVE),
            failures: truncation.failures,
            trained: evaluate_shared(&mut executor, (&data.test, &data.transform), training.batch, reducer)?,
        })
    }

    /// Trains the factors, where that is asked for: the figures and the accuracy afterwards.
    fn fine_tune(
        &self,
        mut home: Home<'_, '_>,
        before: Option<Accuracy>,
        observer: &mut dyn Observer,
    ) -> Result<Option<(FactorReport, Accuracy)>, CompressError> {
        let (Some(training), Some(before)) = (&self.settings.fine_tune, before) else { return Ok(None) };
        let (data, reducer) = (self.context.require_data()?, self.context.reducer);
        let mut executor = self.executor(home.graph, data, training)?;
        let mut teacher = self.teacher(data, training)?;
        let done = self.settings.trp.as_ref().map_or(0, |t| t.training.steps(data.train.len()));
        let iterations = training.steps(data.train.len());
        let span = Span { done, iterations, seed: self.context.seed };
        let TrainingData { train, test, transform, .. } = data;
        let course = Course { train, test, transform, settings: training, span, reducer };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        let seconds = retrain(&mut executor, teacher, &course, &mut home, &mut Nothing, observer)?;
        let after = evaluate_shared(&mut executor, (&data.test, &data.transform), training.batch, reducer)?;
        Ok(Some((FactorReport { iterations, seconds, before }, after)))
    }
}
