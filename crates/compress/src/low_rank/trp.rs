//! Trained rank pruning (arXiv 1812.02402, 2004.14566): every few steps the selected weights are replaced by
//! low-rank approximations, and training goes on from there.

use std::time::Instant;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use slq_engine::Executor;
use slq_lowrank::{RankRule, Svd};

use super::layer::{Candidate, Cost};
use super::plan::{Budget, exact, rank_of};
use super::settings::{Decompose, RankChoice, TrpSettings};
use crate::error::CompressError;
use crate::train::Between;

/// Truncates weights between training steps.
pub(crate) struct Truncation<'a> {
    trp: &'a TrpSettings,
    ranks: RankChoice,
    force: bool,
    layers: Vec<Candidate>,
    budget: Option<Budget>,
    /// Steps done, and in all.
    steps: [u64; 2],
    /// The ranks of the second part of the training, once they are known; `None` leaves a layer whole.
    frozen: Option<Vec<Option<usize>>>,
    /// Seconds spent.
    pub seconds: f64,
    /// Truncations done.
    pub count: u64,
    /// Decompositions that did not converge; their layers were left as they were.
    pub failures: u64,
}

impl<'a> Truncation<'a> {
    /// For a network of `total` cost whose `layers` are to be split after `iterations` steps.
    pub fn new(
        trp: &'a TrpSettings,
        settings: &Decompose,
        layers: Vec<Candidate>,
        total: Cost,
        iterations: u64,
    ) -> Self {
        let budget = Budget::new(settings.ranks, total, &layers);
        Self {
            trp,
            ranks: settings.ranks,
            force: settings.force,
            layers,
            budget,
            steps: [0, iterations],
            frozen: None,
            seconds: 0.0,
            count: 0,
            failures: 0,
        }
    }

    fn truncate(&mut self, executor: &mut dyn Executor, rate: f64) -> Result<(), CompressError> {
        let weights =
            self.layers.iter().map(|l| executor.parameter(&l.weight)).collect::<Result<Vec<_>, _>>()?;
        let found: Vec<Option<Vec<Svd>>> =
            self.layers.par_iter().zip(weights).map(|(l, values)| exact(l, values).ok()).collect();
        self.failures += found.iter().filter(|f| f.is_none()).count() as u64;
        let settled = self.steps[0] as f64 >= self.trp.freeze_after * self.steps[1] as f64;
        let targets = match &self.frozen {
            Some(ranks) => ranks.clone(),
            None => self.targets(&found)?,
        };
        if settled && self.frozen.is_none() {
            self.frozen = Some(targets.clone());
        }
        // The sub-gradient of the nuclear norm is U V^T: a step along it lowers every singular value by the same amount.
        // Momentum would add it up to the step over (1 - momentum), which is applied at once.
        let shrink = self.trp.nuclear_weight * rate / (1.0 - self.trp.training.momentum);
        let truncated: Vec<Option<Vec<f32>>> = (&self.layers, &found, &targets)
            .into_par_iter()
            .map(|(layer, found, target)| {
                let found = found.as_ref()?;
                let rank = |d: &Svd| match (target, self.has_targets(layer)) {
                    (Some(rank), true) if settled => *rank,
                    (Some(rank), true) => self.energy_rank(d).max(*rank),
                    (None, true) => d.full_rank(),
                    _ => self.energy_rank(d),
                };
                Some(layer.view.weight(found.iter().map(|d| d.approximation(rank(d), shrink)).collect()))
            })
            .collect();
        for (layer, values) in self.layers.iter().zip(truncated) {
            if let Some(values) = values {
                executor.set_parameter(&layer.weight, &values)?;
            }
        }
        Ok(())
    }

    fn energy_rank(&self, decomposition: &Svd) -> usize {
        RankRule::Energy(self.trp.energy).rank(decomposition.singular_values(), decomposition.full_rank())
    }

    /// Whether a layer's rank is known beforehand; energies and thresholds judge the trained weights alone.
    fn has_targets(&self, layer: &Candidate) -> bool {
        layer.pinned.is_some()
            || !matches!(self.ranks, RankChoice::Rule(RankRule::Energy(_) | RankRule::Threshold(_)))
    }

    /// The ranks that the final split would take now; a truncation never goes below them.
    fn targets(&self, found: &[Option<Vec<Svd>>]) -> Result<Vec<Option<usize>>, CompressError> {
        match (&self.budget, self.ranks) {
            (Some(budget), _) => budget.ranks(&self.layers, found, self.force),
            (None, RankChoice::Rule(rule)) => {
                let rank = |(layer, found): (&Candidate, &Option<Vec<Svd>>)| {
                    let rank = layer.pinned.unwrap_or_else(|| found.as_ref().map_or(1, |f| rank_of(f, rule)));
                    // Where a split would cost as much as the layer, the layer stays whole.
                    (self.force || layer.per_rank.times(rank).macs < layer.whole.macs).then_some(rank)
                };
                Ok(self.layers.iter().zip(found).map(rank).collect())
            }
            (None, _) => Ok(vec![None; self.layers.len()]),
        }
    }
}

/// The part of a [`Truncation`] that the training changes.
#[derive(Serialize, Deserialize)]
struct State {
    steps: u64,
    frozen: Option<Vec<Option<usize>>>,
    seconds: f64,
    count: u64,
    failures: u64,
}

impl Between for Truncation<'_> {
    /// Truncates after each period and after the last step.
    fn after_step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError> {
        self.steps[0] += 1;
        let [done, all] = self.steps;
        if done.is_multiple_of(self.trp.period) || done == all {
            let began = Instant::now();
            self.truncate(executor, f64::from(rate))?;
            self.seconds += began.elapsed().as_secs_f64();
            self.count += 1;
        }
        Ok(())
    }

    fn state(&self) -> Value {
        json!(State {
            steps: self.steps[0],
            frozen: self.frozen.clone(),
            seconds: self.seconds,
            count: self.count,
            failures: self.failures,
        })
    }

    fn restore(&mut self, state: Value) -> Result<(), CompressError> {
        let bad = |reason: String| CompressError::MethodState { reason };
        let state: State = serde_json::from_value(state).map_err(|e| bad(e.to_string()))?;
        if state.frozen.as_ref().is_some_and(|f| f.len() != self.layers.len()) {
            return Err(bad("it has ranks of another number of layers".into()));
        }
        self.steps[0] = state.steps;
        (self.frozen, self.seconds) = (state.frozen, state.seconds);
        (self.count, self.failures) = (state.count, state.failures);
        Ok(())
    }
}
