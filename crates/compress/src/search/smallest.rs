//! The smallest network that keeps a drop of accuracy.

use std::time::Instant;

use super::report::SearchReport;
use super::tries::Tries;
use crate::budget::Budget;
use crate::error::CompressError;
use crate::progress::{Accuracy, Trial};
use crate::quantize::Quantize;
use crate::quantize::outcome::Quantized;
use crate::size::FileSize;
use crate::train::TrainingData;

/// The smallest network so far that keeps a drop, and what drops are measured from.
pub(super) struct Smallest {
    budget: Budget,
    part: Option<TrainingData>,
    /// The float network treated equally.
    baseline: Option<Accuracy>,
    /// The smallest drop so far, and the bytes of its network.
    least: Option<(f64, u64)>,
    best: Option<(usize, u64, Quantized)>,
    /// Networks tried.
    tried: usize,
}

impl Smallest {
    pub(super) fn new(tries: &Tries<'_>, budget: Budget) -> Self {
        let part = tries.training_part();
        Self { budget, part, baseline: None, least: None, best: None, tried: 0 }
    }

    /// Bytes of the smallest network that keeps the drop.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.best.as_ref().map(|(_, bytes, _)| *bytes)
    }

    /// Compresses the network by `settings`, tells whether it keeps the drop, and holds it where it is smaller than any before.
    /// Its bytes are those of `trial` or, where a file is given, of that.
    pub(super) fn takes(
        &mut self,
        tries: &mut Tries<'_>,
        settings: &Quantize,
        mut trial: Trial,
        file: Option<&dyn FileSize>,
    ) -> Result<bool, CompressError> {
        let began = Instant::now();
        let done = tries.in_full(settings, self.part.as_ref(), self.tried)?;
        trial.validation = tries.judged(&done)?;
        if let Some(file) = file {
            trial.stored_bytes = file.bytes(&done.graph)?;
        }
        trial.seconds = began.elapsed().as_secs_f64();
        let float = match self.baseline {
            Some(float) => float,
            None => *self.baseline.insert(tries.treated_equally(&done, self.part.as_ref())?),
        };
        let Budget::Drop(most) = self.budget else { return Err(CompressError::NoMeasure) };
        let drop = 100.0 * (float.top1 - trial.validation.map_or(0.0, |a| a.top1));
        trial.fits = drop <= most + 1e-9;
        if self.least.is_none_or(|(d, _)| drop < d) {
            self.least = Some((drop, trial.stored_bytes));
        }
        let fits = trial.fits;
        if fits && self.bytes().is_none_or(|bytes| trial.stored_bytes < bytes) {
            self.best = Some((self.tried, trial.stored_bytes, done));
        }
        tries.record(self.tried, trial)?;
        self.tried += 1;
        Ok(fits)
    }

    /// The network and the figures of the search.
    ///
    /// # Errors
    /// [`CompressError::Budget`] where none keeps the drop.
    pub(super) fn finish(self, mut tries: Tries<'_>) -> Result<(Quantized, SearchReport), CompressError> {
        let Some((chosen, _, mut done)) = self.best else {
            let (drop, bytes) = self.least.unwrap_or((f64::NAN, 0));
            let most = match self.budget {
                Budget::Drop(most) => most,
                _ => f64::NAN,
            };
            let reason = format!(
                "a drop of at most {most} points cannot be kept: the network that comes closest ({bytes} bytes) loses {drop:.2} \
                 on the validation images; allow more{}",
                if tries.settings.retrains() { ", or re-train for longer (--effort thorough)" } else { "" }
            );
            return Err(CompressError::Budget { reason });
        };
        tries.finish(&mut done)?;
        let trials = tries.dir.trials().to_vec();
        Ok((done, SearchReport { budget: self.budget, validation_baseline: self.baseline, trials, chosen }))
    }
}
