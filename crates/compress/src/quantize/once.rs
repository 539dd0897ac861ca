//! Methods without rounds: k-means and calibration.

use std::time::Instant;

use slq_graph::Graph;

use super::calibrate::{CalibrateSettings, stage as calibration};
use super::choices::Weighting;
use super::guides::{Guides, IMAGES, some_of};
use super::importance::importance;
use super::kmeans;
use super::layer::Layer;
use super::outcome::{Quantized, finished, held_out, names};
use super::settings::Quantize;
use crate::checkpoint::Fingerprint;
use crate::context::Context;
use crate::damage::compare_shared;
use crate::error::CompressError;
use crate::inputs::{Inputs, Part, given};
use crate::processes::go_on;
use crate::progress::{Event, Observer};
use crate::train::{HeldOut, TrainingSettings, executor};

/// Images that the networks are compared on, at most.
const COMPARED: usize = 2048;

/// k-means: one step, without re-training.
pub(super) fn quantize_once(
    mut graph: Graph,
    settings: &Quantize,
    layers: &[Layer],
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Quantized, CompressError> {
    let began = Instant::now();
    if settings.needs_data() {
        context.require_data()?;
    }
    let batch = settings.method.batch();
    let baseline = context.accuracy(&graph, batch)?;
    if let Some(accuracy) = baseline {
        observer.on(&Event::Baseline(accuracy));
    }
    let guides = guides(&graph, settings, layers, context)?;
    let float = context.inputs.map(|_| graph.clone());
    let mut behind = |weight: &str, done: usize| {
        let (layers, seconds) = (layers.len(), began.elapsed().as_secs_f64());
        observer.on(&Event::LayerShared { calibrated: false, weight, done, layers, seconds });
        go_on(observer, context.reducer)
    };
    let how = settings.method.sharing(settings.corrects());
    kmeans::share(&mut graph, layers, guides.importance.as_ref(), how, &mut behind)?;
    let last = context.accuracy(&graph, batch)?;
    if let Some(accuracy) = last {
        observer.on(&Event::Final(accuracy));
    }
    let damage = match (&float, context.inputs) {
        // A network that the engine cannot run is shared all the same.
        (Some(float), Some(inputs)) => batches_of(inputs, COMPARED)
            .and_then(|count| {
                let few = Part { all: inputs, first: 0, count };
                compare_shared((float, &graph), &few, context.isa, context.reducer)
            })
            .ok(),
        _ => None,
    };
    let seconds = began.elapsed().as_secs_f64();
    let mut done = finished(graph, settings, layers, [baseline, last], Vec::new(), seconds);
    done.report.damage = damage;
    done.report.unguided = guides.warning();
    Ok(done)
}

/// What the settings ask clustering to go by.
fn guides(
    graph: &Graph,
    settings: &Quantize,
    layers: &[Layer],
    context: Context<'_>,
) -> Result<Guides, CompressError> {
    let (mut guides, seed) = (Guides::default(), context.seed);
    match settings.cluster_weights {
        Weighting::None => {}
        Weighting::Fisher => {
            let data = context.require_data()?;
            let batch = settings.method.batch();
            let (_, images) = held_out(data, settings, seed)?;
            let held_out = HeldOut::new(&images, &data.transform, batch)?;
            let training = TrainingSettings { batch, ..TrainingSettings::default() };
            let mut executor = executor(graph, &training, Some(data), (seed, context.isa))?;
            let found = importance(&mut executor, (&held_out, context.reducer), &names(layers))?;
            guides.importance = Some(found);
        }
        Weighting::Inputs => match given(context.inputs) {
            Some(inputs) => {
                let count = batches_of(inputs, IMAGES)?;
                guides.weigh_by_inputs(graph, layers, &Part { all: inputs, first: 0, count }, context)?;
            }
            None => {
                let data = context.data.ok_or(CompressError::NoInputs)?;
                let images = some_of(graph, data, &data.train, seed)?;
                guides.weigh_by_inputs(graph, layers, &images, context)?;
            }
        },
    }
    Ok(guides)
}

/// Batches that hold `most` inputs.
fn batches_of(inputs: &dyn Inputs, most: usize) -> Result<usize, CompressError> {
    Ok(most.div_ceil(inputs.samples(0)?.max(1)).min(inputs.len()))
}

/// Calibration: layer by layer, on inputs without labels.
pub(super) fn quantize_calibrated(
    graph: Graph,
    (settings, own): (&Quantize, &CalibrateSettings),
    layers: &[Layer],
    context: Context<'_>,
    observer: &mut dyn Observer,
) -> Result<Quantized, CompressError> {
    let batch = settings.method.batch();
    let baseline = context.accuracy(&graph, batch)?;
    if let Some(accuracy) = baseline {
        observer.on(&Event::Baseline(accuracy));
    }
    let fingerprint = Fingerprint::new(&graph, &context, settings)?;
    let (graph, found) = calibration::calibrate_layers(graph, layers, own, fingerprint, context, observer)?;
    let last = context.accuracy(&graph, batch)?;
    if let Some(accuracy) = last {
        observer.on(&Event::Final(accuracy));
    }
    let mut done = finished(graph, settings, layers, [baseline, last], Vec::new(), found.seconds);
    done.report.damage = found.damage.clone();
    done.report.calibration = Some(found);
    Ok(done)
}
