//! Calibration as a stage of a job: which inputs it sees, a checkpoint behind its layers, and its figures.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use slq_graph::Graph;
use slq_reduce::Reducer;

use super::matrix::Books;
use super::network::{Job, LayerDone, LayerReport, LayerSpec, Outcome, State, calibrate};
use super::probe::rises_once;
use super::settings::CalibrateSettings;
use super::tuning::{Tuned, tune};
use crate::checkpoint::{Fingerprint, StageDir, TrainingDir};
use crate::context::{Context, Rises};
use crate::damage::{Damage, compare_shared};
use crate::error::CalibrateError;
use crate::error::CompressError;
use crate::inputs::{Inputs, Origin, Part};
use crate::processes::any_asks;
use crate::progress::{Event, Observer};
use crate::quantize::layer::Layer;
use crate::train::{Home, Keep};

/// The figures of a calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// Inputs calibrated on.
    pub images: usize,
    /// Where they come from.
    pub inputs: Origin,
    /// Layer by layer, in execution order.
    pub layers: Vec<LayerReport>,
    /// The network beside the float network on inputs that it was not calibrated on, where there are any.
    pub damage: Option<Damage>,
    /// What a distillation behind the layers did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
    /// Why there is none although it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_tuned: Option<String>,
    /// Why bits were priced by the noise in each layer's output and not by the divergence of the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpriced: Option<String>,
    /// Seconds, earlier sittings of a resumed job included.
    pub seconds: f64,
}

/// At least this share of the time goes into the work rather than into checkpoints.
const WORK: f64 = 0.8;
/// Batches that the networks are compared on, at most.
const COMPARED: usize = 32;

/// What is kept behind a layer.
#[derive(Serialize, Deserialize)]
struct Saved {
    fingerprint: Fingerprint,
    layers: Vec<LayerReport>,
    /// Hash of the weights' file.
    weights: String,
    /// What bits are priced by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rises: Option<Rises>,
    seconds: f64,
}

fn weights_after(layers: usize) -> String {
    format!("layer-{layers}")
}

/// Batches to calibrate on, and those behind them to compare on: what is left of the inputs or, where nothing is, a fifth.
fn parts(total: usize, batch: usize, most: usize) -> (usize, usize) {
    let wanted = most.div_ceil(batch.max(1)).max(1);
    match total {
        _ if total > wanted => (wanted, (total - wanted).min(COMPARED)),
        5.. => (total - total / 5, total / 5),
        _ => (total, 0),
    }
}

