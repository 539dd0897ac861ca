//! Budgets: the most accurate network that fits a size, or the smallest that keeps its accuracy.
//!
//! Every layer gets a width of its own. The expected rise of the loss at a width is a slope times the squared error of
//! the layer's optimal codebook; the slopes come from measured sensitivities ([`crate::sensitivity()`]). The
//! choice itself is made on a validation part of the training images; test images are for the final report alone.
//! Trials are kept in the stage's directory, and a resumed search goes on from them (docs/budgets.md).

mod dir;
mod outputs;
mod widths;

use std::time::Instant;

use serde::{Deserialize, Serialize};
use slq_data::{Portion, Split};
use slq_graph::Graph;

use crate::budget::Budget;
use crate::checkpoint::Fingerprint;
use crate::context::Context;
use crate::control::control;
use crate::error::CompressError;
use crate::inputs::Origin;
use crate::progress::{Accuracy, Event, Observer, Trial};
use crate::quantize::kmeans;
use crate::quantize::outcome::Quantized;
use crate::quantize::stage::quantize;
use crate::quantize::{LayerRule, Quantize, Sensitivity, SensitivityOptions, select_layers, sensitivity};
use crate::size::Size;
use crate::train::{TrainingData, check_fit, evaluate_shared, evaluator};
use dir::SearchDir;
use widths::{Allocation, LayerWidths, allocate, total_bytes, uniform, widths};

/// Share of the training images that choices are made on.
const VALIDATION: f64 = 0.1;
/// Sizes between the smallest and the largest network among which a search for a drop looks.
const SIZES: usize = 16;
/// Networks that such a search tries at most: it halves the sizes each time.
pub(crate) const MOST_TRIALS: u64 = SIZES.ilog2() as u64 + 1;

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

/// Quantizes `graph` within a budget. [`Quantize::bits`] and [`Quantize::codebook_size`] are not read: widths are
/// chosen; rules for single layers hold. `table` re-uses sensitivities that were measured before; a budget of bytes holds for
/// the stored bytes and `overhead` more.
///
/// # Errors
/// [`CompressError::Budget`] for one that cannot be kept, naming the smallest size or the smallest drop there is;
/// otherwise those of a quantization.
pub(crate) fn quantize_within(
    graph: Graph,
    settings: &Quantize,
    budget: Budget,
    (table, overhead): (Option<&Sensitivity>, u64),
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Quantized, SearchReport), CompressError> {
    let settings = Quantize { bits: 8, codebook_size: None, ..settings.clone() };
    settings.check()?;
    if settings.needs_data() {
        context.require_data()?;
    }
    let given = context.inputs.is_some_and(|i| i.origin() == Origin::Given && !i.is_empty());
    if matches!(budget, Budget::Drop(_)) && context.data.is_none() && !given {
        return Err(CompressError::NoMeasure);
    }
    let layers = widths(&graph, &settings)?;
    let dense = Size::of(&graph).dense_bytes;
    let selected = select_layers(&graph, &settings)?;
    let floats = dense - selected.iter().map(|l| 4 * l.count as u64).sum::<u64>();
    let target = target(budget, dense, floats + overhead, &layers)?;
    let parts = context.data.map(|d| parts(d, context.seed)).transpose()?;
    let dir = SearchDir::open(&context, Fingerprint::new(&graph, &context, &settings)?)?;
    let mut search = Search { graph, parts, settings, layers, floats, context, dir, observer };
    let slopes = search.slopes(table)?;
    match target {
        Some(target) => search.for_size(target, budget, &slopes),
        None => search.for_drop(budget, &slopes),
    }
}

/// Images to train on, and images to choose by.
fn parts(data: &TrainingData, seed: u64) -> Result<(Split, Split), CompressError> {
    data.parts(Portion::Fraction(VALIDATION), seed)
}

/// `data` without the training images that a search with this seed chooses by.
///
/// # Errors
/// [`CompressError::Data`] where there are too few.
pub(crate) fn training_part(data: &TrainingData, seed: u64) -> Result<TrainingData, CompressError> {
    Ok(TrainingData { train: parts(data, seed)?.0, ..data.clone() })
}

/// Bytes that the selected layers may take beside `floats` others; `None` for a budget on accuracy.
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
             ({:.1}x smaller than float); pruning (--method deep-compression -o small.slq, whose codes are stored at \
             their entropy) or fewer weights (slq decompose first) may reach it",
            dense as f64 / least as f64
        );
        return Err(CompressError::Budget { reason });
    }
    Ok(Some(bytes - floats))
}

