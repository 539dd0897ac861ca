//! The whole job: accuracy before, training at low rank, the split, training of the factors, accuracy after.

use std::time::Instant;

use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa};
use slq_graph::Graph;

use super::layer::{find, network_cost};
use super::plan::plan;
use super::report::{self, Change, DecomposeReport, FineTuneReport, Flops, TrpReport};
use super::settings::{DecomposeSettings, TrpSettings};
use super::split;
use super::trp::Truncation;
use crate::error::CompressError;
use crate::observer::{Event, Observer};
use crate::report::Accuracy;
use crate::settings::TrainingSettings;
use crate::training::{
    self, Course, Span, TrainingData, check_fit, check_trainable, evaluate, retrain, retrain_with,
};

/// What a decomposition gives back.
#[derive(Debug, Clone)]
pub struct Decomposed {
    /// The network with its layers split.
    pub graph: Graph,
    /// The figures.
    pub report: DecomposeReport,
}

/// Splits layers of `graph` into thin ones of low rank (method.md, section 6).
///
/// Training at low rank and fine-tuning need `data`; without them it serves to report accuracies. Palettes are
/// dropped, since the weights move off their codebooks.
///
/// # Errors
/// [`CompressError::NothingToDecompose`] where no layer can be split, [`CompressError::LayerRank`] for a rank above
/// a layer's full one, [`CompressError::BudgetTooSmall`], [`CompressError::Setting`], [`CompressError::NonFinite`],
/// [`CompressError::NoData`], and what engine and data report.
pub fn decompose(
    mut graph: Graph,
    data: Option<&TrainingData>,
    settings: &DecomposeSettings,
    isa: Isa,
    observer: &mut dyn Observer,
) -> Result<Decomposed, CompressError> {
    let began = Instant::now();
    settings.check()?;
    find(&graph, settings)?;
    if settings.trains() && data.is_none() {
        return Err(CompressError::NoData);
    }
    let before = network_cost(&graph)?;
    for weight in graph.weights.values_mut() {
        weight.palette = None;
    }
    let distills = |t: &TrainingSettings| t.distill.is_some();
    let trp_distills = settings.trp.as_ref().is_some_and(|t| distills(&t.training));
    let teacher = (trp_distills || settings.fine_tune.as_ref().is_some_and(distills)).then(|| graph.clone());
    let job = Job { data, settings, isa, teacher };
    let baseline = job.accuracy(&graph)?;
    if let Some(accuracy) = baseline {
        observer.on(&Event::Baseline(accuracy));
    }
    let trp = match (&settings.trp, data) {
        (Some(trp), Some(data)) => Some(job.train_at_low_rank(&mut graph, data, trp, observer)?),
        _ => None,
    };
    let split_began = Instant::now();
    let plan = plan(&graph, settings)?;
    split::apply(&mut graph, &plan.splits)?;
    let split_seconds = split_began.elapsed().as_secs_f64();
    let mut final_accuracy = job.accuracy(&graph)?;
    let (layers, left_whole) = report::layers(&plan);
    observer.on(&Event::Decomposed {
        split: layers.len(),
        whole: left_whole.len(),
        accuracy: final_accuracy,
    });
    let mut fine_tune = None;
    if let (Some(training), Some(data), Some(before)) = (&settings.fine_tune, data, final_accuracy) {
        let done = settings.trp.as_ref().map_or(0, |t| steps(&t.training, data));
        let (seconds, after) = job.fine_tune(&mut graph, data, training, done, observer)?;
        fine_tune = Some(FineTuneReport { iterations: steps(training, data), seconds, before });
        final_accuracy = Some(after);
    }
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
        fine_tune,
        split_seconds,
        seconds: began.elapsed().as_secs_f64(),
    };
    Ok(Decomposed { graph, report })
}

fn steps(training: &TrainingSettings, data: &TrainingData) -> u64 {
    training.duration.iterations(data.train.len(), training.batch)
}

/// What all parts of a decomposition share.
struct Job<'a> {
    data: Option<&'a TrainingData>,
    settings: &'a DecomposeSettings,
    isa: Isa,
    /// The network as it came, where training is towards its outputs.
    teacher: Option<Graph>,
}

impl Job<'_> {
    fn accuracy(&self, graph: &Graph) -> Result<Option<Accuracy>, CompressError> {
        let Some(data) = self.data else { return Ok(None) };
        let options = EngineOptions { isa: self.isa, ..EngineOptions::default() };
        let mut executor = CpuExecutor::new(graph, self.settings.batch, &options)?;
        check_fit(&mut executor, &data.test, &data.transform)?;
        evaluate(&mut executor, &data.test, &data.transform, self.settings.batch).map(Some)
    }

    fn executor(
        &self,
        graph: &Graph,
        data: &TrainingData,
        training: &TrainingSettings,
    ) -> Result<CpuExecutor, CompressError> {
        let mut executor = training::executor(graph, training, self.settings.seed, self.isa)?;
        check_trainable(&mut executor, data, training.batch)?;
        Ok(executor)
    }

    fn teacher(
        &self,
        data: &TrainingData,
        training: &TrainingSettings,
    ) -> Result<Option<CpuExecutor>, CompressError> {
        let graph = self.teacher.as_ref().filter(|_| training.distill.is_some());
        graph.map(|graph| self.executor(graph, data, training)).transpose()
    }

    fn train_at_low_rank(
        &self,
        graph: &mut Graph,
        data: &TrainingData,
        trp: &TrpSettings,
        observer: &mut dyn Observer,
    ) -> Result<TrpReport, CompressError> {
        let training = &trp.training;
        let mut executor = self.executor(graph, data, training)?;
        let mut teacher = self.teacher(data, training)?;
        let (layers, _) = find(graph, self.settings)?;
        let iterations = steps(training, data);
        let mut truncation = Truncation::new(trp, self.settings, layers, network_cost(graph)?, iterations);
        let span = Span { done: 0, iterations, seed: self.settings.seed };
        let course = Course { train: &data.train, transform: &data.transform, settings: training, span };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        let mut truncate = |executor: &mut dyn Executor, rate| truncation.after_step(executor, rate);
        let seconds = retrain_with(&mut executor, teacher, &course, &data.test, observer, &mut truncate)?;
        executor.store_parameters(graph)?;
        Ok(TrpReport {
            iterations,
            truncations: truncation.count,
            seconds,
            svd_seconds: truncation.seconds,
            svd_share: truncation.seconds / seconds.max(f64::MIN_POSITIVE),
            failures: truncation.failures,
            trained: evaluate(&mut executor, &data.test, &data.transform, training.batch)?,
        })
    }

    fn fine_tune(
        &self,
        graph: &mut Graph,
        data: &TrainingData,
        training: &TrainingSettings,
        done: u64,
        observer: &mut dyn Observer,
    ) -> Result<(f64, Accuracy), CompressError> {
        let mut executor = self.executor(graph, data, training)?;
        let mut teacher = self.teacher(data, training)?;
        let span = Span { done, iterations: steps(training, data), seed: self.settings.seed };
        let teacher = teacher.as_mut().map(|t| t as &mut dyn Executor);
        let seconds =
            retrain(&mut executor, teacher, &data.train, &data.transform, training, span, observer)?;
        executor.store_parameters(graph)?;
        Ok((seconds, evaluate(&mut executor, &data.test, &data.transform, training.batch)?))
    }
}
