//! The figures of a run.

use serde::{Deserialize, Serialize};
use slq_engine::Statistics;
use slq_graph::Graph;

use crate::settings::MethodName;

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
        }
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
    /// Shared, not yet re-trained.
    pub before: Option<Accuracy>,
    /// Re-trained.
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

/// Sizes as method.md, section 8 defines them, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// Four bytes for every parameter.
    pub dense_bytes: u64,
    /// Codes, codebooks and float parameters.
    pub stored_bytes: u64,
    /// The same with the codes at their entropy.
    pub entropy_bytes: u64,
    /// `dense_bytes / stored_bytes`.
    pub ratio: f64,
}

impl Size {
    /// The sizes of a network.
    pub fn of(graph: &Graph) -> Self {
        let total = slq_graph::stats::summary(graph).total;
        Self {
            dense_bytes: total.dense_bytes,
            stored_bytes: total.stored_bytes,
            entropy_bytes: total.entropy_bytes,
            ratio: total.ratio(),
        }
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The method.
    pub method: MethodName,
    /// Bits asked for.
    pub bits: u8,
    /// K of a layer without a rule of its own.
    pub codebook_size: usize,
    /// The network as it came.
    pub baseline: Option<Accuracy>,
    /// The compressed network.
    #[serde(rename = "final")]
    pub final_accuracy: Option<Accuracy>,
    /// Round by round.
    pub rounds: Vec<RoundReport>,
    /// Sizes.
    pub size: Size,
    /// Time of the whole run, earlier sittings of a resumed run included.
    pub seconds: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_images_and_no_top5_for_few_classes() {
        let sum = Statistics { loss: 2.0, top1: 3, top5: 6, images: 6 };
        let accuracy = Accuracy::new(&sum, 10);
        assert_eq!((accuracy.top1, accuracy.top5, accuracy.images), (0.5, Some(1.0), 6));
        assert_eq!(Accuracy::new(&sum, 5).top5, None);
    }
}
