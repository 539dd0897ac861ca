//! Settings that belong to single methods.

use serde::{Deserialize, Serialize};

use crate::error::CompressError;
use crate::settings::Duration;

/// By what MLQ ranks layers; the first in rank is advanced first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LayerOrder {
    /// Measured: the rise of the calibration loss when the layer alone is quantized, largest first (paper, section 3.3).
    Loss,
    /// A bound on the change of the outputs: the spectral norm of the layer's change times the norms downstream,
    /// largest first.
    Lipschitz,
    /// The number of weights, smallest first: what is left free for longest is the layer with the most room.
    Size,
}

/// Which layers MLQ advances next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Advance {
    /// Layers that have begun are brought to their last level before others begin.
    Layer,
    /// All layers reach a level before any goes on to the next.
    Level,
}

/// How MLQ walks through layers and levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct MlqSettings {
    /// Layers that advance together.
    pub layers_per_step: usize,
    /// What puts them in order.
    pub rank_by: LayerOrder,
    /// Runs the order backwards.
    pub rank_reversed: bool,
    /// Levels of one layer first, or one level of all layers.
    pub advance: Advance,
}

impl Default for MlqSettings {
    /// One layer at a time, ranked by measured loss, each brought to its last level before the next begins.
    fn default() -> Self {
        Self { layers_per_step: 1, rank_by: LayerOrder::Loss, rank_reversed: false, advance: Advance::Layer }
    }
}

/// Which values a codebook may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CodebookKind {
    /// Any.
    #[default]
    Free,
    /// Zero and powers of two with their negatives, the best exponents.
    Pow2,
    /// Evenly spaced about zero, the best scale.
    Uniform,
}

/// What weighs the values when they are clustered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Weighting {
    /// All count the same.
    #[default]
    None,
    /// The Fisher diagonal on the calibration images: what the loss feels counts.
    Fisher,
}

/// Which weights are pruned first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PruneRule {
    /// The smallest share in what is left of their layer's energy, over all layers (Lee et al., ICLR 2021).
    Lamp,
    /// The smallest magnitude over all layers.
    Magnitude,
    /// The smallest magnitude, the same share of every layer.
    Layer,
}

/// How Deep Compression prunes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct PruningSettings {
    /// Share of the selected weights that is zero in the end.
    pub sparsity: f64,
    /// Rounds that lead there.
    pub steps: usize,
    /// What is pruned first.
    pub by: PruneRule,
}

impl Default for PruningSettings {
    /// Nine weights in ten, in eight rounds, by layer-adaptive magnitude.
    fn default() -> Self {
        Self { sparsity: 0.9, steps: 8, by: PruneRule::Lamp }
    }
}

impl PruningSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if !(0.0..1.0).contains(&self.sparsity) {
            let reason =
                format!("{} is not a share of the weights: give 0 or more and less than 1", self.sparsity);
            return Err(CompressError::Setting { name: "sparsity", reason });
        }
        if !(1..=1000).contains(&self.steps) {
            let reason = format!("{} is not between 1 and 1000", self.steps);
            return Err(CompressError::Setting { name: "prune-steps", reason });
        }
        Ok(())
    }
}

/// A last round in which codes stay and centroids are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TuningSettings {
    /// How long.
    pub duration: Duration,
    /// Base learning rate; `None` for that of re-training.
    pub learning_rate: Option<f64>,
}

impl MlqSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if self.layers_per_step == 0 {
            let reason = "0 layers a step would never end".into();
            return Err(CompressError::Setting { name: "layers-per-step", reason });
        }
        Ok(())
    }
}
