//! Runs a method: baseline, rounds of sharing and re-training, a checkpoint after each, figures at the end.

use std::path::Path;
use std::time::Instant;

use slq_data::Portion;
use slq_engine::{CpuExecutor, Executor, Isa};
use slq_graph::Graph;

use crate::calibration::Calibration;
use crate::centroids::Centroids;
use crate::checkpoint::{RunDir, RunState};
use crate::correction::{apply, corrections};
use crate::deep_compression::DeepCompression;
use crate::error::CompressError;
use crate::inq::Inq;
use crate::kmeans;
use crate::layers::{Layer, select_layers};
use crate::method::{Method, Stage, Trains};
use crate::method_settings::Weighting;
use crate::mlq::Mlq;
use crate::observer::{Event, Observer};
use crate::report::{Accuracy, Report, RoundReport, Size};
use crate::sensitivity::{Importance, importance};
use crate::settings::{MethodName, Settings};
use crate::slq::Slq;
use crate::training::{
    Course, Span, TrainingData, check_fit, check_trainable, evaluate, executor, retrain_with, teacher,
};

/// Where and how a run works, beside its settings.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions<'a> {
    /// Where checkpoints go; `None` keeps none.
    pub run_dir: Option<&'a Path>,
    /// Go on from the directory's last checkpoint.
    pub resume: bool,
    /// Instruction set.
    pub isa: Isa,
    /// Whose outputs distillation trains towards; `None` for those of the network that is compressed, as it came.
    pub teacher: Option<&'a Graph>,
}

impl Default for RunOptions<'_> {
    fn default() -> Self {
        Self { run_dir: None, resume: false, isa: Isa::detect(), teacher: None }
    }
}

/// What a run gives back.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The compressed network: every selected weight has a fully fixed palette.
    pub graph: Graph,
    /// The run's figures.
    pub report: Report,
}

/// Checks what can be known before a run begins: settings, layers, schedule.
///
/// # Errors
/// [`CompressError::Setting`], [`CompressError::NoLayers`] and their like, [`CompressError::Schedule`].
pub fn check(graph: &Graph, settings: &Settings) -> Result<(), CompressError> {
    settings.check()?;
    let layers = select_layers(graph, settings)?;
    method(settings, &layers).map(drop)
}

/// The method that alternates sharing and re-training; `None` for one that does not.
fn method(settings: &Settings, layers: &[Layer]) -> Result<Option<Box<dyn Method>>, CompressError> {
    Ok(match settings.method {
        MethodName::Kmeans => None,
        MethodName::Slq => Some(Box::new(Slq::new(settings, layers.to_vec())?)),
        MethodName::Mlq => Some(Box::new(Mlq::new(settings, layers.to_vec())?)),
        MethodName::Inq => Some(Box::new(Inq::new(settings, layers.to_vec())?)),
        MethodName::DeepCompression => Some(Box::new(DeepCompression::new(settings, layers.to_vec()))),
    })
}

