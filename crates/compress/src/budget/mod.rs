//! Budgets: the most accurate network that fits a size, or the smallest that keeps its accuracy.
//!
//! Every layer gets a width of its own. How much a narrower width hurts is predicted as a slope times the squared
//! error of the layer's optimal codebook; the slopes come from measured sensitivities ([`crate::sensitivity()`]). The
//! choice itself is made on a validation part of the training images; test images are for the final report alone.
//! The search keeps what it has tried in its run directory and goes on from there (docs/budgets.md).

mod search;
mod size;
mod widths;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use slq_data::{Portion, Split};
use slq_engine::{CpuExecutor, EngineOptions, Executor};
use slq_graph::Graph;

use crate::driver::{Outcome, RunOptions, compress};
use crate::error::CompressError;
use crate::kmeans;
use crate::layers::select_layers;
use crate::observer::{Event, Observer};
use crate::report::{Accuracy, Size};
use crate::sensitivity::{Sensitivity, SensitivityOptions, sensitivity};
use crate::settings::{LayerRule, Settings};
use crate::training::{TrainingData, check_fit, evaluate};
use search::SearchDir;
pub use size::Budget;
use widths::{Allocation, LayerWidths, allocate, total_bytes, uniform, widths};

/// Share of the training images that choices are made on.
const VALIDATION: f64 = 0.1;
/// Sizes between the smallest and the largest network among which a search for a drop looks.
const SIZES: usize = 16;

/// One network that a search tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// How its widths were chosen.
    pub label: String,
    /// Bits of each layer that had a choice, by the weight's name.
    pub widths: Vec<(String, u8)>,
    /// Its stored size.
    pub stored_bytes: u64,
    /// Its accuracy on the validation images; `None` without data. Not re-trained where a size was asked for.
    pub validation: Option<Accuracy>,
    /// Whether it keeps the budget.
    pub fits: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// What a search came to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchReport {
    /// What was asked for.
    pub budget: Budget,
    /// The float network on the validation images.
    pub validation_baseline: Option<Accuracy>,
    /// What was tried, in order.
    pub trials: Vec<Trial>,
    /// Position of the trial that was taken.
    pub chosen: usize,
}

/// Compresses `graph` within a budget. [`Settings::bits`] and [`Settings::codebook_size`] are not read: widths are
/// chosen; rules for single layers hold. `table` re-uses sensitivities that were measured before.
///
/// # Errors
/// [`CompressError::Budget`] for one that cannot be kept, naming the smallest size or the smallest drop there is;
/// otherwise as [`compress`].
pub fn compress_within(
    graph: Graph,
    data: Option<&TrainingData>,
    settings: &Settings,
    budget: Budget,
    table: Option<Sensitivity>,
    options: RunOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<(Outcome, SearchReport), CompressError> {
    let settings = Settings { bits: 8, codebook_size: None, ..settings.clone() };
    settings.check()?;
    if data.is_none() && (settings.needs_data() || matches!(budget, Budget::Drop(_))) {
        return Err(CompressError::NoData);
    }
    let layers = widths(&graph, &settings)?;
    let dense = Size::of(&graph).dense_bytes;
    let selected = select_layers(&graph, &settings)?;
    let floats = dense - selected.iter().map(|l| 4 * l.count as u64).sum::<u64>();
    let target = target(budget, dense, floats, &layers)?;
    let parts = data.map(|d| d.train.split_off_validation(Portion::Fraction(VALIDATION), settings.seed));
    let parts = parts.transpose()?;
    let dir = SearchDir::open(&options, &settings, budget, &graph, data)?;
    let mut search = Search { graph, data, parts, settings, layers, floats, options, dir, observer };
    let slopes = search.slopes(table)?;
    match target {
        Some(target) => search.for_size(target, budget, &slopes),
        None => search.for_drop(budget, &slopes),
    }
}

/// Bytes that the selected layers may take; `None` for a budget on accuracy.
fn target(
    budget: Budget,
    dense: u64,
    floats: u64,
    layers: &[LayerWidths],
) -> Result<Option<u64>, CompressError> {
    if let Budget::Drop(points) = budget
        && !(points.is_finite() && points >= 0.0)
    {
        let reason = format!("{points} is not a number of points of 0 or more");
        return Err(CompressError::Setting { name: "max-drop", reason });
    }
    let Some(bytes) = budget.bytes(dense) else { return Ok(None) };
    let least = floats + total_bytes(layers, &vec![0; layers.len()]);
    if bytes < least {
        let reason = format!(
            "{bytes} bytes cannot be reached: with every layer at its narrowest the network takes {least} bytes \
             ({:.1}x smaller than float)",
            dense as f64 / least as f64
        );
        return Err(CompressError::Budget { reason });
    }
    Ok(Some(bytes - floats))
}

/// A search under way.
struct Search<'a> {
    graph: Graph,
    data: Option<&'a TrainingData>,
    /// What remains to train on, and the validation part.
    parts: Option<(Split, Split)>,
    /// At the widest.
    settings: Settings,
    layers: Vec<LayerWidths>,
    /// Bytes of everything that is not quantized.
    floats: u64,
    options: RunOptions<'a>,
    dir: SearchDir,
    observer: &'a mut dyn Observer,
}

