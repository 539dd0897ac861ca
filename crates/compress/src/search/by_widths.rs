//! Budgets by a width for every layer.

use std::time::Instant;

use super::choices::Choices;
use super::report::SearchReport;
use super::smallest::Smallest;
use super::tries::Tries;
use super::widths::{Allocation, allocate, total_bytes, uniform};
use crate::budget::Budget;
use crate::context::Context;
use crate::error::CompressError;
use crate::processes::go_on;
use crate::progress::{Accuracy, Trial};
use crate::quantize::outcome::Quantized;
use crate::quantize::stage::quantize;
use crate::quantize::{kmeans, select_layers};

/// Sizes between the smallest and the largest network among which a search for a drop looks.
const SIZES: usize = 16;
/// Networks that such a search tries at most: it halves the sizes each time.
pub(crate) const MOST_TRIALS: u64 = SIZES.ilog2() as u64 + 1;

/// A search by widths.
pub(super) struct ByWidths<'a> {
    pub(super) tries: Tries<'a>,
    pub(super) choices: Choices,
}

impl ByWidths<'_> {
    /// The most accurate network within `target` bytes of codes and codebooks: a few allocations are compared without
    /// re-training, and the best is compressed in full.
    pub(super) fn for_size(
        mut self,
        target: u64,
        budget: Budget,
        slopes: &[f64],
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let candidates = self.candidates(target, slopes);
        for (place, (label, allocation)) in candidates.iter().enumerate() {
            let mut trial = self.choices.trial(label, allocation);
            if self.tries.dir.trials().get(place).is_some_and(|t| t.widths == trial.widths) {
                continue;
            }
            let began = Instant::now();
            trial.validation = self.shared_only(allocation)?;
            trial.seconds = began.elapsed().as_secs_f64();
            self.tries.record(place, trial)?;
        }
        let loss = |t: &Trial| t.validation.map_or(f64::INFINITY, |a| a.loss);
        let trials = self.tries.dir.trials().to_vec();
        let best = (0..trials.len()).min_by(|&a, &b| loss(&trials[a]).total_cmp(&loss(&trials[b])));
        let chosen = best.unwrap_or(0);
        let settings = self.choices.settings_for(&self.tries.settings, &candidates[chosen].1);
        let dir = self.tries.dir.of("chosen");
        let context = Context { dir: dir.as_deref(), ..self.tries.context };
        let done = quantize(self.tries.graph, &settings, context, self.tries.observer)?;
        Ok((done, SearchReport { budget, validation_baseline: None, trials, chosen }))
    }

    /// Different ways to spend `target` bytes; one without data, which could not tell them apart.
    fn candidates(&self, target: u64, slopes: &[f64]) -> Vec<(&'static str, Allocation)> {
        let relative: Vec<f64> =
            self.choices.layers.iter().map(|l| 1.0 / l.energy.max(f64::MIN_POSITIVE)).collect();
        let ways = [
            ("by sensitivity", allocate(&self.choices.layers, slopes, target)),
            ("by relative error", allocate(&self.choices.layers, &relative, target)),
            ("the same width everywhere", uniform(&self.choices.layers, target)),
        ];
        let mut candidates: Vec<(&str, Allocation)> = Vec::new();
        for (label, allocation) in ways {
            if let Some(allocation) = allocation.filter(|a| candidates.iter().all(|(_, c)| c != a)) {
                candidates.push((label, allocation));
            }
        }
        if self.tries.context.data.is_none() {
            candidates.truncate(1);
        }
        candidates
    }

    /// Accuracy on the validation images with all weights shared and nothing re-trained.
    fn shared_only(&mut self, allocation: &[usize]) -> Result<Option<Accuracy>, CompressError> {
        let Some(data) = self.tries.training_part() else { return Ok(None) };
        let settings = self.choices.settings_for(&self.tries.settings, allocation);
        let mut graph = self.tries.graph.clone();
        let layers = select_layers(&graph, &settings)?;
        let how = settings.method.sharing(settings.corrects());
        let reducer = self.tries.context.reducer;
        kmeans::share(&mut graph, &layers, None, how, &mut |_, _| go_on(self.tries.observer, reducer))?;
        self.tries.accuracy(&graph, &data.test, settings.method.batch()).map(Some)
    }

    /// The smallest network whose accuracy on the validation images falls by no more than the budget: networks of
    /// growing size along the best allocations, compressed in full, by bisection.
    pub(super) fn for_drop(
        mut self,
        budget: Budget,
        slopes: &[f64],
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let sizes = self.sizes(slopes);
        let mut smallest = Smallest::new(&self.tries, budget);
        // Below `low` nothing is known to fit; `high` is the smallest size not yet known to fail.
        let (mut low, mut high) = (0, sizes.len());
        while low < high {
            let at = (low + high) / 2;
            let label = format!("size {} of {}", at + 1, sizes.len());
            let (settings, trial) = (
                self.choices.settings_for(&self.tries.settings, &sizes[at]),
                self.choices.trial(&label, &sizes[at]),
            );
            match smallest.takes(&mut self.tries, &settings, trial, None)? {
                true => high = at,
                false => low = at + 1,
            }
        }
        smallest.finish(self.tries)
    }

    /// Allocations of rising size, in even ratios from the narrowest to the widest.
    fn sizes(&self, slopes: &[f64]) -> Vec<Allocation> {
        let narrowest = vec![0; self.choices.layers.len()];
        let widest: Allocation = self.choices.layers.iter().map(|l| l.widths.len() - 1).collect();
        let least = total_bytes(&self.choices.layers, &narrowest).max(1) as f64;
        let ratio = total_bytes(&self.choices.layers, &widest) as f64 / least;
        let mut sizes = vec![narrowest];
        for i in 1..SIZES - 1 {
            let target = least * ratio.powf(i as f64 / (SIZES - 1) as f64);
            sizes.extend(allocate(&self.choices.layers, slopes, target as u64));
        }
        sizes.push(widest);
        sizes.dedup();
        sizes
    }
}
