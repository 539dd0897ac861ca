//! How long a job will take: its steps, each timed on a few batches.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use slq_data::{Batch, Mode};
use slq_engine::{Executor, Isa, StepSettings, Target};
use slq_graph::Graph;

use super::recipe::{Recipe, Stage};
use crate::budget::Budget;
use crate::error::CompressError;
use crate::quantize::select_layers;
use crate::quantize::stage::round_count;
use crate::search::MOST_TRIALS;
use crate::train::{TrainingData, TrainingSettings, executor, sized};

/// Time spent on measuring each kind of step.
const MEASURED: Duration = Duration::from_millis(400);
/// Calls that are timed at least, unless they take longer than [`LONGEST`].
const CALLS: u32 = 3;
/// Time after which no further call is timed.
const LONGEST: Duration = Duration::from_secs(2);

/// How long a job will take.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct JobEstimate {
    /// Training steps in all, those of the reference included; under a budget of accuracy, at most.
    pub steps: u64,
    /// Seconds of training and evaluation on this machine.
    pub seconds: f64,
    /// Whether a search may end sooner.
    pub at_most: bool,
}

/// A training of a job: its settings, steps, and evaluations on the test images.
struct Course<'a> {
    training: &'a TrainingSettings,
    steps: u64,
    evaluations: u64,
    distils: bool,
}

/// Estimates how long `recipe` takes on `graph`; `None` where it trains nothing, or decomposes layers, whose new ones are
/// not known yet. Of several `processes`, each takes its share of every batch and of the evaluations, as fast as this one;
/// what they tell each other is left out.
///
/// # Errors
/// Those of settings, and of a network that cannot be trained.
pub fn estimate(
    graph: &Graph,
    data: &TrainingData,
    recipe: &Recipe,
    isa: Isa,
    processes: usize,
) -> Result<Option<JobEstimate>, CompressError> {
    if recipe.stages.iter().any(|s| matches!(s, Stage::Decompose(_))) {
        return Ok(None);
    }
    let graph = &sized(graph.clone(), &data.train);
    let courses = courses(graph, data, recipe)?;
    let mut found = JobEstimate { at_most: recipe.holds_out(), ..JobEstimate::default() };
    let mut timed: Vec<(usize, Times)> = Vec::new();
    for course in courses.iter().filter(|c| c.steps > 0) {
        let batch = course.training.batch;
        let times = match timed.iter().find(|(b, _)| *b == batch) {
            Some((_, times)) => *times,
            None => {
                let times = Times::measure(graph, data, (course.training, processes), isa)?;
                timed.push((batch, times));
                times
            }
        };
        let step = times.step + if course.distils { times.forward } else { 0.0 };
        let images = data.test.len() as f64 / processes.max(1) as f64;
        found.steps += course.steps;
        found.seconds += course.steps as f64 * step * course.training.iter_size as f64;
        found.seconds += course.evaluations as f64 * images / times.images as f64 * times.forward;
    }
    Ok((found.steps > 0).then_some(found))
}

fn courses<'a>(
    graph: &Graph,
    data: &TrainingData,
    recipe: &'a Recipe,
) -> Result<Vec<Course<'a>>, CompressError> {
    let mut courses = Vec::new();
    for stage in &recipe.stages {
        match stage {
            Stage::FineTune(s) => courses.push(Course::of(&s.training, 1, 2, data)),
            Stage::Tune(s) => courses.push(Course::of(&s.training, 1, 2, data)),
            Stage::Quantize(s) => {
                let Some(training) = s.method.training() else { continue };
                let rounds = round_count(s, &select_layers(graph, s)?)? as u64;
                let drop = matches!(s.budget, Some(Budget::Drop(_)));
                let trials = if drop { MOST_TRIALS } else { 1 };
                courses.push(Course::of(training, rounds * trials, 2 * rounds * trials + 1, data));
                if recipe.reference || drop {
                    courses.push(Course { distils: false, ..Course::of(training, rounds, 1, data) });
                }
            }
            Stage::Decompose(_) => {}
        }
    }
    Ok(courses)
}

impl<'a> Course<'a> {
    fn of(training: &'a TrainingSettings, times: u64, evaluations: u64, data: &TrainingData) -> Self {
        let steps = training.steps(data.train.len()).saturating_mul(times);
        Self { training, steps, evaluations, distils: training.distill.is_some() && data.following.is_none() }
    }
}

/// Steps that `recipe` trains in all, of a reference too, but for those of a decomposition.
///
/// # Errors
/// Those of settings.
pub(super) fn steps(graph: &Graph, data: &TrainingData, recipe: &Recipe) -> Result<u64, CompressError> {
    Ok(courses(graph, data, recipe)?.iter().fold(0, |sum, c| sum.saturating_add(c.steps)))
}

/// Seconds of a process's share of a batch.
#[derive(Debug, Clone, Copy)]
struct Times {
    images: usize,
    step: f64,
    forward: f64,
}

impl Times {
    fn measure(
        graph: &Graph,
        data: &TrainingData,
        (training, processes): (&TrainingSettings, usize),
        isa: Isa,
    ) -> Result<Self, CompressError> {
        let mut executor = executor(graph, training, Some(data), (0, isa))?;
        // The largest share: the others wait for it.
        let images = training.batch.div_ceil(processes.max(1)).max(1);
        let batch = first(data, images)?;
        // A step at rate 0: its time is that of any other.
        let step = StepSettings { learning_rate: 0.0, ..StepSettings::default() };
        let follows = executor.follows();
        let target = if follows { Target::Network } else { Target::Labels(&batch.labels) };
        let step = time(|| Ok(executor.train_step(&batch.images, target, &step).map(drop)?))?;
        let forward = time(|| Ok(executor.evaluate(&batch.images, Some(target)).map(drop)?))?;
        Ok(Self { images, step, forward })
    }
}

/// The first batch of the training images.
fn first(data: &TrainingData, batch: usize) -> Result<Batch, CompressError> {
    let mut batches = data.train.batches(batch, &data.transform, Mode::Eval, false)?;
    match batches.next() {
        Some(batch) => Ok(batch?),
        None => Err(CompressError::TooFewImages { images: 0, reason: format!("a batch takes {batch}") }),
    }
}

/// Seconds of one call: the shortest of several, since the first warms caches up and other programs can only slow one down.
fn time(mut call: impl FnMut() -> Result<(), CompressError>) -> Result<f64, CompressError> {
    let (began, mut calls, mut least) = (Instant::now(), 0, f64::INFINITY);
    while began.elapsed() < if calls < CALLS { LONGEST } else { MEASURED } {
        let at = Instant::now();
        call()?;
        calls += 1;
        least = least.min(at.elapsed().as_secs_f64());
    }
    Ok(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_calls_among_others_do_not_count() {
        let mut calls = 0;
        let slow = |ms| std::thread::sleep(Duration::from_millis(ms));
        let found = time(|| {
            calls += 1;
            slow(if calls < 3 { 300 } else { 5 });
            Ok(())
        });
        assert!((0.005..0.1).contains(&found.unwrap()));
        let mut calls = 0;
        time(|| {
            calls += 1;
            slow(1100);
            Ok(())
        })
        .unwrap();
        assert!(calls < 4, "{calls}");
    }
}