/// Compresses `graph`.
///
/// Methods that re-train need `data`; k-means uses it, where given, to report accuracies.
///
/// # Errors
/// Any [`CompressError`]; the run directory then holds the last complete round.
pub fn compress(
    graph: Graph,
    data: Option<&TrainingData>,
    settings: &Settings,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, CompressError> {
    settings.check()?;
    let layers = select_layers(&graph, settings)?;
    match (method(settings, &layers)?, data) {
        (None, _) => compress_once(graph, data, settings, &layers, options, observer),
        (Some(_), None) => Err(CompressError::NoData),
        (Some(mut method), Some(data)) => {
            Run::prepare(graph, data, settings, layers, options)?.finish(&mut *method, observer)
        }
    }
}

/// Methods of a single step that need neither data nor re-training.
fn compress_once(
    mut graph: Graph,
    data: Option<&TrainingData>,
    settings: &Settings,
    layers: &[Layer],
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Outcome, CompressError> {
    let began = Instant::now();
    let (mut baseline, mut final_accuracy) = (None, None);
    if data.is_none() && settings.needs_data() {
        return Err(CompressError::NoData);
    }
    if let Some(data) = data {
        let mut executor = executor(&graph, &settings.training, settings.seed, options.isa)?;
        check_fit(&mut executor, &data.test, &data.transform)?;
        let accuracy = test_accuracy(&mut executor, data, settings)?;
        observer.on(&Event::Baseline(accuracy));
        baseline = Some(accuracy);
        let importance = match settings.weighting {
            Weighting::None => None,
            Weighting::Fisher => {
                let portion = Portion::Count(settings.calibration);
                let (_, held_out) = data.train.split_off_validation(portion, settings.seed)?;
                let calibration = Calibration::new(&held_out, &data.transform, settings.training.batch)?;
                Some(importance(&mut executor, &calibration, &names(layers))?)
            }
        };
        kmeans::share(&mut graph, layers, importance.as_ref(), settings.corrects())?;
        executor.load_parameters(&graph)?;
        let accuracy = test_accuracy(&mut executor, data, settings)?;
        observer.on(&Event::Final(accuracy));
        final_accuracy = Some(accuracy);
    } else {
        kmeans::share(&mut graph, layers, None, settings.corrects())?;
    }
    let report =
        report(&graph, settings, baseline, final_accuracy, Vec::new(), began.elapsed().as_secs_f64());
    Ok(Outcome { graph, report })
}

fn names(layers: &[Layer]) -> Vec<&str> {
    layers.iter().map(|l| l.weight.as_str()).collect()
}

fn test_accuracy(
    executor: &mut dyn Executor,
    data: &TrainingData,
    settings: &Settings,
) -> Result<Accuracy, CompressError> {
    evaluate(executor, &data.test, &data.transform, settings.training.batch)
}

fn report(
    graph: &Graph,
    settings: &Settings,
    baseline: Option<Accuracy>,
    final_accuracy: Option<Accuracy>,
    rounds: Vec<RoundReport>,
    seconds: f64,
) -> Report {
    Report {
        method: settings.method,
        bits: settings.bits,
        codebook_size: settings.codebook_size(settings.bits),
        baseline,
        final_accuracy,
        rounds,
        size: Size::of(graph),
        seconds,
    }
}

/// A run of a method that re-trains.
struct Run<'a> {
    graph: Graph,
    data: &'a TrainingData,
    settings: &'a Settings,
    layers: Vec<Layer>,
    dir: Option<RunDir>,
    state: RunState,
    executor: CpuExecutor,
    teacher: Option<CpuExecutor>,
    train: slq_data::Split,
    calibration: Option<Calibration>,
    importance: Option<Importance>,
    resumed: bool,
}

impl<'a> Run<'a> {
    fn prepare(
        mut graph: Graph,
        data: &'a TrainingData,
        settings: &'a Settings,
        layers: Vec<Layer>,
        options: RunOptions<'_>,
    ) -> Result<Self, CompressError> {
        let training = &settings.training;
        let mut teacher = teacher(options.teacher, &graph, training, settings.seed, options.isa)?;
        let (train, calibration) = if settings.measures() {
            let portion = Portion::Count(settings.calibration);
            let (train, held_out) = data.train.split_off_validation(portion, settings.seed)?;
            let mut calibration = Calibration::new(&held_out, &data.transform, training.batch)?;
            if let (Some(teacher), Some(temperature)) = (&mut teacher, training.distill) {
                calibration.distil(teacher, temperature)?;
            }
            (train, Some(calibration))
        } else {
            (data.train.clone(), None)
        };
        let importance = match (settings.weighting, &calibration) {
            (Weighting::Fisher, Some(calibration)) => {
                let mut executor = executor(&graph, &settings.training, settings.seed, options.isa)?;
                check_fit(&mut executor, &data.train, &data.transform)?;
                Some(importance(&mut executor, calibration, &names(&layers))?)
            }
            _ => None,
        };
        let mut state = RunState::new(settings, &graph, data, options.teacher.filter(|_| teacher.is_some()));
        let dir = options.run_dir.map(RunDir::create).transpose()?;
        let mut resumed = false;
        if let Some(dir) = &dir {
            match (dir.state()?, options.resume) {
                (Some(found), true) => {
                    found.check_same_job(&state, dir.path())?;
                    dir.load(&found, &mut graph)?;
                    (state, resumed) = (found, true);
                }
                (Some(_), false) => {
                    let reason = "it already holds a run: resume it, or name another directory".into();
                    return Err(CompressError::RunDir { path: dir.path().into(), reason });
                }
                // Killed before the first state was written: the run begins again.
                (None, _) => {}
            }
        }
        let mut executor = executor(&graph, &settings.training, settings.seed, options.isa)?;
        check_trainable(&mut executor, data, training.batch)?;
        Ok(Self {
            graph,
            data,
            settings,
            layers,
            dir,
            state,
            executor,
            teacher,
            train,
            calibration,
            importance,
            resumed,
        })
    }

    fn finish(
        mut self,
        method: &mut dyn Method,
        observer: &mut dyn Observer,
    ) -> Result<Outcome, CompressError> {
        let began = Instant::now();
        let before_this_sitting = self.state.seconds;
        if self.resumed {
            observer.on(&Event::Resumed(&self.state.rounds));
        }
        if self.state.baseline.is_none() {
            let accuracy = self.test_accuracy()?;
            observer.on(&Event::Baseline(accuracy));
            self.state.baseline = Some(accuracy);
            if let Some(dir) = &self.dir {
                dir.save(&self.state, &self.graph)?;
            }
        }
        if !self.state.rounds.is_empty() {
            method.recall(&self.state.memory)?;
        }
        // Centroids are trained in a round of their own after the last one, unless that trains them already.
        let ends_with_centroids =
            method.rounds().checked_sub(1).is_some_and(|r| method.trains(r) == Trains::Centroids);
        let extra = self.settings.tuning.is_some() && !ends_with_centroids;
        let rounds = method.rounds() + usize::from(extra);
        for round in self.state.rounds.len()..rounds {
            observer.on(&Event::RoundStarted { round, rounds });
            let report = self.round(method, round, observer)?;
            self.state.memory = method.memory();
            self.state.iterations += report.iterations;
            self.state.rounds.push(report);
            self.state.seconds = before_this_sitting + began.elapsed().as_secs_f64();
            if let Some(dir) = &self.dir {
                dir.save(&self.state, &self.graph)?;
            }
            observer.on(&Event::RoundEnded(&self.state.rounds[round]));
        }
        let last = self.state.rounds.last().and_then(|r| r.after);
        if let Some(accuracy) = last {
            observer.on(&Event::Final(accuracy));
        }
        let Self { graph, settings, state, .. } = self;
        let report = report(&graph, settings, state.baseline, last, state.rounds, state.seconds);
        Ok(Outcome { graph, report })
    }

    fn round(
        &mut self,
        method: &mut dyn Method,
        round: usize,
        observer: &mut dyn Observer,
    ) -> Result<RoundReport, CompressError> {
        let began = Instant::now();
        let (mut layers, mut trains) = (Vec::new(), Trains::Centroids);
        // Frozen statistics cannot follow what sharing shifts.
        let as_they_were = self.settings.corrects().then(|| self.weights());
        if round < method.rounds() {
            let mut stage = Stage {
                graph: &mut self.graph,
                executor: &mut self.executor,
                calibration: self.calibration.as_ref(),
                importance: self.importance.as_ref(),
                observer,
            };
            layers = method.share(round, &mut stage)?;
            trains = method.trains(round);
        }
        if let Some(before) = as_they_were {
            self.correct(&before)?;
        }
        let fixed = self.apply_palettes()?;
        let share_seconds = began.elapsed().as_secs_f64();
        let total: usize = self.layers.iter().map(|l| l.count).sum();
        let fixed_fraction = fixed as f64 / total.max(1) as f64;
        let before = self.test_accuracy()?;
        observer.on(&Event::Shared { layers: &layers, fixed_fraction, before: Some(before) });
        let training = &self.settings.training_of(trains);
        let images = training.batch * training.iter_size;
        let iterations = training.duration.iterations(self.train.len(), images);
        let span = Span { done: self.state.iterations, iterations, seed: self.settings.seed };
        let teacher = self.teacher.as_mut().map(|t| t as &mut dyn Executor);
        let mut centroids = match trains {
            Trains::Weights => None,
            Trains::Centroids => {
                let weights = self.layers.iter().map(|l| l.weight.clone());
                Some(Centroids::begin(&self.graph, weights, training, &mut self.executor)?)
            }
        };
        let mut after = |executor: &mut dyn Executor, rate| match &mut centroids {
            Some(centroids) => centroids.step(executor, rate),
            None => Ok(()),
        };
        let course = Course { train: &self.train, transform: &self.data.transform, settings: training, span };
        let (executor, test) = (&mut self.executor, &self.data.test);
        let retrain_seconds = retrain_with(executor, teacher, &course, test, observer, &mut after)?;
        self.executor.store_parameters(&mut self.graph)?;
        if let Some(centroids) = centroids {
            centroids.finish(&mut self.graph)?;
        }
        let after = self.test_accuracy()?;
        Ok(RoundReport {
            fixed_fraction,
            layers,
            before: Some(before),
            after: Some(after),
            iterations,
            share_seconds,
            retrain_seconds,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// The weights of all layers.
    fn weights(&self) -> Vec<Vec<f32>> {
        let values = |l: &Layer| self.graph.weights[&l.weight].tensor.as_f32().unwrap_or_default().to_vec();
        self.layers.iter().map(values).collect()
    }

    /// Moves the statistics behind all layers by what came of their weights `before`.
    fn correct(&mut self, before: &[Vec<f32>]) -> Result<(), CompressError> {
        let moved = self.layers.iter().zip(before).map(|(layer, before)| {
            let now = self.graph.weights[&layer.weight].tensor.as_f32().unwrap_or_default();
            (layer, before.into(), now.into())
        });
        let found = corrections(&self.graph, moved);
        apply(&mut self.graph, &found);
        for (name, values) in &found {
            self.executor.set_parameter(name, values)?;
        }
        Ok(())
    }

    /// Gives the executor the shared values and the masks; counts the fixed weights.
    fn apply_palettes(&mut self) -> Result<usize, CompressError> {
        let mut fixed = 0;
        for layer in &self.layers {
            let weight = &self.graph.weights[&layer.weight];
            let Some(palette) = &weight.palette else { continue };
            self.executor.set_parameter(&layer.weight, weight.tensor.as_f32().unwrap_or_default())?;
            self.executor.set_mask(&layer.weight, Some(palette.fixed()))?;
            fixed += palette.fixed_count();
        }
        Ok(fixed)
    }

    fn test_accuracy(&mut self) -> Result<Accuracy, CompressError> {
        test_accuracy(&mut self.executor, self.data, self.settings)
    }
}
