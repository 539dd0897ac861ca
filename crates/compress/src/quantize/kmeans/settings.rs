//! Settings of plain k-means.

use serde::{Deserialize, Serialize};

use super::Sharing;
use crate::error::CompressError;
use crate::quantize::choices::CodebookKind;

/// Settings of k-means without re-training.
///
/// Defaults: batches of 64 images, where data is given to evaluate on; free codebooks; no price on bits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct KmeansSettings {
    /// Images in a batch of the evaluation.
    pub batch: usize,
    /// Which values a codebook may hold.
    pub codebook: CodebookKind,
    /// Price of a bit, for files whose codes are entropy-coded: by how much the squared error of a layer, beside its sum of
    /// squares, may rise (mean over layers) to save one bit of every weight; 0 for codes of fixed width.
    pub rate: f64,
}

impl Default for KmeansSettings {
    fn default() -> Self {
        Self { batch: 64, codebook: CodebookKind::Free, rate: 0.0 }
    }
}

impl KmeansSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if self.batch == 0 || self.batch > 1 << 16 {
            let reason = format!("{} is not between 1 and 65536", self.batch);
            return Err(CompressError::Setting { name: "batch", reason });
        }
        if !(self.rate >= 0.0 && self.rate.is_finite()) {
            let reason = format!("{} is not a number of 0 or more", self.rate);
            return Err(CompressError::Setting { name: "rate", reason });
        }
        if self.rate > 0.0 && self.codebook != CodebookKind::Free {
            let reason = "a price on bits moves the values of a codebook: it serves free codebooks".into();
            return Err(CompressError::Setting { name: "rate", reason });
        }
        Ok(())
    }

    /// How the method shares weights.
    pub(crate) fn sharing(&self, correct: bool) -> Sharing {
        Sharing { correct, codebook: self.codebook, rate: self.rate }
    }
}
