//! A learning rate that the network bears: the usual one, or the largest of its thirds with which a short trial does not ruin
//! the network. A network that was trained on pixels from 0 to 255, say, bears a thousandth of the usual rate.

use serde::{Deserialize, Serialize};
use slq_engine::{EngineError, Executor, Isa};
use slq_graph::Graph;
use slq_reduce::Alone;

use super::estimate;
use super::recipe::{Recipe, Stage};
use super::report::Warning;
use crate::error::CompressError;
use crate::progress::{Event, Observer};
use crate::train::{
    Course, Nothing, Part, Span, TrainingData, TrainingSettings, advance, check_trainable, executor, sized,
};

/// Steps of a trial: networks that diverge do so within the first few.
const STEPS: u64 = 60;
/// Steps whose mean loss is taken for the loss before and after a trial.
const MEAN: [usize; 2] = [3, 15];
/// Rates that are tried; each is a third of the one before.
const TRIES: u32 = 9;

/// A learning rate that was lowered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct LoweredRate {
    /// The usual rate, which ruins the network.
    pub usual: f64,
    /// The rate that is taken.
    pub rate: f64,
    /// Training steps of a trial.
    pub steps: u64,
}

impl LoweredRate {
    /// What is said of it.
    pub fn warning(&self) -> Warning {
        let Self { usual, rate, steps } = self;
        let message = format!(
            "the usual learning rate {usual} ruins the network within {steps} steps; the job takes {rate:.2e} (--lr sets \
             it). Often preprocessing is the cause: check --scale, --mean and --std"
        );
        Warning { kind: "learning-rate".into(), message }
    }
}

/// Lowers the learning rates of `stages`, which train `graph` on labelled images of `data`, to what the network bears: the first
/// of their trainings is tried for some steps, at its rate and at thirds of it. `None` where the usual rate will do, where no rate
/// does, where nothing is trained, and for data without labels. Nothing is read from the test images.
///
/// # Errors
/// Those of a network that cannot be trained, and of images.
pub fn suit_rate(
    graph: &Graph,
    data: &TrainingData,
    stages: &mut [Stage],
    (seed, isa): (u64, Isa),
) -> Result<Option<LoweredRate>, CompressError> {
    let first = stages.iter().find_map(|s| s.trainings().first().map(|t| (*t).clone()));
    let (Some(training), None) = (first, &data.following) else { return Ok(None) };
    let graph = &sized(graph.clone(), &data.train);
    let usual = training.learning_rate;
    let recipe = Recipe { seed, reference: false, stages: stages.to_vec() };
    // Zero for layers that are not made yet: then the steps of the training that is tried count.
    let most = estimate::steps(graph, data, &recipe).unwrap_or(0);
    let mut trial = Trial::new(graph, data, &training, (seed, isa), most)?;
    for power in 0..TRIES {
        let factor = 3f64.powi(-i32::try_from(power).unwrap_or(0));
        if !trial.bears(usual * factor)? {
            continue;
        }
        if power == 0 {
            return Ok(None);
        }
        for training in stages.iter_mut().flat_map(Stage::trainings_mut) {
            training.learning_rate *= factor;
        }
        return Ok(Some(LoweredRate { usual, rate: usual * factor, steps: trial.steps }));
    }
    Ok(None)
}

/// A training that is begun with several rates.
struct Trial<'a> {
    graph: &'a Graph,
    data: &'a TrainingData,
    settings: TrainingSettings,
    executor: Box<dyn Executor>,
    seed: u64,
    /// Steps of the whole training, over which the rate falls.
    iterations: u64,
    steps: u64,
    /// Loss of guessing.
    chance: f64,
}

impl<'a> Trial<'a> {
    fn new(
        graph: &'a Graph,
        data: &'a TrainingData,
        training: &TrainingSettings,
        (seed, isa): (u64, Isa),
        most: u64,
    ) -> Result<Self, CompressError> {
        let settings = TrainingSettings { distill: None, ..training.clone() };
        let mut executor = executor(graph, &settings, Some(data), (seed, isa))?;
        check_trainable(&mut executor, data, settings.batch)?;
        let iterations = settings.steps(data.train.len());
        let chance = (executor.classes()?.max(2) as f64).ln();
        // Rounds may be shorter than a trial: what one does not ruin, several may.
        let (executor, steps) = (Box::new(executor), STEPS.min(iterations.max(most)));
        Ok(Self { graph, data, settings, executor, seed, iterations: iterations.max(steps), steps, chance })
    }

    /// Whether the loss, after the steps of the trial, is still nearer to that before than to that of guessing.
    fn bears(&mut self, rate: f64) -> Result<bool, CompressError> {
        self.executor.load_parameters(self.graph)?;
        self.settings.learning_rate = rate;
        let TrainingData { train, test, transform, .. } = self.data;
        let span = Span { done: 0, iterations: self.iterations, seed: self.seed };
        let settings = &self.settings;
        let course = Course { train, test, transform, settings, span, reducer: Alone::shared() };
        let part = Part { first: 0, steps: self.steps, pause: None };
        let mut losses = Losses(Vec::new());
        match advance(&mut *self.executor, None, &course, part, &mut losses, &mut Nothing) {
            Ok(_) => Ok(bearable(&losses.0, self.chance)),
            Err(CompressError::Engine(EngineError::Diverged { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether a course of losses ends nearer to where it began than to the loss of guessing; a network that begins no better than
/// that must not end at twice its loss.
fn bearable(losses: &[f64], chance: f64) -> bool {
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len().max(1) as f64;
    let before = mean(&losses[..MEAN[0].min(losses.len())]);
    let after = mean(&losses[losses.len().saturating_sub(MEAN[1])..]);
    after <= ((before + chance) / 2.0).max(before * if before < chance { 1.0 } else { 2.0 })
}

/// The losses of the steps.
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn on(&mut self, event: &Event<'_>) {
        if let Event::Step { loss, .. } = event {
            self.0.push(*loss);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_may_rise_but_not_to_that_of_guessing() {
        let chance = 10f64.ln();
        let course = |before: f64, after: f64| [vec![before; 3], vec![after; 57]].concat();
        assert!(bearable(&course(0.1, 0.1), chance) && bearable(&course(0.1, 1.0), chance));
        assert!(!bearable(&course(0.1, 2.3), chance) && !bearable(&course(0.1, f64::NAN), chance));
        assert!(bearable(&course(2.3, 2.0), chance) && bearable(&course(3.0, 4.0), chance));
        assert!(!bearable(&course(3.0, 7.0), chance));
        assert!(bearable(&[], chance) && bearable(&[0.5], chance));
    }
}
