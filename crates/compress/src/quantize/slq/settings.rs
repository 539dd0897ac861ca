//! Settings of SLQ.

use serde::{Deserialize, Serialize};

use crate::error::CompressError;
use crate::quantize::choices::{CodebookKind, Initialisation};
use crate::quantize::clustering::{Clustering, check_clustering, check_trained_centroids};
use crate::train::TrainingSettings;

/// In which order clusters are fixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum PartitionRule {
    /// Measured: clusters whose quantization raises the loss on held-out images most go first (paper, section 3.2).
    Loss,
    /// The same rise, estimated to second order from gradients.
    Taylor,
    /// The published program's order: zero first, then the ladder from the largest magnitude down.
    Magnitude,
    /// `Magnitude` backwards: a control that should do worse.
    Reversed,
}

/// Among which clusters a measured partition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionScope {
    /// Each layer fixes the scheduled number of its own clusters.
    Layer,
    /// The scheduled share of all clusters is fixed, wherever they are.
    Network,
}

/// Settings of SLQ (arXiv 1803.03289, section 3).
///
/// Defaults: free codebooks that start from the published ladder with 10 Lloyd iterations, the published order of
/// clusters and schedule, one epoch a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct SlqSettings {
    /// Which values a codebook may hold.
    pub codebook: CodebookKind,
    /// Order in which clusters are fixed.
    pub partition: PartitionRule,
    /// Among which clusters a measured partition compares.
    pub partition_scope: PartitionScope,
    /// Start of round one's centroids.
    pub init: Initialisation,
    /// Lloyd iterations at the start of a round.
    pub lloyd_iterations: usize,
    /// Whether a free weight whose nearest centroid is fixed joins that cluster and is fixed with it.
    pub join: bool,
    /// Cumulative counts of fixed clusters, one for each round; `None` takes the default for the codebook size.
    pub schedule: Option<Vec<usize>>,
    /// Whether the centroids of a layer go on training once all its weights are fixed; codes stay (Zhu et al., "Trained Ternary
    /// Quantization", ICLR 2017; published: they stay).
    pub train_centroids: bool,
    /// Re-training in each round.
    pub training: TrainingSettings,
}

impl Default for SlqSettings {
    fn default() -> Self {
        Self::published()
    }
}

impl SlqSettings {
    /// The settings of the authors' program.
    pub(crate) fn published() -> Self {
        Self {
            codebook: CodebookKind::Free,
            partition: PartitionRule::Magnitude,
            partition_scope: PartitionScope::Layer,
            init: Initialisation::Published,
            lloyd_iterations: 10,
            join: true,
            schedule: None,
            train_centroids: false,
            training: TrainingSettings::default(),
        }
    }

    /// Whether the partition is measured on held-out images.
    pub(crate) fn measures(&self) -> bool {
        matches!(self.partition, PartitionRule::Loss | PartitionRule::Taylor)
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
        self.training.check()
    }
}
