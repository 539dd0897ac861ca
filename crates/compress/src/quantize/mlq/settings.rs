//! Settings of MLQ.

use serde::{Deserialize, Serialize};

use crate::error::CompressError;
use crate::quantize::choices::{CodebookKind, Initialisation};
use crate::quantize::clustering::{Clustering, check_clustering, check_trained_centroids};
use crate::train::TrainingSettings;

/// By what MLQ ranks layers; the first in rank is advanced first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LayerOrder {
    /// Measured: the rise of the loss on held-out images when the layer alone is quantized, largest first (paper, section 3.3).
    Loss,
    /// A bound on the change of the outputs: the spectral norm of the layer's change times the norms downstream,
    /// largest first.
    Lipschitz,
    /// The number of weights, smallest first: large layers stay free longest and can compensate for the others.
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

/// Settings of MLQ (arXiv 1803.03289, section 3.3).
///
/// Defaults: free codebooks with zero pinned that start from the published ladder with 10 Lloyd iterations; one layer
/// at a time, ranked by measured loss, each brought to its last level before the next begins; one epoch a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct MlqSettings {
    /// Which values a codebook may hold.
    pub codebook: CodebookKind,
    /// Start of a layer's centroids.
    pub init: Initialisation,
    /// Lloyd iterations at the start of a level.
    pub lloyd_iterations: usize,
    /// Whether a free weight whose nearest centroid is fixed joins that cluster and is fixed with it.
    pub join: bool,
    /// Cumulative counts of fixed clusters, one for each level, outer clusters first; `None` takes the default for the
    /// codebook size.
    pub schedule: Option<Vec<usize>>,
    /// Layers that advance together.
    pub layers_per_step: usize,
    /// What ranks the layers.
    pub rank_by: LayerOrder,
    /// The last in rank goes first.
    pub rank_reversed: bool,
    /// All levels of a layer first, or one level of all layers.
    pub advance: Advance,
    /// Whether the centroids of a layer go on training once all its weights are fixed; codes stay (Zhu et al., "Trained Ternary
    /// Quantization", ICLR 2017; published: they stay).
    pub train_centroids: bool,
    /// Re-training in each step.
    pub training: TrainingSettings,
}

impl Default for MlqSettings {
    fn default() -> Self {
        Self::published()
    }
}

impl MlqSettings {
    /// The settings of the publication.
    pub(crate) fn published() -> Self {
        Self {
            codebook: CodebookKind::Free,
            init: Initialisation::Published,
            lloyd_iterations: 10,
            join: true,
            schedule: None,
            layers_per_step: 1,
            rank_by: LayerOrder::Loss,
            rank_reversed: false,
            advance: Advance::Layer,
            train_centroids: false,
            training: TrainingSettings::default(),
        }
    }

    /// Whether layers are ranked by a loss measured on held-out images.
    pub(crate) fn measures(&self) -> bool {
        self.rank_by == LayerOrder::Loss
    }

    pub(crate) fn clustering(&self, seed: u64) -> Clustering {
        let (codebook, init, join) = (self.codebook, self.init, self.join);
        Clustering { codebook, init, lloyd_iterations: self.lloyd_iterations, join, seed }
    }

    pub(crate) fn check(&self) -> Result<(), CompressError> {
        check_clustering(&self.clustering(0))?;
        if self.train_centroids {
            check_trained_centroids(self.codebook, &self.training)?;
        }
        if self.layers_per_step == 0 {
            let reason = "give at least 1 layer".into();
            return Err(CompressError::Setting { name: "layers-per-step", reason });
        }
        self.training.check()
    }
}
