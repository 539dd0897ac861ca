//! How much the loss rises when a cluster, or a layer, is quantized: measured and estimated, layer by layer.
//!
//! Both figures come with an error bar, from the spread over batches of calibration images: the measured rise is a
//! mean of differences on the same images, which is why a few hundred of them suffice, and a test ends as soon as
//! its error bar is small. The estimate is the expansion of the loss to second order, g d + F d^2 / 2 summed over the
//! cluster, with the Fisher diagonal F for the Hessian; all clusters' estimates cost one pass of gradients.

mod fisher;
mod measure;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use slq_data::Portion;
use slq_engine::{CpuExecutor, EngineOptions, Executor, Isa};
use slq_graph::Graph;

use crate::calibration::Calibration;
use crate::error::CompressError;
use crate::layers::select_layers;
use crate::observer::{Event, Observer};
use crate::settings::Settings;
use crate::slq::{LayerState, cluster};
use crate::training::{TrainingData, check_fit};
pub(crate) use fisher::{Importance, importance, importance_of};
use measure::{base_losses, estimate, measure};

/// A mean over calibration images with the standard error of that mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// Its standard error; infinite for a single batch.
    #[serde(with = "finite_or_null")]
    pub error: f64,
}

/// JSON has no infinity: null stands for it.
mod finite_or_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
        value.is_finite().then_some(*value).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        Ok(Option::deserialize(from)?.unwrap_or(f64::INFINITY))
    }
}

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
    /// Calibration images that the measurement took.
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

/// The table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sensitivity {
    /// Loss of the network as it is.
    pub loss: f64,
    /// Calibration images.
    pub images: usize,
    /// In execution order.
    pub layers: Vec<LayerSensitivity>,
}

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SensitivityOptions {
    /// Test every cluster, not only whole layers.
    pub clusters: bool,
    /// A test ends when its error bar falls below this share of the rise, or of a thousandth of the loss where that is
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

/// Tests every layer that `settings` selects, at its codebook size, on images taken out of the training split.
///
/// # Errors
/// What [`crate::compress`] reports for settings, layers and data.
pub fn sensitivity(
    graph: &Graph,
    data: &TrainingData,
    settings: &Settings,
    options: SensitivityOptions,
    observer: &mut dyn Observer,
) -> Result<Sensitivity, CompressError> {
    settings.check()?;
    let layers = select_layers(graph, settings)?;
    let engine = EngineOptions { isa: options.isa, ..EngineOptions::default() };
    let mut executor = CpuExecutor::new(graph, settings.training.batch, &engine)?;
    check_fit(&mut executor, &data.train, &data.transform)?;
    let (_, held_out) =
        data.train.split_off_validation(Portion::Count(settings.calibration), settings.seed)?;
    // Small batches: the error bar comes from their spread.
    let batch = (held_out.len() / 16).clamp(1, settings.training.batch);
    let calibration = Calibration::new(&held_out, &data.transform, batch)?;
    let states = layers
        .par_iter()
        .map(|layer| {
            let mut state = LayerState::from_graph(graph, layer, 0)?;
            cluster(&mut state, 0, true, None, settings)?;
            Ok(state)
        })
        .collect::<Result<Vec<_>, CompressError>>()?;
    let base = base_losses(&mut executor, &calibration)?;
    let estimates = estimate(&mut executor, &calibration, &states)?;
    let tests = states.iter().map(|s| 1 + if options.clusters { s.layer.size } else { 0 }).sum();
    let mut done = 0;
    let mut rows = Vec::with_capacity(states.len());
    for (state, estimates) in states.iter().zip(estimates) {
        let weight = &state.layer.weight;
        let mut test = |values: &[f32], executor: &mut dyn Executor| {
            executor.set_parameter(weight, values)?;
            let measured = measure(executor, &calibration, &base, options.tolerance)?;
            executor.set_parameter(weight, &state.values)?;
            done += 1;
            observer.on(&Event::Measuring { done, of: tests });
            Ok::<_, CompressError>(measured)
        };
        let shared = state.all_shared();
        let error: f64 =
            shared.iter().zip(&state.values).map(|(q, w)| (f64::from(*q) - f64::from(*w)).powi(2)).sum();
        let rise = test(&shared, &mut executor)?.0;
        let mut clusters = Vec::new();
        for cluster in (0..state.layer.size).filter(|_| options.clusters) {
            let (rise, images) = test(&state.with_cluster_shared(cluster), &mut executor)?;
            clusters.push(ClusterSensitivity {
                centroid: state.centroids[cluster],
                count: state.codes.iter().filter(|&&c| usize::from(c) == cluster).count(),
                rise,
                taylor: estimates.clusters[cluster],
                images,
            });
        }
        rows.push(LayerSensitivity {
            weight: weight.clone(),
            count: state.layer.count,
            codebook_size: state.layer.size,
            squared_error: error / state.layer.count.max(1) as f64,
            rise,
            taylor: estimates.whole,
            clusters,
        });
    }
    Ok(Sensitivity { loss: base.mean(), images: held_out.len(), layers: rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_bar_without_a_second_batch_survives_json() {
        let estimate = Estimate { mean: 0.5, error: f64::INFINITY };
        let text = serde_json::to_string(&estimate).unwrap();
        assert_eq!(text, r#"{"mean":0.5,"error":null}"#);
        assert_eq!(serde_json::from_str::<Estimate>(&text).unwrap(), estimate);
    }
}
