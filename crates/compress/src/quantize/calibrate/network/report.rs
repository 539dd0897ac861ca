//! What a calibration says of each layer.

use super::super::matrix::{Books, Progress};

/// One layer's result.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LayerReport {
    /// Name of the weight.
    pub weight: String,
    /// Name of the node that reads it.
    pub node: String,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done to a layer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// Fitted to samples of its inputs.
    Calibrated(Calibrated),
    /// Clustered without data, because its inputs could not be computed.
    Clustered {
        /// Why.
        reason: String,
    },
}

/// Figures of a calibrated layer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Calibrated {
    /// Samples of its inputs. Fewer than its columns leave the fit to the damping.
    pub samples: usize,
    /// Its inputs: columns of its matrix.
    pub columns: usize,
    /// How its codebooks lie; one for all weights where the tensor allows no other.
    pub books: Books,
    /// Mean square of the float outputs (about their mean where a constant error costs nothing), weighted as errors are and
    /// summed over rows. Set beside the objective it is the
    /// layer's ratio of noise to signal.
    pub energy: f64,
    /// How the objective fell.
    pub progress: Progress,
    /// Share by which second moments were drawn to their diagonal.
    pub shrinkage: f64,
    /// How far targets went from the float weights to the regression.
    pub strength: f64,
    /// Groups whose targets are the float weights because their second moments were not positive definite.
    pub unsolved_groups: usize,
    /// Why means and deviations were not put right; `None` where they were.
    pub uncorrected: Option<String>,
    /// Constants (batch-norm statistics, biases) that changed.
    pub corrected: usize,
}
