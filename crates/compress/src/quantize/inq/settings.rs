//! Settings of INQ.

use serde::{Deserialize, Serialize};

use super::portions::check_portions;
use crate::error::CompressError;
use crate::train::TrainingSettings;

/// Settings of INQ (arXiv 1702.03044).
///
/// Defaults: the published portions for the number of bits, one epoch a round.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct InqSettings {
    /// Cumulative portions of the weights that are fixed, one for each round; `None` takes the published ones.
    pub portions: Option<Vec<f64>>,
    /// Re-training in each round.
    pub training: TrainingSettings,
}

impl InqSettings {
    pub(crate) fn check(&self) -> Result<(), CompressError> {
        if let Some(portions) = &self.portions {
            check_portions(portions)?;
        }
        self.training.check()
    }
}
