//! Runs a method: baseline, rounds of sharing and re-training, a checkpoint after each, figures at the end.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use slq_data::Split;
use slq_engine::{CpuExecutor, Executor};
use slq_graph::Graph;

use super::centroids::Centroids;
use super::choices::{Initialisation, Weighting};
use super::correction::{apply, corrections};
use super::deep_compression::DeepCompression;
use super::guides::{Guides, some_of};
use super::importance::importance;
use super::inq::Inq;
use super::layer::Layer;
use super::method::Method;
use super::mlq::Mlq;
use super::once::{quantize_calibrated, quantize_once};
use super::outcome::{Quantized, finished, held_out, names};
use super::rounds::{RoundContext, Rounds, Trains};
use super::select::select_layers;
use super::settings::Quantize;
use super::shared::{Kept, RoundTraining, Shared};
use super::slq::Slq;
use crate::checkpoint::{Fingerprint, StageDir, TrainingDir};
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::{Accuracy, Event, Observer, RoundReport};
use crate::train::{
    Course, HeldOut, Home, Keep, Span, TrainingData, TrainingSettings, check_fit, check_trainable,
    evaluate_shared, executor, retrain, teacher,
};

/// Checks what can be known before a job begins: settings, layers, schedule.
///
/// # Errors
/// [`CompressError::Setting`], [`CompressError::NoLayers`] and the like, [`CompressError::Schedule`].
pub(crate) fn check(graph: &Graph, settings: &Quantize) -> Result<(), CompressError> {
    settings.check()?;
    let layers = select_layers(graph, settings)?;
    rounds_of(settings, &layers, 0).map(drop)
}

/// The rounds of a method; `None` for one that has none.
fn rounds_of(
    settings: &Quantize,
    layers: &[Layer],
    seed: u64,
) -> Result<Option<Box<dyn Rounds>>, CompressError> {
    let layers = layers.to_vec();
    Ok(match &settings.method {
        Method::Kmeans(_) | Method::Calibrate(_) => None,
        Method::Slq(s) => Some(Box::new(Slq::new(s, layers, seed)?)),
        Method::Mlq(s) => Some(Box::new(Mlq::new(s, layers, seed)?)),
        Method::Inq(s) => Some(Box::new(Inq::new(s, settings.bits, layers)?)),
        Method::DeepCompression(s) => Some(Box::new(DeepCompression::new(s, layers))),
    })
}

/// Rounds of a method that re-trains; 0 for one that does not.
///
/// # Errors
/// [`CompressError::Schedule`].
pub(crate) fn round_count(settings: &Quantize, layers: &[Layer]) -> Result<usize, CompressError> {
    Ok(rounds_of(settings, layers, 0)?.map_or(0, |r| r.rounds()))
}

/// Quantizes `graph`. Methods that re-train need data; k-means uses it, where given, to report accuracies.
///
/// # Errors
/// Any [`CompressError`]; the directory then holds the last complete round.
pub(crate) fn quantize(
    graph: Graph,
    settings: &Quantize,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Quantized, CompressError> {
    settings.check()?;
    let layers = select_layers(&graph, settings)?;
    if let Method::Calibrate(own) = &settings.method {
        return quantize_calibrated(graph, (settings, own), &layers, context, observer);
    }
    match rounds_of(settings, &layers, context.seed)? {
        None => quantize_once(graph, settings, &layers, context, observer),
        Some(mut rounds) => {
            let data = context.require_data()?;
            Run::prepare(graph, data, (settings, layers), context, observer)?.finish(&mut *rounds, observer)
        }
    }
}

/// The state after a complete round.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    /// Accuracy of the network before the first round.
    baseline: Option<Accuracy>,
    /// The rounds that are complete.
    rounds: Vec<RoundReport>,
    /// The method's state beside the palettes.
    method_state: Vec<usize>,
    /// Training steps done.
    iterations: u64,
    /// Seconds spent.
    seconds: f64,
    /// SHA-256 of the weights after each round.
    weights: Vec<String>,
}

impl State {
    fn save(&mut self, dir: Option<&StageDir>, graph: &Graph) -> Result<(), CompressError> {
        let Some(dir) = dir else { return Ok(()) };
        if !self.rounds.is_empty() {
            let hash = dir.save_weights(&weights_after(self.rounds.len()), graph)?;
            self.weights.truncate(self.rounds.len() - 1);
            self.weights.push(hash);
        }
        dir.save_state(self)
    }
}

fn weights_after(round: usize) -> String {
    format!("round-{round}")
}

/// A run of a method that re-trains.
struct Run<'a> {
    graph: Graph,
    data: &'a TrainingData,
    settings: &'a Quantize,
    training: &'a TrainingSettings,
    context: Context<'a>,
    layers: Vec<Layer>,
    dir: Option<StageDir>,
    state: State,
    executor: CpuExecutor,
    teacher: Option<CpuExecutor>,
    train: Split,
    held_out: Option<HeldOut>,
    guides: Guides,
}

