//! What a run tells while it works.

use crate::budget::Trial;
use crate::report::{Accuracy, RoundReport};

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The float network's accuracy.
    Baseline(Accuracy),
    /// A round begins (rounds count from 0).
    RoundStarted {
        /// This round.
        round: usize,
        /// Rounds in all.
        rounds: usize,
    },
    /// A measured partition has tested `done` of `of` clusters.
    Measuring {
        /// Clusters tested.
        done: usize,
        /// Clusters to test.
        of: usize,
    },
    /// Weights have been shared; re-training comes next.
    Shared {
        /// Weights whose clusters have been fixed now; none in a round that trains centroids alone.
        layers: &'a [String],
        /// Share of the selected weights that is fixed.
        fixed_fraction: f64,
        /// Accuracy before re-training.
        before: Option<Accuracy>,
    },
    /// A training step is done.
    Step {
        /// Steps done in this re-training.
        iteration: u64,
        /// Steps in this re-training.
        iterations: u64,
        /// Mean loss of the batch.
        loss: f64,
        /// Learning rate of the step.
        learning_rate: f32,
        /// Images in the batch.
        images: usize,
        /// Images of the batch classified correctly.
        correct: usize,
    },
    /// A search has tried a network.
    Tried(&'a Trial),
    /// The test accuracy on the way ([`TrainingSettings::test_interval`](crate::TrainingSettings::test_interval)).
    Tested {
        /// Steps done in this re-training.
        iteration: u64,
        /// The accuracy.
        accuracy: Accuracy,
    },
    /// A round has ended.
    RoundEnded(&'a RoundReport),
    /// A run goes on from its checkpoint; these rounds were done before.
    Resumed(&'a [RoundReport]),
    /// Layers have been split.
    Decomposed {
        /// Layers split.
        split: usize,
        /// Layers of the same kinds left whole.
        whole: usize,
        /// Accuracy after the split.
        accuracy: Option<Accuracy>,
    },
    /// The compressed network's accuracy.
    Final(Accuracy),
}

/// Receives a run's events, in order, on the thread that runs it.
pub trait Observer {
    /// Called for each event.
    fn on(&mut self, event: &Event<'_>);
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn on(&mut self, _: &Event<'_>) {}
}

impl<F: FnMut(&Event<'_>)> Observer for F {
    fn on(&mut self, event: &Event<'_>) {
        self(event);
    }
}