/// A search under way.
struct Search<'a> {
    graph: Graph,
    /// What remains to train on, and the validation part.
    parts: Option<(Split, Split)>,
    /// At the widest.
    settings: Quantize,
    layers: Vec<LayerWidths>,
    /// Bytes of everything that is not quantized.
    floats: u64,
    context: Context<'a>,
    dir: SearchDir,
    observer: &'a mut dyn Observer,
}

impl Search<'_> {
    /// Expected rise of the loss for each unit of squared error, layer by layer.
    fn slopes(&mut self, table: Option<&Sensitivity>) -> Result<Vec<f64>, CompressError> {
        let Some(data) = self.training_part() else {
            if let Some(inputs) = self.context.inputs.filter(|i| i.origin() == Origin::Given) {
                let (settings, layers) = (&self.settings, &self.layers);
                return outputs::slopes(&self.graph, settings, layers, &self.context, inputs, self.observer);
            }
            // With neither data nor inputs: errors relative to the layer's energy count the same everywhere.
            return Ok(self.layers.iter().map(|l| 1.0 / l.energy.max(f64::MIN_POSITIVE)).collect());
        };
        let table = match table.map_or_else(|| self.dir.table(), |t| Ok(Some(t.clone())))? {
            Some(table) => table,
            None => {
                // Nine values: errors large enough to measure and small enough for the rise to be proportional to them.
                let settings = Quantize { bits: 4, codebook_size: Some(9), ..self.settings.clone() };
                let Context { seed, isa, reducer, .. } = self.context;
                let how = SensitivityOptions { clusters: false, isa, reducer, ..Default::default() };
                let table = sensitivity(&self.graph, &data, &settings, seed, how, self.observer)?;
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
            // If the rise is below its standard error, the standard error is used.
            let error = if row.rise.error.is_finite() { row.rise.error } else { 0.0 };
            let rise = row.rise.mean.max(error).max(1e-12);
            Ok(rise / (row.squared_error * row.count as f64).max(f64::MIN_POSITIVE))
        };
        self.layers.iter().map(slope).collect()
    }

    /// The training images without the validation part.
    fn training_part(&self) -> Option<TrainingData> {
        let (data, (train, validation)) = (self.context.data?, self.parts.as_ref()?);
        Some(TrainingData {
            train: train.clone(),
            validation: data.validation.clone(),
            test: validation.clone(),
            transform: data.transform.clone(),
            following: data.following.clone(),
        })
    }

    /// The settings that give each layer its width.
    fn settings_for(&self, allocation: &[usize]) -> Quantize {
        let mut settings = self.settings.clone();
        settings.bits = 2.max(settings.lowest_bits());
        for (layer, &i) in self.layers.iter().zip(allocation) {
            let bits = layer.widths[i].bits;
            settings.bits = settings.bits.max(bits);
            if layer.widths.len() > 1 {
                settings
                    .layers
                    .push(LayerRule { pattern: glob::Pattern::escape(&layer.weight), bits: Some(bits) });
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

    /// The most accurate network within `target` bytes of codes and codebooks: a few allocations are compared without
    /// re-training, and the best is compressed in full.
    fn for_size(
        mut self,
        target: u64,
        budget: Budget,
        slopes: &[f64],
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let candidates = self.candidates(target, slopes);
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
        let dir = self.dir.of("chosen");
        let context = Context { dir: dir.as_deref(), ..self.context };
        let done = quantize(self.graph, &settings, context, self.observer)?;
        Ok((done, SearchReport { budget, validation_baseline: None, trials, chosen }))
    }

    /// Different ways to spend `target` bytes; one without data, which could not tell them apart.
    fn candidates(&self, target: u64, slopes: &[f64]) -> Vec<(&'static str, Allocation)> {
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
        if self.context.data.is_none() {
            candidates.truncate(1);
        }
        candidates
    }

    /// Accuracy on the validation images with all weights shared and nothing re-trained.
    fn shared_only(&self, allocation: &[usize]) -> Result<Option<Accuracy>, CompressError> {
        let Some(data) = self.training_part() else { return Ok(None) };
        let settings = self.settings_for(allocation);
        let mut graph = self.graph.clone();
        let layers = select_layers(&graph, &settings)?;
        kmeans::share(
            &mut graph,
            &layers,
            None,
            (settings.corrects(), settings.method.data_free_codebook()),
        )?;
        self.accuracy(&graph, &data.test, settings.method.batch()).map(Some)
    }

    fn accuracy(&self, graph: &Graph, split: &Split, batch: usize) -> Result<Accuracy, CompressError> {
        let data = self.context.require_data()?;
        let mut executor = evaluator(graph, batch, data, self.context.isa)?;
        check_fit(&mut executor, split, &data.transform)?;
        evaluate_shared(&mut executor, (split, &data.transform), batch, self.context.reducer)
    }

    /// The smallest network whose accuracy on the validation images falls by no more than the budget: networks of
    /// growing size along the best allocations, compressed in full, by bisection.
    fn for_drop(
        mut self,
        budget: Budget,
        slopes: &[f64],
    ) -> Result<(Quantized, SearchReport), CompressError> {
        let Budget::Drop(most) = budget else { return Err(CompressError::NoData) };
        let part = self.training_part();
        let sizes = self.sizes(slopes);
        let batch = self.settings.method.batch();
        let mut baseline = None;
        // Below `low` nothing is known to fit; `high` is the smallest size not yet known to fail.
        let (mut low, mut high) = (0, sizes.len());
        let mut best: Option<(usize, Quantized)> = None;
        let mut least_drop: Option<(f64, u64)> = None;
        let mut place = 0;
        while low < high {
            let at = (low + high) / 2;
            let label = format!("size {} of {}", at + 1, sizes.len());
            let mut trial = self.trial(&label, &sizes[at]);
            let began = Instant::now();
            let done = self.in_full(&sizes[at], part.as_ref(), place)?;
            trial.validation = match part {
                Some(_) => done.report.final_accuracy,
                None => Some(outputs::agreement(&done)?),
            };
            trial.seconds = began.elapsed().as_secs_f64();
            let float = match baseline {
                Some(float) => float,
                None => *baseline.insert(self.treated_equally(&done, part.as_ref())?),
            };
            let drop = 100.0 * (float.top1 - trial.validation.map_or(0.0, |a| a.top1));
            trial.fits = drop <= most + 1e-9;
            if least_drop.is_none_or(|(d, _)| drop < d) {
                least_drop = Some((drop, trial.stored_bytes));
            }
            if trial.fits {
                best = Some((place, done));
                high = at;
            } else {
                low = at + 1;
            }
            if self.dir.trials().get(place).is_none_or(|t| t.widths != trial.widths) {
                self.record(trial)?;
            }
            place += 1;
        }
        let Some((chosen, mut done)) = best else {
            let (drop, bytes) = least_drop.unwrap_or((f64::NAN, 0));
            let reason = format!(
                "a drop of at most {most} points cannot be kept: the widest network ({bytes} bytes) loses {drop:.2} \
                 on the validation images; allow more{}",
                if self.settings.retrains() { ", or re-train for longer (--effort thorough)" } else { "" }
            );
            return Err(CompressError::Budget { reason });
        };
        // The report is about test images; what its rounds saw were the validation images.
        done.report.baseline = self.context.accuracy(&self.graph, batch)?;
        done.report.final_accuracy = self.context.accuracy(&done.graph, batch)?;
        if let Some(accuracy) = done.report.final_accuracy {
            self.observer.on(&Event::Final(accuracy));
        }
        let trials = self.dir.trials().to_vec();
        Ok((done, SearchReport { budget, validation_baseline: baseline, trials, chosen }))
    }

    /// The float network on the validation images, trained for as long as `done` was.
    fn treated_equally(
        &mut self,
        done: &Quantized,
        part: Option<&TrainingData>,
    ) -> Result<Accuracy, CompressError> {
        let Some(part) = part else {
            // It agrees with itself.
            return Ok(Accuracy { top1: 1.0, loss: 0.0, ..outputs::agreement(done)? });
        };
        let steps = done.report.rounds.iter().map(|r| r.iterations).sum();
        match self.settings.method.training() {
            Some(training) if steps > 0 => {
                let dir = self.dir.of("reference");
                let context = Context { data: Some(part), dir: dir.as_deref(), ..self.context };
                let found = control(&self.graph, training, steps, context, self.observer)?;
                let images = part.test.len();
                let unlabelled = part.following.is_some();
                Ok(Accuracy { top1: found.top1, top5: None, loss: found.loss, images, unlabelled })
            }
            _ => self.accuracy(&self.graph, &part.test, self.settings.method.batch()),
        }
    }

    /// A network of the given widths, compressed on the training part alone.
    fn in_full(
        &mut self,
        allocation: &[usize],
        part: Option<&TrainingData>,
        place: usize,
    ) -> Result<Quantized, CompressError> {
        let settings = self.settings_for(allocation);
        let dir = self.dir.of(&format!("trial-{}", place + 1));
        let context = Context { data: part, dir: dir.as_deref(), ..self.context };
        quantize(self.graph.clone(), &settings, context, self.observer)
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