impl<'a> Run<'a> {
    fn prepare(
        mut graph: Graph,
        data: &'a TrainingData,
        (settings, layers): (&'a Quantize, Vec<Layer>),
        context: Context<'a>,
        observer: &mut dyn Observer,
    ) -> Result<Self, CompressError> {
        let Context { seed, isa, .. } = context;
        let training = settings.method.training().ok_or(CompressError::NoData)?;
        let mut executor = executor(&graph, training, Some(data), (seed, isa))?;
        check_trainable(&mut executor, data, training.batch)?;
        let mut teacher = teacher(context.teacher, &graph, &mut executor, training, seed, isa)?;
        let (train, held_out) = if settings.measures() {
            let (train, images) = held_out(data, settings, seed)?;
            let mut held_out = HeldOut::new(&images, &data.transform, training.batch)?;
            if let (Some(teacher), Some(temperature)) = (&mut teacher, training.distill) {
                held_out.distil(teacher, temperature)?;
            }
            (train, Some(held_out))
        } else {
            (data.train.clone(), None)
        };
        let fingerprint = Fingerprint::new(&graph, &context, settings)?;
        let dir = context.dir.map(StageDir::create).transpose()?;
        let found = dir.as_ref().map_or(Ok(None), |d| d.state::<State>())?;
        if let (Some(found), Some(dir)) = (&found, &dir) {
            found.fingerprint.check(&fingerprint, dir.path())?;
        }
        // On the network as the stage begins with it, also where rounds are done.
        let mut guides = Guides::default();
        match (settings.cluster_weights, &held_out) {
            (Weighting::Fisher, Some(images)) => {
                check_fit(&mut executor, &data.train, &data.transform)?;
                guides.importance =
                    Some(importance(&mut executor, (images, context.reducer), &names(&layers))?);
            }
            (Weighting::Inputs, _) => {
                guides.weigh_by_inputs(&graph, &layers, &some_of(&graph, data, &train, seed)?, context)?;
            }
            _ => {}
        }
        // SLQ starts in its first round, MLQ in the one in which a layer's turn comes.
        let begun = found.as_ref().is_some_and(|f| !f.rounds.is_empty());
        if settings.method.init() == Some(Initialisation::Calibrate)
            && !(begun && matches!(settings.method, Method::Slq(_)))
        {
            let (inputs, kind) = (some_of(&graph, data, &train, seed)?, settings.method.codebook());
            guides.start_calibrated(&graph, (&layers, kind), &inputs, context, observer)?;
        }
        let state = match (found, &dir) {
            (Some(found), Some(dir)) => {
                for (done, hash) in found.weights.iter().enumerate() {
                    let last = done + 1 == found.rounds.len();
                    match last {
                        true => dir.load_weights(&weights_after(done + 1), hash, &mut graph)?,
                        false => dir.check_weights(&weights_after(done + 1), hash)?,
                    }
                }
                if found.weights.len() != found.rounds.len() {
                    return Err(dir.error("state.json", &"it does not name the weights of every round"));
                }
                executor.load_parameters(&graph)?;
                found
            }
            _ => State {
                fingerprint,
                baseline: None,
                rounds: Vec::new(),
                method_state: Vec::new(),
                iterations: 0,
                seconds: 0.0,
                weights: Vec::new(),
            },
        };
        Ok(Self {
            graph,
            data,
            settings,
            training,
            context,
            layers,
            dir,
            state,
            executor,
            teacher,
            train,
            held_out,
            guides,
        })
    }

    fn finish(
        mut self,
        method: &mut dyn Rounds,
        observer: &mut dyn Observer,
    ) -> Result<Quantized, CompressError> {
        let began = Instant::now();
        let before_this_sitting = self.state.seconds;
        if self.state.baseline.is_some() {
            observer.on(&Event::Resumed(&self.state.rounds));
        } else {
            let accuracy = self.test_accuracy()?;
            observer.on(&Event::Baseline(accuracy));
            self.state.baseline = Some(accuracy);
            self.state.save(self.dir.as_ref(), &self.graph)?;
        }
        if !self.state.rounds.is_empty() {
            method.load_state(&self.state.method_state)?;
        }
        let rounds = method.rounds();
        for round in self.state.rounds.len()..rounds {
            observer.on(&Event::RoundStarted { round, rounds });
            let report = self.round(method, round, observer)?;
            self.state.method_state = method.save_state();
            self.state.iterations += report.iterations;
            self.state.rounds.push(report);
            self.state.seconds = before_this_sitting + began.elapsed().as_secs_f64();
            self.state.save(self.dir.as_ref(), &self.graph)?;
            self.keeper(round).iter_mut().for_each(TrainingDir::clear);
            observer.on(&Event::RoundEnded(&self.state.rounds[round]));
        }
        let last = self.state.rounds.last().and_then(|r| r.after);
        if let Some(accuracy) = last {
            observer.on(&Event::Final(accuracy));
        }
        let Self { graph, settings, layers, state, guides, .. } = self;
        let accuracies = [state.baseline, last];
        let mut done = finished(graph, settings, &layers, accuracies, state.rounds, state.seconds);
        done.report.unguided = guides.warning();
        Ok(done)
    }

    fn round(
        &mut self,
        method: &mut dyn Rounds,
        round: usize,
        observer: &mut dyn Observer,
    ) -> Result<RoundReport, CompressError> {
        let began = Instant::now();
        let mut keeper = self.keeper(round);
        let kept = keeper.as_ref().map_or(Ok(None), TrainingDir::between::<Kept>)?;
        let shared = match (kept, &mut keeper) {
            (Some(Kept { shared, .. }), Some(keeper)) => {
                keeper.load(&mut self.graph)?;
                method.load_state(&shared.method_state)?;
                self.apply_palettes()?;
                shared
            }
            _ => self.shared(method, round, observer)?,
        };
        let keeper = keeper.as_mut().map(|k| k as &mut dyn Keep);
        let (iterations, retrain_seconds) = self.retrain(method.trains(round), &shared, keeper, observer)?;
        let after = self.test_accuracy()?;
        Ok(RoundReport {
            fixed_fraction: shared.fixed_fraction,
            layers: shared.layers,
            before: Some(shared.before),
            after: Some(after),
            iterations,
            share_seconds: shared.seconds,
            retrain_seconds,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    /// Keeps the training of a round on the way.
    fn keeper(&self, round: usize) -> Option<TrainingDir> {
        let part = format!("within-round-{}", round + 1);
        let (fingerprint, every) = (&self.state.fingerprint, self.context.every);
        self.dir.as_ref().map(|dir| TrainingDir::new(dir, fingerprint, part, every))
    }

    /// The first half of a round: shares weights and tells the executor.
    fn shared(
        &mut self,
        method: &mut dyn Rounds,
        round: usize,
        observer: &mut dyn Observer,
    ) -> Result<Shared, CompressError> {
        let began = Instant::now();
        let layers = self.share(method, round, observer)?;
        let fixed = self.apply_palettes()?;
        let seconds = began.elapsed().as_secs_f64();
        let total: usize = self.layers.iter().map(|l| l.count).sum();
        let fixed_fraction = fixed as f64 / total.max(1) as f64;
        let before = self.test_accuracy()?;
        observer.on(&Event::Shared { layers: &layers, fixed_fraction, before: Some(before) });
        Ok(Shared { layers, fixed_fraction, before, seconds, method_state: method.save_state() })
    }

    /// Lets the method fix weights; corrects frozen batch-norm statistics for the shift, since training does not update them.
    fn share(
        &mut self,
        method: &mut dyn Rounds,
        round: usize,
        observer: &mut dyn Observer,
    ) -> Result<Vec<String>, CompressError> {
        let before = self.settings.corrects().then(|| self.weights());
        let mut context = RoundContext {
            graph: &mut self.graph,
            executor: &mut self.executor,
            held_out: self.held_out.as_ref(),
            guides: &self.guides,
            observer,
            reducer: self.context.reducer,
        };
        let layers = method.share(round, &mut context)?;
        if let Some(before) = before {
            self.correct(&before)?;
        }
        Ok(layers)
    }

    /// Re-trains what the round trains. Returns the steps and the seconds they took.
    fn retrain(
        &mut self,
        trains: Trains,
        shared: &Shared,
        keeper: Option<&mut dyn Keep>,
        observer: &mut dyn Observer,
    ) -> Result<(u64, f64), CompressError> {
        let training = match (&self.settings.method, trains) {
            (Method::DeepCompression(s), Trains::Centroids) => s.tuning(),
            _ => self.training.clone(),
        };
        let iterations = training.steps(self.train.len());
        let span = Span { done: self.state.iterations, iterations, seed: self.context.seed };
        let teacher = self.teacher.as_mut().map(|t| t as &mut dyn Executor);
        let centroids = match trains {
            Trains::Weights => None,
            Trains::Centroids => {
                let weights = self.layers.iter().map(|l| l.weight.clone());
                Some(Centroids::begin(&self.graph, weights, &training, &mut self.executor)?)
            }
        };
        let mut between = RoundTraining { centroids, shared };
        let TrainingData { test, transform, .. } = self.data;
        let course = Course {
            train: &self.train,
            test,
            transform,
            settings: &training,
            span,
            reducer: self.context.reducer,
        };
        let mut home = Home { graph: &mut self.graph, keeper };
        let seconds = retrain(&mut self.executor, teacher, &course, &mut home, &mut between, observer)?;
        if let Some(centroids) = between.centroids {
            centroids.finish(&mut self.graph, &mut self.executor)?;
        }
        Ok((iterations, seconds))
    }

    /// The weights of all layers.
    fn weights(&self) -> Vec<Vec<f32>> {
        let values = |l: &Layer| self.graph.weights[&l.weight].tensor.as_f32().unwrap_or_default().to_vec();
        self.layers.iter().map(values).collect()
    }

    /// Corrects the statistics behind all layers for the change of their weights since `before`.
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
        let data = self.data;
        let images = (&data.test, &data.transform);
        evaluate_shared(&mut self.executor, images, self.training.batch, self.context.reducer)
    }
}
