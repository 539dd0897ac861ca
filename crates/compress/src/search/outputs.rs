//! What a search measures without labels: how far outputs move.

use slq_graph::Graph;

use super::widths::LayerWidths;
use crate::context::Context;
use crate::damage::Reference;
use crate::error::CompressError;
use crate::inputs::Inputs;
use crate::progress::{Accuracy, Event, Observer};
use crate::quantize::outcome::Quantized;
use crate::quantize::{Layer, Quantize, kmeans, select_layers};
use crate::train::share_out;

/// Values of a codebook that sensitivities are measured with: errors large enough to measure, small enough for the
/// divergence to be proportional to them.
const VALUES: usize = 9;
/// Inputs that they are measured on, about.
const IMAGES: usize = 32;

/// Divergence of the outputs for each unit of a layer's squared error: each layer alone is moved onto its optimal codebook of
/// [`VALUES`] values, and the outputs are compared with the float network's (mean KL divergence; for outputs that are no
/// classes the squared relative difference). The layers are shared out over the processes.
///
/// # Errors
/// Those of clustering and of networks that cannot run.
pub(super) fn slopes(
    graph: &Graph,
    settings: &Quantize,
    layers: &[LayerWidths],
    context: &Context<'_>,
    inputs: &dyn Inputs,
    observer: &mut dyn Observer,
) -> Result<Vec<f64>, CompressError> {
    let settings = Quantize { bits: 4, codebook_size: Some(VALUES), budget: None, ..settings.clone() };
    let selected = select_layers(graph, &settings)?;
    let reference = Reference::new(graph, inputs, IMAGES, context.isa)?;
    let (of, size, mut done) = (layers.len(), context.reducer.size(), 0);
    let slopes = share_out(context.reducer, of, |i| {
        let layer = &layers[i];
        let own: Vec<Layer> = selected.iter().filter(|l| l.weight == layer.weight).cloned().collect();
        let mut moved = graph.clone();
        let how = settings.method.sharing(settings.corrects());
        // Each process is at other layers: together they stop where the slopes are done.
        kmeans::share(&mut moved, &own, None, how, &mut |_, _| match size == 1 && observer.stop() {
            true => Err(CompressError::Interrupted),
            false => Ok(()),
        })?;
        let before = graph.weights[&layer.weight].tensor.to_f32().unwrap_or_default();
        let after = moved.weights[&layer.weight].tensor.to_f32().unwrap_or_default();
        let error: f64 = before.iter().zip(after.iter()).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let rise = reference.divergence(&moved, context.isa)?.max(1e-12);
        done = (done + size).min(of);
        observer.on(&Event::Measuring { done, of });
        Ok([rise / error.max(f64::MIN_POSITIVE)])
    })?;
    Ok(slopes.into_iter().map(|[slope]| slope).collect())
}

/// Agreement with the float network as an accuracy: the share of inputs whose largest output is the same.
///
/// # Errors
/// [`CompressError::Budget`] for outputs that are no classes.
pub(super) fn agreement(done: &Quantized) -> Result<Accuracy, CompressError> {
    let damage = done.report.damage.as_ref();
    let Some((damage, top1)) = damage.and_then(|d| Some((d, d.agreement?))) else {
        let reason = "a drop of accuracy without labels is a loss of agreement, and the network's outputs are no classes; \
                      use --target-size";
        return Err(CompressError::Budget { reason: reason.into() });
    };
    let loss = damage.kl.unwrap_or(0.0);
    Ok(Accuracy { top1, top5: None, loss, images: damage.images, unlabelled: true })
}
