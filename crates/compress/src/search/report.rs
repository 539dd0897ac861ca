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

impl SearchReport {
    /// A sentence where a drop was measured on so few inputs that one of them is more than the drop.
    pub(crate) fn warning(&self) -> Option<String> {
        let Budget::Drop(most) = self.budget else { return None };
        let images = self.trials.get(self.chosen)?.validation?.images;
        let one = 100.0 / images.max(1) as f64;
        (one > most && most > 0.0).then(|| {
            format!(
                "the drop of at most {most} points was measured on {images} inputs, where a single one is {one:.1} points: none of them \
                 may change; more inputs allow a smaller network"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_smaller_than_one_input_is_said() {
        let report = |images, budget| {
            let validation = Some(Accuracy { top1: 1.0, top5: None, loss: 0.0, images, unlabelled: true });
            let (label, widths) = (String::new(), Vec::new());
            let trial =
                Trial { label, widths, rate: None, stored_bytes: 1, validation, fits: true, seconds: 0.0 };
            SearchReport { budget, validation_baseline: None, trials: vec![trial], chosen: 0 }
        };
        assert!(
            report(42, Budget::Drop(1.0))
                .warning()
                .unwrap()
                .contains("on 42 inputs, where a single one is 2.4")
        );
        assert_eq!(report(100, Budget::Drop(1.0)).warning(), None);
        assert_eq!(report(42, Budget::Drop(0.0)).warning(), None, "none was asked for");
        assert_eq!(report(42, Budget::Bytes(9)).warning(), None);
    }
}