/// Calibrates the layers of `graph`.
///
/// # Errors
/// [`CompressError::NoInputs`], [`CompressError::Calibrate`] naming the layer, and those of a run directory.
pub(crate) fn calibrate_layers(
    float: Graph,
    layers: &[Layer],
    settings: &CalibrateSettings,
    fingerprint: Fingerprint,
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<(Graph, CalibrationReport), CompressError> {
    let began = Instant::now();
    let inputs = context.inputs.filter(|i| !i.is_empty()).ok_or(CompressError::NoInputs)?;
    let (used, left) = parts(inputs.len(), inputs.samples(0)?, settings.calibration_images);
    let seen = Part { all: inputs, first: 0, count: used };
    let specs = layers.iter().map(|l| spec(&float, l)).collect::<Vec<_>>();
    let options = settings.options(context.seed, context.isa);
    let reducer = context.reducer;
    let mut kept = Kept::open(context, fingerprint)?;
    let mut state = kept.state(&float)?;
    if !state.reports.is_empty() {
        observer.on(&Event::LayersResumed(state.reports.len()));
    }
    if settings.rate > 0.0 && kept.rises.is_none() {
        kept.rises = Some(rises_once(&float, &specs, &seen, context, observer)?);
    }
    let (rises, unpriced) = kept.rises.clone().map_or_else(Default::default, |r| (r.rises, r.unmeasured));
    let job = Job { float: &float, layers: &specs, inputs: &seen, options: &options, rises: &rises, reducer };
    let mut stopped = false;
    let done = calibrate(&job, &mut state, &mut |done| {
        let layer = done.state.reports.len();
        announce(&done, observer);
        kept.layer(done.state, layer == done.layers, began.elapsed())?;
        go_on(&done, observer, reducer, &mut stopped)
    });
    match done {
        Err(CalibrateError::Stopped { .. }) if stopped => return Err(CompressError::Interrupted),
        Err(CalibrateError::Stopped { .. }) if kept.failed.is_some() => {
            return Err(kept.failed.take().unwrap_or(CompressError::NoInputs));
        }
        done => done?,
    }
    let images = (0..used).map(|i| seen.samples(i)).sum::<Result<usize, _>>()?;
    let damage = damage(&float, &state.graph, inputs, (used, left), context)?;
    let mut report = CalibrationReport {
        images,
        inputs: inputs.origin(),
        layers: state.reports,
        damage,
        tuned: None,
        not_tuned: None,
        unpriced,
        seconds: 0.0,
    };
    let mut graph = state.graph;
    if settings.block_tune {
        let tuned = Tuning { float: &float, settings, inputs, parts: (used, left), context };
        let weights = layers.iter().map(|l| l.weight.as_str()).collect::<Vec<_>>();
        graph = tuned.run(graph, &weights, &kept, &mut report, observer)?;
    }
    report.seconds = kept.before + began.elapsed().as_secs_f64();
    Ok((graph, report))
}

/// Tells the observer of the layer that is done.
pub(crate) fn announce(done: &LayerDone<'_>, observer: &mut dyn Observer) {
    let Some(layer) = done.state.reports.last() else { return };
    observer.on(&Event::LayerShared {
        calibrated: true,
        weight: &layer.weight,
        done: done.state.reports.len(),
        layers: done.layers,
        seconds: done.elapsed.as_secs_f64(),
    });
}

/// Ends the calibration behind a layer, but for the last, where the observer asks for it; `stopped` then says so. Who is told to
/// stop, tells the other processes.
pub(crate) fn go_on(
    done: &LayerDone<'_>,
    observer: &mut dyn Observer,
    reducer: &dyn Reducer,
    stopped: &mut bool,
) -> Result<(), CalibrateError> {
    let asked = done.state.reports.len() < done.layers && observer.stop();
    *stopped = any_asks(reducer, asked)?;
    match *stopped {
        true => Err(CalibrateError::Stopped { reason: "the observer asked for it".into() }),
        false => Ok(()),
    }
}

/// The distillation behind the layers.
struct Tuning<'a> {
    float: &'a Graph,
    settings: &'a CalibrateSettings,
    inputs: &'a dyn Inputs,
    /// Batches to train on, and those behind them to compare on.
    parts: (usize, usize),
    context: Context<'a>,
}

impl Tuning<'_> {
    /// The distilled network or, where its outputs are farther from the float network's on inputs that none of the two has
    /// seen, `graph` as it was.
    fn run(
        &self,
        graph: Graph,
        weights: &[&str],
        kept: &Kept,
        report: &mut CalibrationReport,
        observer: &mut dyn Observer,
    ) -> Result<Graph, CompressError> {
        observer.on(&Event::StageStarted("block-tune"));
        let (used, left) = self.parts;
        let seen = Part { all: self.inputs, first: 0, count: used };
        let shared = |w: &&&str| graph.weights[**w].palette.is_some();
        let weights: Vec<String> = weights.iter().filter(shared).map(|w| (*w).to_owned()).collect();
        let mut tuned = graph.clone();
        let mut keeper = kept
            .dir
            .as_ref()
            .map(|dir| TrainingDir::new(dir, &kept.fingerprint, "block-tune".into(), self.context.every));
        let mut home = Home { graph: &mut tuned, keeper: keeper.as_mut().map(|k| k as &mut dyn Keep) };
        let from: (&dyn Inputs, usize) = (&seen, self.settings.memory << 20);
        let done =
            tune(self.float, &weights, &self.settings.tuning(), from, &mut home, self.context, observer);
        let (iterations, seconds) = match done {
            Ok(done) => done,
            // A network that cannot be trained stays as it was calibrated.
            Err(CompressError::Engine(error)) => {
                report.not_tuned = Some(error.to_string());
                return Ok(graph);
            }
            Err(error) => return Err(error),
        };
        let damage = damage(self.float, &tuned, self.inputs, (used, left), self.context)?;
        let unseen = |d: &Option<Damage>| d.as_ref().filter(|_| left > 0).and_then(|d| d.kl);
        let (kl_before, kl_after) = (unseen(&report.damage), unseen(&damage));
        let taken = kl_before.zip(kl_after).is_none_or(|(before, after)| after <= before);
        report.tuned = Some(Tuned { iterations, kl_before, kl_after, taken, seconds });
        keeper.iter_mut().for_each(TrainingDir::clear);
        if !taken {
            return Ok(graph);
        }
        report.damage = damage;
        Ok(tuned)
    }
}

