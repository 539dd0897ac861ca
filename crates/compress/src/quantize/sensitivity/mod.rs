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
use slq_engine::{Executor, Isa};
use slq_graph::Graph;
use slq_reduce::{Alone, Reducer};

use super::clustering::cluster;
use super::guides::Guide;
use super::select::{select_layers, turned};
use super::settings::Quantize;
use super::state::LayerState;
use crate::checkpoint::Fingerprint;
use crate::context::Context;
use crate::error::CompressError;
use crate::progress::{Event, Observer};
use crate::quantize::slq::SlqSettings;
use crate::train::{HeldOut, TrainingData, check_fit, evaluator, share_out};
pub use measure::Estimate;
use measure::{LayerEstimates, base_losses, estimate, measure};

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
#[derive(Debug, Clone, Copy)]
pub struct SensitivityOptions<'a> {
    /// Test every cluster, not only whole layers.
    pub clusters: bool,
    /// A test ends when its standard error is below this share of the rise, or of a thousandth of the loss where that is
    /// more; 0 uses all images.
    pub tolerance: f64,
    /// Images at once; `None` for as many as in a step of the method's training. The standard errors come from the spread over
    /// batches, so that another number moves them, and with them when a test ends.
    pub batch: Option<usize>,
    /// Instruction set.
    pub isa: Isa,
    /// The processes that share the tests out.
    pub reducer: &'a dyn Reducer,
}

impl Default for SensitivityOptions<'_> {
    fn default() -> Self {
        Self { clusters: true, tolerance: 0.1, batch: None, isa: Isa::detect(), reducer: Alone::shared() }
    }
}

/// Tests every layer that `settings` select, at its codebook size, on images held out of the training split. The table is the
/// same on any number of processes.
///
/// # Errors
/// Those of settings, layers and data: see [`CompressError`]; [`CompressError::Processes`] where processes have other files.
pub fn sensitivity(
    graph: &Graph,
    data: &TrainingData,
    settings: &Quantize,
    seed: u64,
    options: SensitivityOptions<'_>,
    observer: &mut dyn Observer,
) -> Result<Sensitivity, CompressError> {
    settings.check()?;
    let reducer = options.reducer;
    if reducer.size() > 1 {
        let context = Context { data: Some(data), seed, ..Context::bare() };
        Fingerprint::new(graph, &context, settings)?.check_processes(reducer)?;
    }
    let graph = &turned(graph.clone(), settings)?;
    let layers = select_layers(graph, settings)?;
    let batch = options.batch.unwrap_or_else(|| settings.method.batch());
    let mut executor = evaluator(graph, batch, data, options.isa)?;
    check_fit(&mut executor, &data.train, &data.transform)?;
    let (_, images) = data.parts(Portion::Count(settings.partition_images), seed)?;
    // Small batches: the standard error comes from their spread.
    let held_out = HeldOut::new(&images, &data.transform, (images.len() / 16).clamp(1, batch))?;
    let how = SlqSettings::default().clustering(seed);
    let states = layers
        .par_iter()
        .map(|layer| {
            let mut state = LayerState::from_graph(graph, layer, 0)?;
            cluster(&mut state, 0, true, Guide::default(), &how)?;
            Ok(state)
        })
        .collect::<Result<Vec<_>, CompressError>>()?;
    let base = base_losses(&mut executor, &held_out, reducer)?;
    let estimates = estimate(&mut executor, (&held_out, reducer), &states)?;
    // Each layer as a whole and, where asked for, cluster by cluster.
    let clusters = |s: &LayerState| if options.clusters { s.layer.size } else { 0 };
    let tests: Vec<(usize, Option<usize>)> = states
        .iter()
        .enumerate()
        .flat_map(|(l, s)| std::iter::once((l, None)).chain((0..clusters(s)).map(move |c| (l, Some(c)))))
        .collect();
    let (of, size, mut done) = (tests.len(), reducer.size(), 0);
    let found = share_out(reducer, of, |test| {
        let (layer, cluster) = tests[test];
        let state = &states[layer];
        let values = cluster.map_or_else(|| state.all_shared(), |c| state.with_cluster_shared(c));
        executor.set_parameter(&state.layer.weight, &values)?;
        let (rise, images) = measure(&mut executor, &held_out, &base, options.tolerance)?;
        executor.set_parameter(&state.layer.weight, &state.values)?;
        done = (done + size).min(of);
        observer.on(&Event::Measuring { done, of });
        Ok([rise.mean, rise.error, images as f64])
    })?;
    let mut found =
        found.into_iter().map(|[mean, error, images]| (Estimate { mean, error }, images as usize));
    let rows = states.iter().zip(estimates).map(|(s, estimates)| row(s, &estimates, clusters(s), &mut found));
    Ok(Sensitivity { loss: base.mean(), images: images.len(), layers: rows.collect() })
}

/// A layer's row from its tests, which `found` gives in order, with the images that each took.
fn row(
    state: &LayerState,
    estimates: &LayerEstimates,
    clusters: usize,
    found: &mut impl Iterator<Item = (Estimate, usize)>,
) -> LayerSensitivity {
    let none = (Estimate { mean: f64::NAN, error: f64::INFINITY }, 0);
    let shared = state.all_shared();
    let error: f64 =
        shared.iter().zip(&state.values).map(|(q, w)| (f64::from(*q) - f64::from(*w)).powi(2)).sum();
    let rise = found.next().unwrap_or(none).0;
    let cluster = |cluster: usize| {
        let (rise, images) = found.next().unwrap_or(none);
        ClusterSensitivity {
            centroid: state.centroids[cluster],
            count: state.codes.iter().filter(|&&c| usize::from(c) == cluster).count(),
            rise,
            taylor: estimates.clusters[cluster],
            images,
        }
    };
    LayerSensitivity {
        weight: state.layer.weight.clone(),
        count: state.layer.count,
        codebook_size: state.layer.size,
        squared_error: error / state.layer.count.max(1) as f64,
        rise,
        taylor: estimates.whole,
        clusters: (0..clusters).map(cluster).collect(),
    }
}

#[cfg(test)]
mod tests {
    use slq_data::{Split, Transform};

    use super::*;

    #[test]
    fn the_table_is_the_same_from_any_number_of_processes() {
        let pixels: Vec<u8> = (0..64 * 784u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let images = Split::from_bytes(pixels, (0..64).map(|i| i % 10).collect(), [1, 28, 28]).unwrap();
        let data = TrainingData {
            train: images.clone(),
            validation: None,
            test: images,
            transform: Transform::default(),
            following: None,
        };
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let settings = Quantize { partition_images: 32, ..Quantize::slq(2) };
        let table = |reducer: &dyn Reducer| {
            let how = SensitivityOptions { reducer, ..Default::default() };
            sensitivity(&graph, &data, &settings, 0, how, &mut crate::progress::Silent).unwrap()
        };
        let wanted = table(Alone::shared());
        assert!(wanted.layers.iter().all(|l| l.clusters.len() == l.codebook_size && l.rise.mean.is_finite()));
        std::thread::scope(|scope| {
            for rank in slq_reduce::threads(3) {
                let (table, wanted) = (&table, &wanted);
                scope.spawn(move || assert_eq!(table(&rank), *wanted));
            }
        });
    }
}
