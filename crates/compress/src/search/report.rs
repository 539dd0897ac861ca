//! The figures of a search.

use serde::{Deserialize, Serialize};

use crate::budget::Budget;
use crate::progress::{Accuracy, Trial};

/// The result of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// What was asked for.
    pub budget: Budget,
    /// The float network treated equally, on the validation images: what the drop of a trial is measured from.
    pub validation_baseline: Option<Accuracy>,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
    /// Position of the trial that was taken.
    pub chosen: usize,
}
