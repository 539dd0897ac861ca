//! How much the loss rises when a cluster, or a layer, is quantized: measured and estimated, layer by layer.
//!
//! Both figures come with a standard error, from the spread over batches of held-out images: the measured rise is a
//! mean of differences on the same images, so that a few hundred of them suffice, and a test ends as soon as its
//! standard error is small. The estimate is the expansion of the loss to second order, g d + F d^2 / 2 summed over the
//! cluster, with the Fisher diagonal F for the Hessian; all clusters' estimates cost one pass of gradients.

mod measure;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use slq_data::Portion;
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa};
use slq_graph::Graph;

use super::clustering::cluster;
use super::select::select_layers;
use super::settings::Quantize;
use super::state::LayerState;
use crate::error::CompressError;
use crate::progress::{Event, Observer};
use crate::quantize::slq::SlqSettings;
use crate::train::{HeldOut, TrainingData, check_fit};
pub use measure::Estimate;
use measure::{Base, LayerEstimates, base_losses, estimate, measure};

/// One cluster of a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterSensitivity {
    /// Its centroid (of the first codebook, where the layer has several).
    pub centroid: f32,
    /// Its members.
    pub count: usize,
    /// Measured rise of the loss when it alone is quantized.
    pub rise: Estimate,
    /// The same to second order.
    pub taylor: Estimate,
    /// Held-out images that the measurement took.
    pub images: usize,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerSensitivity {
    /// Name of the weight.
    pub weight: String,
    /// Weights in it.
    pub count: usize,
    /// Centroids of a codebook (K).
    pub codebook_size: usize,
    /// Mean squared error of quantizing it.
    pub squared_error: f64,
    /// Measured rise of the loss when the whole layer is quantized.
    pub rise: Estimate,
    /// The same to second order.
    pub taylor: Estimate,
    /// Cluster by cluster; empty where only layers were asked for.
    pub clusters: Vec<ClusterSensitivity>,
}

/// A table of sensitivities.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Loss of the network as it is.
    pub loss: f64,
    /// Held-out images.
    pub images: usize,
    /// In execution order.
    pub layers: Vec<LayerSensitivity>,
}

/// How a table is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SensitivityOptions {
    /// Test every cluster, not only whole layers.
    pub clusters: bool,
    /// A test ends when its standard error is below this share of the rise, or of a thousandth of the loss where that is
    /// more; 0 uses all images.
    pub tolerance: f64,
    /// Instruction set.
    pub isa: Isa,
}

impl Default for SensitivityOptions {
    fn default() -> Self {
        Self { clusters: true, tolerance: 0.1, isa: Isa::detect() }
    }
}

/// Tests every layer that `settings` select, at its codebook size, on images held out of the training split.
///
/// # Errors
/// Those of settings, layers and data: see [`CompressError`].
pub fn sensitivity(
    graph: &Graph,
    data: &TrainingData,
    settings: &Quantize,
    seed: u64,
    options: SensitivityOptions,
    observer: &mut dyn Observer,
) -> Result<Sensitivity, CompressError> {
    settings.check()?;
    let layers = select_layers(graph, settings)?;
    let batch = settings.method.batch();
    let engine = EngineOptions { isa: options.isa, ..EngineOptions::default() };
    let mut executor = CpuExecutor::new(graph, batch, &engine)?;
    check_fit(&mut executor, &data.train, &data.transform)?;
    let (_, images) = data.parts(Portion::Count(settings.partition_images), seed)?;
    // Small batches: the standard error comes from their spread.
    let held_out = HeldOut::new(&images, &data.transform, (images.len() / 16).clamp(1, batch))?;
    let how = SlqSettings::default().clustering(seed);
    let states = layers
        .par_iter()
        .map(|layer| {
            let mut state = LayerState::from_graph(graph, layer, 0)?;
            cluster(&mut state, 0, true, None, &how)?;
            Ok(state)
        })
        .collect::<Result<Vec<_>, CompressError>>()?;
    let base = base_losses(&mut executor, &held_out)?;
    let estimates = estimate(&mut executor, &held_out, &states)?;
    let of = states.iter().map(|s| 1 + if options.clusters { s.layer.size } else { 0 }).sum();
    let mut tests = Tests { executor, held_out, base, options, observer, done: 0, of };
    let rows = states.iter().zip(estimates).map(|(state, estimates)| tests.layer(state, &estimates));
    let rows = rows.collect::<Result<_, CompressError>>()?;
    Ok(Sensitivity { loss: tests.base.mean(), images: images.len(), layers: rows })
}

/// Measurements on one network.
struct Tests<'a> {
    executor: CpuExecutor,
    held_out: HeldOut,
    base: Base,
    options: SensitivityOptions,
    observer: &'a mut dyn Observer,
    done: usize,
    of: usize,
}

impl Tests<'_> {
    /// Measures a layer as a whole and, where asked for, cluster by cluster.
    fn layer(
        &mut self,
        state: &LayerState,
        estimates: &LayerEstimates,
    ) -> Result<LayerSensitivity, CompressError> {
        let shared = state.all_shared();
        let error: f64 =
            shared.iter().zip(&state.values).map(|(q, w)| (f64::from(*q) - f64::from(*w)).powi(2)).sum();
        let rise = self.test(state, &shared)?.0;
        let mut clusters = Vec::new();
        let tested = if self.options.clusters { state.layer.size } else { 0 };
        for cluster in 0..tested {
            let (rise, images) = self.test(state, &state.with_cluster_shared(cluster))?;
            clusters.push(ClusterSensitivity {
                centroid: state.centroids[cluster],
                count: state.codes.iter().filter(|&&c| usize::from(c) == cluster).count(),
                rise,
                taylor: estimates.clusters[cluster],
                images,
            });
        }
        Ok(LayerSensitivity {
            weight: state.layer.weight.clone(),
            count: state.layer.count,
            codebook_size: state.layer.size,
            squared_error: error / state.layer.count.max(1) as f64,
            rise,
            taylor: estimates.whole,
            clusters,
        })
    }

    /// The rise of the loss with `values` in place of the layer's weights, and the images it took.
    fn test(&mut self, state: &LayerState, values: &[f32]) -> Result<(Estimate, usize), CompressError> {
        let weight = &state.layer.weight;
        self.executor.set_parameter(weight, values)?;
        let measured = measure(&mut self.executor, &self.held_out, &self.base, self.options.tolerance)?;
        self.executor.set_parameter(weight, &state.values)?;
        self.done += 1;
        self.observer.on(&Event::Measuring { done: self.done, of: self.of });
        Ok(measured)
    }
}
