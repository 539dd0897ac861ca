//! Progress of a job: events for a callback, and the figures they carry.

use serde::{Deserialize, Serialize};
use slq_engine::Statistics;

/// Accuracy and loss on a whole split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Share of images whose largest output is their label.
    pub top1: f64,
    /// Share of images whose label is among the five largest outputs; `None` below six classes.
    pub top5: Option<f64>,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Images.
    pub images: usize,
    /// Whether there were no labels: then `top1` is the mean agreement with the float network's outputs (the share of the same
    /// class or, for other outputs, the mean cosine), and `loss` the weighted distance from them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unlabelled: bool,
}

impl Accuracy {
    /// From statistics summed over a split, for a network of `classes` outputs.
    pub fn new(sum: &Statistics, classes: usize) -> Self {
        let share = |n: usize| n as f64 / sum.images.max(1) as f64;
        Self {
            top1: share(sum.top1),
            top5: (classes >= 6).then_some(share(sum.top5)),
            loss: sum.loss,
            images: sum.images,
            unlabelled: false,
        }
    }

    /// Of a comparison with another network's outputs.
    pub(crate) fn of_agreement(sum: &Statistics) -> Self {
        let top1 = sum.agreement / sum.images.max(1) as f64;
        Self { top1, top5: None, loss: sum.loss, images: sum.images, unlabelled: true }
    }
}

/// The accuracy of the float network treated equally.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Share of the images whose largest output is their label.
    pub top1: f64,
    /// Standard error of that share.
    pub standard_error: f64,
    /// Mean cross-entropy.
    pub loss: f64,
    /// Training steps.
    pub iterations: u64,
    /// Seconds they took.
    pub seconds: f64,
}

impl Reference {
    /// From the accuracy of a training of `iterations` steps.
    pub(crate) fn new(accuracy: &Accuracy, iterations: u64, seconds: f64) -> Self {
        let Accuracy { top1, loss, images, .. } = *accuracy;
        let standard_error = (top1 * (1.0 - top1) / images.max(1) as f64).sqrt();
        Self { top1, standard_error, loss, iterations, seconds }
    }
}

/// One round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundReport {
    /// Share of the selected weights that is fixed after the round.
    pub fixed_fraction: f64,
    /// Weights whose clusters the round fixed.
    #[serde(default)]
    pub layers: Vec<String>,
    /// After weight sharing, not yet re-trained.
    pub before: Option<Accuracy>,
    /// After re-training.
    pub after: Option<Accuracy>,
    /// Re-training steps.
    pub iterations: u64,
    /// Time of clustering, partition and sharing.
    pub share_seconds: f64,
    /// Time of re-training.
    pub retrain_seconds: f64,
    /// Time of the whole round, evaluation included.
    pub seconds: f64,
}

/// One network that a search under a budget tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// How its widths were chosen.
    pub label: String,
    /// Bits of each layer that had a choice, by the weight's name.
    pub widths: Vec<(String, u8)>,
    /// Price of a bit, where that was chosen in place of widths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Its stored size in bytes; where a price was chosen, that of its file.
    pub stored_bytes: u64,
    /// Its accuracy on the validation images; `None` without data. Not re-trained where a size was asked for.
    pub validation: Option<Accuracy>,
    /// Whether it keeps the budget.
    pub fits: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// An event of a job.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The float network's accuracy.
    Baseline(Accuracy),
    /// A stage begins.
    StageStarted(&'a str),
    /// The float network treated equally has been measured.
    Reference(&'a Reference),
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
    /// Weights have taken their shared values; re-training comes next.
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
    /// The test accuracy during a training ([`TrainingSettings::test_interval`](crate::TrainingSettings::test_interval)).
    Tested {
        /// Steps done in this re-training.
        iteration: u64,
        /// The accuracy.
        accuracy: Accuracy,
    },
    /// A round has ended.
    RoundEnded(&'a RoundReport),
    /// The job goes on from its checkpoint; these rounds were done before.
    Resumed(&'a [RoundReport]),
    /// A layer has taken its shared values without training.
    LayerShared {
        /// Whether by calibration; else by clustering its weights.
        calibrated: bool,
        /// Its weight.
        weight: &'a str,
        /// Layers done.
        done: usize,
        /// Layers in all.
        layers: usize,
        /// Seconds since this sitting began.
        seconds: f64,
    },
    /// A calibration goes on from its checkpoint; so many layers were done before.
    LayersResumed(usize),
    /// A training goes on from its checkpoint.
    Continued {
        /// Steps done before.
        iteration: u64,
        /// Steps of the training.
        iterations: u64,
    },
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

/// Progress callback: receives the events of a job, in order, on the thread that runs it.
pub trait Observer {
    /// Called for each event.
    fn on(&mut self, event: &Event<'_>);

    /// Asked after every training step and every layer that is calibrated or clustered: whether the job should stop. It then keeps
    /// a checkpoint and ends with [`CompressError::Interrupted`](crate::CompressError::Interrupted).
    fn stop(&mut self) -> bool {
        false
    }
}

/// Ignores all events.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_images_and_no_top5_for_few_classes() {
        let sum = Statistics { loss: 2.0, top1: 3, top5: 6, images: 6, ..Statistics::default() };
        let accuracy = Accuracy::new(&sum, 10);
        assert_eq!((accuracy.top1, accuracy.top5, accuracy.images), (0.5, Some(1.0), 6));
        assert_eq!(Accuracy::new(&sum, 5).top5, None);
    }
}