/// The network beside the float one, on inputs it has not seen or, where there are none, on those it has; `None` where
/// the engine cannot run the whole network.
fn damage(
    float: &Graph,
    graph: &Graph,
    inputs: &dyn Inputs,
    (used, left): (usize, usize),
    context: Context<'_>,
) -> Result<Option<Damage>, CompressError> {
    let part = match left {
        0 => Part { all: inputs, first: 0, count: used },
        _ => Part { all: inputs, first: used, count: left },
    };
    match compare_shared((float, graph), &part, context.isa, context.reducer) {
        Ok(damage) => Ok(Some(Damage { seen: left == 0, ..damage })),
        Err(CompressError::Engine(_) | CompressError::Calibrate(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The layer as the calibration takes it.
pub(crate) fn spec(graph: &Graph, layer: &Layer) -> LayerSpec {
    let channels = graph.weights[&layer.weight].tensor.shape().first().copied().unwrap_or(1);
    let books = match layer.groups {
        1 => Books::Tensor,
        groups if groups <= channels => Books::Rows(channels / groups),
        groups => Books::Inputs(layer.count / groups),
    };
    LayerSpec {
        weight: layer.weight.clone(),
        node: layer.node.clone(),
        size: layer.size,
        books,
        half: layer.half,
    }
}

/// Checkpoints.
struct Kept {
    dir: Option<StageDir>,
    fingerprint: Fingerprint,
    /// Seconds of earlier sittings.
    before: f64,
    /// Layers of the weights that lie in the directory.
    stored: Option<usize>,
    /// When they were stored, and how long that took.
    last: (Instant, Duration),
    /// What went wrong while storing.
    failed: Option<CompressError>,
    /// What bits are priced by.
    rises: Option<Rises>,
}

impl Kept {
    fn open(context: Context<'_>, fingerprint: Fingerprint) -> Result<Self, CompressError> {
        let dir = context.dir.map(StageDir::create).transpose()?;
        let last = (Instant::now(), Duration::ZERO);
        Ok(Self { dir, fingerprint, before: 0.0, stored: None, last, failed: None, rises: None })
    }

    /// Where the job goes on.
    fn state(&mut self, float: &Graph) -> Result<State, CompressError> {
        let mut state = State::new(float);
        let Some(dir) = &self.dir else { return Ok(state) };
        let Some(saved) = dir.state::<Saved>()? else { return Ok(state) };
        saved.fingerprint.check(&self.fingerprint, dir.path())?;
        if !saved.layers.is_empty() {
            dir.load_weights(&weights_after(saved.layers.len()), &saved.weights, &mut state.graph)?;
        }
        (self.before, self.stored) = (saved.seconds, Some(saved.layers.len()));
        state.reports = saved.layers;
        self.rises = saved.rises;
        Ok(state)
    }

    /// Stores the state behind a layer, unless that would take more than a fifth of the time.
    fn layer(&mut self, state: &State, is_last: bool, elapsed: Duration) -> Result<(), CalibrateError> {
        let (at, took) = self.last;
        let due = at.elapsed().as_secs_f64() * (1.0 - WORK) >= took.as_secs_f64() * WORK;
        if !(due || is_last) {
            return Ok(());
        }
        let began = Instant::now();
        let stored = self.store(state, elapsed);
        self.last = (Instant::now(), began.elapsed());
        stored.map_err(|error| {
            let reason = error.to_string();
            self.failed = Some(error);
            CalibrateError::Stopped { reason }
        })
    }

    fn store(&mut self, state: &State, elapsed: Duration) -> Result<(), CompressError> {
        let Some(dir) = &self.dir else { return Ok(()) };
        let layers = state.reports.len();
        let weights = dir.save_weights(&weights_after(layers), &state.graph)?;
        dir.save_state(&Saved {
            fingerprint: self.fingerprint.clone(),
            layers: state.reports.clone(),
            weights,
            rises: self.rises.clone(),
            seconds: self.before + elapsed.as_secs_f64(),
        })?;
        if let Some(old) = self.stored.replace(layers).filter(|&old| old != layers) {
            dir.remove_weights(&weights_after(old));
        }
        Ok(())
    }
}

/// Sentences on what is worth knowing of a calibration.
pub(crate) fn warnings(report: &CalibrationReport) -> Vec<(&'static str, String)> {
    let mut warnings = Vec::new();
    if report.inputs == Origin::Random {
        let text = "calibrated on random inputs: expect less than from a few real ones".to_owned();
        warnings.push(("random-inputs", text));
    }
    let clustered: Vec<&LayerReport> =
        report.layers.iter().filter(|l| matches!(l.outcome, Outcome::Clustered { .. })).collect();
    if let Some(Outcome::Clustered { reason }) = clustered.first().map(|l| &l.outcome) {
        let names: Vec<&str> = clustered.iter().take(4).map(|l| l.weight.as_str()).collect();
        let text = format!(
            "{} layers could not be calibrated and were clustered without data: {}{} ({reason})",
            clustered.len(),
            names.join(", "),
            if clustered.len() > names.len() { ", …" } else { "" }
        );
        warnings.push(("clustered", text));
    }
    let few = report
        .layers
        .iter()
        .filter(|l| matches!(&l.outcome, Outcome::Calibrated(c) if c.columns > c.samples))
        .count();
    if few > 0 {
        let text = format!(
            "{few} of {} layers have more inputs than samples ({} images): there the damping decides; more images help",
            report.layers.len(),
            report.images
        );
        warnings.push(("few-samples", text));
    }
    if let Some(reason) = &report.unpriced {
        let text = format!(
            "bits (--rate) are priced by the noise in each layer's own output, as what it does to the network's could not be \
             measured: {reason}"
        );
        warnings.push(("unpriced", text));
    }
    if let Some(reason) = &report.not_tuned {
        warnings.push((
            "not-tuned",
            format!("the network was calibrated and not distilled (--block-tune): {reason}"),
        ));
    }
    if let Some(Tuned { kl_before: Some(before), kl_after: Some(after), taken: false, .. }) = &report.tuned {
        let text = format!(
            "the distillation (--block-tune) was not taken: on inputs left out, the KL divergence from the float network \
             rose from {before:.4} to {after:.4}; a lower --block-tune-lr or more inputs may help"
        );
        warnings.push(("not-tuned", text));
    }
    if let Some(text) = report.damage.as_ref().and_then(Damage::warning) {
        warnings.push(("damage", text));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_that_are_left_are_compared_on_and_else_a_fifth() {
        assert_eq!(parts(100, 16, 512), (32, 32));
        assert_eq!(parts(33, 16, 512), (32, 1));
        assert_eq!(parts(16, 16, 512), (13, 3));
        assert_eq!(parts(4, 16, 512), (4, 0));
        assert_eq!(parts(1, 16, 1), (1, 0));
    }
}
