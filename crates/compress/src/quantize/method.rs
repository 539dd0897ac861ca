//! The methods by name, each with its settings.

use serde::{Deserialize, Serialize};

use super::calibrate::CalibrateSettings;
use super::choices::{CodebookKind, Initialisation};
use super::deep_compression::DeepCompressionSettings;
use super::inq::InqSettings;
use super::kmeans::{KmeansSettings, Sharing};
use super::mlq::MlqSettings;
use super::slq::SlqSettings;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// A method with its settings.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// Single-level quantization (arXiv 1803.03289, section 3).
    Slq(SlqSettings),
    /// Multiple-level quantization (arXiv 1803.03289, section 3.3).
    Mlq(MlqSettings),
    /// Incremental network quantization (ICLR 2017): powers of two, portions of the largest weights.
    Inq(InqSettings),
    /// Pruning, k-means and centroid training (ICLR 2016).
    DeepCompression(DeepCompressionSettings),
    /// Optimal 1-D k-means, no re-training, no data.
    Kmeans(KmeansSettings),
    /// Calibration on inputs without labels, layer by layer (docs/calibration.md).
    Calibrate(CalibrateSettings),
}

/// The name of a [`Method`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum MethodName {
    /// See [`Method::Slq`].
    #[default]
    Slq,
    /// See [`Method::Mlq`].
    Mlq,
    /// See [`Method::Inq`].
    Inq,
    /// See [`Method::DeepCompression`].
    DeepCompression,
    /// See [`Method::Kmeans`].
    Kmeans,
    /// See [`Method::Calibrate`].
    Calibrate,
}

impl MethodName {
    /// All names.
    pub const ALL: [Self; 6] =
        [Self::Slq, Self::Mlq, Self::Inq, Self::DeepCompression, Self::Kmeans, Self::Calibrate];

    /// The name in flags, recipes and JSON.
    pub fn text(self) -> &'static str {
        match self {
            Self::Slq => "slq",
            Self::Mlq => "mlq",
            Self::Inq => "inq",
            Self::DeepCompression => "deep-compression",
            Self::Kmeans => "kmeans",
            Self::Calibrate => "calibrate",
        }
    }

    /// The method with its default settings.
    pub fn with_defaults(self) -> Method {
        match self {
            Self::Slq => Method::Slq(SlqSettings::default()),
            Self::Mlq => Method::Mlq(MlqSettings::default()),
            Self::Inq => Method::Inq(InqSettings::default()),
            Self::DeepCompression => Method::DeepCompression(DeepCompressionSettings::default()),
            Self::Kmeans => Method::Kmeans(KmeansSettings::default()),
            Self::Calibrate => Method::Calibrate(CalibrateSettings::default()),
        }
    }
}

impl Method {
    /// Its name.
    pub fn name(&self) -> MethodName {
        match self {
            Self::Slq(_) => MethodName::Slq,
            Self::Mlq(_) => MethodName::Mlq,
            Self::Inq(_) => MethodName::Inq,
            Self::DeepCompression(_) => MethodName::DeepCompression,
            Self::Kmeans(_) => MethodName::Kmeans,
            Self::Calibrate(_) => MethodName::Calibrate,
        }
    }

    /// Settings of the re-training in each round; `None` for a method that does not re-train.
    pub fn training(&self) -> Option<&TrainingSettings> {
        match self {
            Self::Slq(s) => Some(&s.training),
            Self::Mlq(s) => Some(&s.training),
            Self::Inq(s) => Some(&s.training),
            Self::DeepCompression(s) => Some(&s.training),
            Self::Kmeans(_) | Self::Calibrate(_) => None,
        }
    }

    /// The same, to change.
    pub fn training_mut(&mut self) -> Option<&mut TrainingSettings> {
        match self {
            Self::Slq(s) => Some(&mut s.training),
            Self::Mlq(s) => Some(&mut s.training),
            Self::Inq(s) => Some(&mut s.training),
            Self::DeepCompression(s) => Some(&mut s.training),
            Self::Kmeans(_) | Self::Calibrate(_) => None,
        }
    }

    /// Where its first centroids come from, if it may choose.
    pub(super) fn init(&self) -> Option<Initialisation> {
        match self {
            Self::Slq(s) => Some(s.init),
            Self::Mlq(s) => Some(s.init),
            _ => None,
        }
    }

    /// Which values its codebooks may hold; INQ's are powers of two.
    pub fn codebook(&self) -> CodebookKind {
        match self {
            Self::Slq(s) => s.codebook,
            Self::Mlq(s) => s.codebook,
            Self::Calibrate(s) => s.codebook,
            Self::Kmeans(s) => s.codebook,
            Self::Inq(_) => CodebookKind::Pow2,
            Self::DeepCompression(_) => CodebookKind::Free,
        }
    }

    /// Whether the centroids of fixed layers go on training.
    pub fn trains_centroids(&self) -> bool {
        match self {
            Self::Slq(s) => s.train_centroids,
            Self::Mlq(s) => s.train_centroids,
            _ => false,
        }
    }

    /// Whether several codebooks of a layer are rounded to 16-bit floats: those of methods that find them at once, but for evenly
    /// spaced ones, which rounding would move off their spacing.
    pub(crate) fn rounds_codebooks(&self) -> bool {
        matches!(self, Self::Kmeans(_) | Self::Calibrate(_)) && self.codebook() != CodebookKind::Uniform
    }

    /// The price of a bit, where the method takes one: free codebooks without re-training.
    pub fn rate(&self) -> Option<f64> {
        match self {
            Self::Calibrate(s) => Some(s.rate),
            Self::Kmeans(s) if s.codebook == CodebookKind::Free => Some(s.rate),
            _ => None,
        }
    }

    /// The same with another price, where it takes one.
    pub(crate) fn at_rate(mut self, rate: f64) -> Self {
        match &mut self {
            Self::Calibrate(s) => s.rate = rate,
            Self::Kmeans(s) => s.rate = rate,
            _ => {}
        }
        self
    }

    /// How weights are shared at once, to try a width: in the method's own way for k-means, on free codebooks for others.
    pub(crate) fn sharing(&self, correct: bool) -> Sharing {
        if let Self::Kmeans(s) = self {
            s.sharing(correct)
        } else {
            Sharing { correct, ..Sharing::default() }
        }
    }

    /// Whether a codebook has its full size however few weights take values from it.
    pub(crate) fn has_shaped_codebook(&self) -> bool {
        self.codebook() != CodebookKind::Free
    }

    /// Images in a batch of an evaluation.
    pub fn batch(&self) -> usize {
        match self {
            Self::Kmeans(s) => s.batch,
            _ => self.training().map_or(64, |t| t.batch),
        }
    }

    /// Whether the method itself measures losses on held-out images.
    pub(super) fn measures(&self) -> bool {
        match self {
            Self::Slq(s) => s.measures(),
            Self::Mlq(s) => s.measures(),
            Self::Inq(_) | Self::DeepCompression(_) | Self::Kmeans(_) | Self::Calibrate(_) => false,
        }
    }

    pub(super) fn check(&self) -> Result<(), CompressError> {
        match self {
            Self::Slq(s) => s.check(),
            Self::Mlq(s) => s.check(),
            Self::Inq(s) => s.check(),
            Self::DeepCompression(s) => s.check(),
            Self::Kmeans(s) => s.check(),
            Self::Calibrate(s) => s.check(),
        }
    }
}