impl Search<'_> {
    /// Expected rise of the loss for each unit of squared error, layer by layer.
    fn slopes(&mut self, table: Option<Sensitivity>) -> Result<Vec<f64>, CompressError> {
        let Some(data) = self.training_part() else {
            // Without data: errors relative to the layer's energy count the same everywhere.
            return Ok(self.layers.iter().map(|l| 1.0 / l.energy.max(f64::MIN_POSITIVE)).collect());
        };
        let table = match table.map_or_else(|| self.dir.table(), |t| Ok(Some(t)))? {
            Some(table) => table,
            None => {
                // Nine values: errors large enough to be seen and small enough to be in proportion.
                let settings = Settings { bits: 4, ..self.settings.clone() };
                let how = SensitivityOptions { clusters: false, isa: self.options.isa, ..Default::default() };
                let table = sensitivity(&self.graph, &data, &settings, how, self.observer)?;
                self.dir.keep_table(&table)?;
                table
            }
        };
        let slope = |layer: &LayerWidths| {
            let row = table.layers.iter().find(|r| r.weight == layer.weight).ok_or_else(|| {
                CompressError::Budget {
                    reason: format!("the sensitivity table has no layer '{}'", layer.weight),
                }
            })?;
            // A rise that drowns in its error bar counts as the error bar.
            let error = if row.rise.error.is_finite() { row.rise.error } else { 0.0 };
            let rise = row.rise.mean.max(error).max(1e-12);
            Ok(rise / (row.squared_error * row.count as f64).max(f64::MIN_POSITIVE))
        };
        self.layers.iter().map(slope).collect()
    }

    /// The training images without the validation part.
    fn training_part(&self) -> Option<TrainingData> {
        let (data, (train, validation)) = (self.data?, self.parts.as_ref()?);
        Some(TrainingData {
            train: train.clone(),
            test: validation.clone(),
            transform: data.transform.clone(),
        })
    }

    /// The settings that give each layer its width.
    fn settings_for(&self, allocation: &[usize]) -> Settings {
        let mut settings = self.settings.clone();
        settings.bits = 2.max(settings.lowest_bits());
        for (layer, &i) in self.layers.iter().zip(allocation) {
            let bits = layer.widths[i].bits;
            settings.bits = settings.bits.max(bits);
            if layer.widths.len() > 1 {
                settings.layers.push(LayerRule { pattern: globset::escape(&layer.weight), bits: Some(bits) });
            }
        }
        settings
    }

    fn trial(&self, label: &str, allocation: &[usize]) -> Trial {
        let chosen = self.layers.iter().zip(allocation).filter(|(l, _)| l.widths.len() > 1);
        Trial {
            label: label.into(),
            widths: chosen.map(|(l, &i)| (l.weight.clone(), l.widths[i].bits)).collect(),
            stored_bytes: self.floats + total_bytes(&self.layers, allocation),
            validation: None,
            fits: true,
            seconds: 0.0,
        }
    }

    /// Records a trial.
    fn record(&mut self, trial: Trial) -> Result<(), CompressError> {
        self.observer.on(&Event::Tried(&trial));
        self.dir.add(trial)
    }

    /// The most accurate network within `target` bytes of codes and codebooks: a few ways to spend them are compared
    /// as they stand, and the best is re-trained.
    fn for_size(
        mut self,
        target: u64,
        budget: Budget,
        slopes: &[f64],
    ) -> Result<(Outcome, SearchReport), CompressError> {
        let relative: Vec<f64> = self.layers.iter().map(|l| 1.0 / l.energy.max(f64::MIN_POSITIVE)).collect();
        let ways = [
            ("by sensitivity", allocate(&self.layers, slopes, target)),
            ("by relative error", allocate(&self.layers, &relative, target)),
            ("the same width everywhere", uniform(&self.layers, target)),
        ];
        let mut candidates: Vec<(&str, Allocation)> = Vec::new();
        for (label, allocation) in ways {
            if let Some(allocation) = allocation.filter(|a| candidates.iter().all(|(_, c)| c != a)) {
                candidates.push((label, allocation));
            }
        }
        if self.data.is_none() {
            candidates.truncate(1);
        }
        for (place, (label, allocation)) in candidates.iter().enumerate() {
            let mut trial = self.trial(label, allocation);
            if self.dir.trials().get(place).is_some_and(|t| t.widths == trial.widths) {
                continue;
            }
            let began = Instant::now();
            trial.validation = self.shared_only(allocation)?;
            trial.seconds = began.elapsed().as_secs_f64();
            self.record(trial)?;
        }
        let loss = |t: &Trial| t.validation.map_or(f64::INFINITY, |a| a.loss);
        let trials = self.dir.trials().to_vec();
        let best = (0..trials.len()).min_by(|&a, &b| loss(&trials[a]).total_cmp(&loss(&trials[b])));
        let chosen = best.unwrap_or(0);
        let settings = self.settings_for(&candidates[chosen].1);
        let run_dir = self.dir.run(if settings.retrains() { Some("chosen") } else { None });
        let options = RunOptions { run_dir: run_dir.as_deref(), resume: true, ..self.options };
        let outcome = compress(self.graph, self.data, &settings, options, self.observer)?;
        Ok((outcome, SearchReport { budget, validation_baseline: None, trials, chosen }))
    }

    /// Accuracy on the validation images with all weights shared and nothing re-trained.
    fn shared_only(&self, allocation: &[usize]) -> Result<Option<Accuracy>, CompressError> {
        let Some(data) = self.training_part() else { return Ok(None) };
        let settings = self.settings_for(allocation);
        let mut graph = self.graph.clone();
        let layers = select_layers(&graph, &settings)?;
        kmeans::share(&mut graph, &layers, None, settings.corrects())?;
        self.accuracy(&graph, &data.test, &settings).map(Some)
    }

    fn accuracy(&self, graph: &Graph, split: &Split, settings: &Settings) -> Result<Accuracy, CompressError> {
        let Some(data) = self.data else { return Err(CompressError::NoData) };
        let engine = EngineOptions { isa: self.options.isa, ..EngineOptions::default() };
        let mut executor = CpuExecutor::new(graph, settings.training.batch, &engine)?;
        check_fit(&mut executor, split, &data.transform)?;
        evaluate(&mut executor as &mut dyn Executor, split, &data.transform, settings.training.batch)
    }

    /// The smallest network whose accuracy on the validation images falls by no more than the budget: networks of
    /// growing size along the best allocations, compressed in full, by bisection.
    fn for_drop(mut self, budget: Budget, slopes: &[f64]) -> Result<(Outcome, SearchReport), CompressError> {
        let (Budget::Drop(most), Some(data), Some(part)) = (budget, self.data, self.training_part()) else {
            return Err(CompressError::NoData);
        };
        let sizes = self.sizes(slopes);
        let baseline = self.accuracy(&self.graph, &part.test, &self.settings)?;
        // Below `low` nothing is known to fit; `high` is the smallest size not yet known to fail.
        let (mut low, mut high) = (0, sizes.len());
        let mut best: Option<(usize, Outcome)> = None;
        let mut least_drop: Option<(f64, u64)> = None;
        let mut place = 0;
        while low < high {
            // The widest first: if that fails, nothing fits.
            let at = if place == 0 { sizes.len() - 1 } else { (low + high) / 2 };
            let label = format!("size {} of {}", at + 1, sizes.len());
            let mut trial = self.trial(&label, &sizes[at]);
            let settings = self.settings_for(&sizes[at]);
            let run_dir =
                self.dir.run(settings.retrains().then(|| format!("trial-{}", place + 1)).as_deref());
            let options = RunOptions { run_dir: run_dir.as_deref(), resume: true, ..self.options };
            let began = Instant::now();
            let outcome = compress(self.graph.clone(), Some(&part), &settings, options, self.observer)?;
            trial.validation = outcome.report.final_accuracy;
            trial.seconds = began.elapsed().as_secs_f64();
            let drop = 100.0 * (baseline.top1 - trial.validation.map_or(0.0, |a| a.top1));
            trial.fits = drop <= most + 1e-9;
            let (fits, bytes) = (trial.fits, trial.stored_bytes);
            if self.dir.trials().get(place).is_none_or(|t| t.widths != trial.widths) {
                self.record(trial)?;
            }
            if least_drop.is_none_or(|(d, _)| drop < d) {
                least_drop = Some((drop, bytes));
            }
            if fits {
                best = Some((place, outcome));
                high = at;
            } else {
                low = at + 1;
            }
            place += 1;
        }
        let Some((chosen, mut outcome)) = best else {
            let (drop, bytes) = least_drop.unwrap_or((f64::NAN, 0));
            let reason = format!(
                "a drop of at most {most} points cannot be kept: the widest network ({bytes} bytes) loses {drop:.2} \
                 on the validation images; allow more, or re-train for longer"
            );
            return Err(CompressError::Budget { reason });
        };
        // The report is about test images; what its rounds saw were the validation images.
        outcome.report.baseline = Some(self.accuracy(&self.graph, &data.test, &self.settings)?);
        outcome.report.final_accuracy = Some(self.accuracy(&outcome.graph, &data.test, &self.settings)?);
        if let Some(accuracy) = outcome.report.final_accuracy {
            self.observer.on(&Event::Final(accuracy));
        }
        let trials = self.dir.trials().to_vec();
        Ok((outcome, SearchReport { budget, validation_baseline: Some(baseline), trials, chosen }))
    }

    /// Allocations of rising size, in even ratios from the narrowest to the widest.
    fn sizes(&self, slopes: &[f64]) -> Vec<Allocation> {
        let narrowest = vec![0; self.layers.len()];
        let widest: Allocation = self.layers.iter().map(|l| l.widths.len() - 1).collect();
        let least = total_bytes(&self.layers, &narrowest).max(1) as f64;
        let ratio = total_bytes(&self.layers, &widest) as f64 / least;
        let mut sizes = vec![narrowest];
        for i in 1..SIZES - 1 {
            let target = least * ratio.powf(i as f64 / (SIZES - 1) as f64);
            sizes.extend(allocate(&self.layers, slopes, target as u64));
        }
        sizes.push(widest);
        sizes.dedup();
        sizes
    }
}
