//! Settings of plain k-means.

use serde::{Deserialize, Serialize};

use crate::error::CompressError;
use crate::quantize::choices::CodebookKind;

/// Settings of k-means without re-training.
///
/// Defaults: batches of 64 images, where data is given to evaluate on; free codebooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct KmeansSettings {
    /// Images in a batch of the evaluation.
    pub batch: usize,
    /// Which values a codebook may hold.
    pub codebook: CodebookKind,
}

impl Default for KmeansSettings {
    fn default() -> Self {
        Self { batch: 64, codebook: CodebookKind::Free }
    }
}

impl KmeansSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if self.batch == 0 || self.batch > 1 << 16 {
            let reason = format!("{} is not between 1 and 65536", self.batch);
            return Err(CompressError::Setting { name: "batch", reason });
        }
        Ok(())
    }
}
