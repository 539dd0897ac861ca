//! The figures of a decomposition.

use serde::{Deserialize, Serialize};

use super::layer::{Cost, LeftWhole};
use super::plan::{Plan, relative_error};
use super::scheme::Scheme;
use super::split::Split;
use crate::progress::Accuracy;

/// A count before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Of the network or layer before the decomposition.
    pub before: u64,
    /// Of the result.
    pub after: u64,
}

/// Multiply-accumulates (MACs) before and after.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Flops {
    /// Multiply-accumulates (MACs) for one image (or the declared batch), before.
    pub before: u64,
    /// Multiply-accumulates (MACs) for one image (or the declared batch), after.
    pub after: u64,
    /// `before / after`.
    pub ratio: f64,
}

/// One layer that was split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerRank {
    /// Name of the node.
    pub name: String,
    /// Name of the weight it had.
    pub weight: String,
    /// Scheme.
    pub scheme: Scheme,
    /// Rank.
    pub rank: usize,
    /// Largest rank.
    pub of: usize,
    /// Squared error over the sum of squared weights.
    pub error: f64,
    /// Multiply-accumulates (MACs) for one image (or the batch that the graph declares).
    pub flops: Change,
    /// Parameters, bias excluded.
    pub parameters: Change,
}

/// One layer that was left whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WholeLayer {
    /// Name of the node.
    pub name: String,
    /// Name of the weight.
    pub weight: String,
    /// Why it was left whole.
    pub reason: String,
    /// Whether that is a failure rather than a choice.
    pub warning: bool,
}

/// What trained rank pruning did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrpReport {
    /// Training steps.
    pub iterations: u64,
    /// Truncations, each of all layers.
    pub truncations: u64,
    /// Seconds of training, truncations included.
    pub seconds: f64,
    /// Seconds of truncations.
    pub svd_seconds: f64,
    /// `svd_seconds / seconds`.
    pub svd_share: f64,
    /// Single decompositions that did not converge and were left out.
    pub failures: u64,
    /// Accuracy of the trained network, before the split.
    pub trained: Accuracy,
}

/// What training the factors did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct FactorReport {
    /// Training steps.
    pub iterations: u64,
    /// Seconds.
    pub seconds: f64,
    /// Accuracy of the split network before.
    pub before: Accuracy,
}

/// A whole decomposition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecomposeReport {
    /// Names of the schemes.
    pub scheme: String,
    /// Test accuracy of the network before the decomposition.
    pub baseline: Option<Accuracy>,
    /// Test accuracy of the resulting network.
    #[serde(rename = "final")]
    pub final_accuracy: Option<Accuracy>,
    /// Multiply-accumulates (MACs) of the network.
    pub flops: Flops,
    /// Parameters of the network.
    pub parameters: Change,
    /// The layers that were split.
    pub layers: Vec<LayerRank>,
    /// The layers of the same kinds that were left whole.
    pub left_whole: Vec<WholeLayer>,
    /// Training at low rank.
    pub trp: Option<TrpReport>,
    /// Training of the factors.
    pub fine_tune: Option<FactorReport>,
    /// Seconds of the final decomposition and split.
    pub split_seconds: f64,
    /// Seconds in all.
    pub seconds: f64,
}

impl Flops {
    pub(crate) fn new(before: u64, after: u64) -> Self {
        Self { before, after, ratio: before as f64 / after.max(1) as f64 }
    }
}

/// The layers of a plan as reports.
pub(crate) fn layers(plan: &Plan) -> (Vec<LayerRank>, Vec<WholeLayer>) {
    let split = |s: &Split| {
        let after = s.layer.per_rank.times(s.rank);
        let change = |pick: fn(Cost) -> u64| Change { before: pick(s.layer.whole), after: pick(after) };
        LayerRank {
            name: s.layer.name.clone(),
            weight: s.layer.weight.clone(),
            scheme: s.layer.view.scheme,
            rank: s.rank,
            of: s.layer.view.full_rank(),
            error: relative_error(&s.decompositions, s.rank),
            flops: change(|c| c.macs),
            parameters: change(|c| c.parameters),
        }
    };
    let whole = |l: &LeftWhole| WholeLayer {
        name: l.name.clone(),
        weight: l.weight.clone(),
        reason: l.reason.to_string(),
        warning: l.reason.is_failure(),
    };
    (plan.splits.iter().map(split).collect(), plan.left.iter().map(whole).collect())
}
