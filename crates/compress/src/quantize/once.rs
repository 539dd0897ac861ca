//! Methods without rounds: k-means and calibration.

use std::time::Instant;

use slq_graph::Graph;

use super::calibrate::{CalibrateSettings, stage as calibration};
use super::choices::Weighting;
use super::importance::importance;
use super::kmeans;
use super::layer::Layer;
use super::outcome::{Quantized, finished, held_out, names};
use super::settings::Quantize;
use crate::checkpoint::Fingerprint;
use crate::context::Context;
use crate::damage::compare_shared;
use crate::error::CompressError;
use crate::progress::{Event, Observer};
use crate::train::{HeldOut, TrainingSettings, executor};

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
    let importance = match (settings.cluster_weights, context.data) {
        (Weighting::Fisher, Some(data)) => {
            let (_, images) = held_out(data, settings, context.seed)?;
            let held_out = HeldOut::new(&images, &data.transform, batch)?;
            let training = TrainingSettings { batch, ..TrainingSettings::default() };
            let mut executor = executor(&graph, &training, Some(data), (context.seed, context.isa))?;
            Some(importance(&mut executor, (&held_out, context.reducer), &names(layers))?)
        }
        _ => None,
    };
    let float = context.inputs.map(|_| graph.clone());
    kmeans::share(
        &mut graph,
        layers,
        importance.as_ref(),
        (settings.corrects(), settings.method.codebook()),
    )?;
    let last = context.accuracy(&graph, batch)?;
    if let Some(accuracy) = last {
        observer.on(&Event::Final(accuracy));
    }
    let damage = match (&float, context.inputs) {
        // A network that the engine cannot run is shared all the same.
        (Some(float), Some(inputs)) => {
            compare_shared((float, &graph), inputs, context.isa, context.reducer).ok()
        }
        _ => None,
    };
    let seconds = began.elapsed().as_secs_f64();
    let mut done = finished(graph, settings, layers, [baseline, last], Vec::new(), seconds);
    done.report.damage = damage;
    Ok(done)
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
