//! Deep Compression (Han, Mao, Dally, ICLR 2016): pruning, shared values for what is left,
//! training of those values. The third stage, entropy coding, is the size estimate of every report.
//!
//! Pruning is gradual: the share of zeros rises along a cubic (Zhu and Gupta, "To prune, or not to prune", 2017), with
//! re-training in between. A pruned weight is one that is fixed to cluster 0, at zero. The last round clusters the
//! survivors and trains the centroids.

mod pruning;
mod settings;

use rayon::prelude::*;
use slq_codebook::{ClusterParams, Clustering, cluster, cluster_weighted};
use slq_graph::{Graph, Palette};

pub use settings::{DeepCompressionSettings, PruneRule};

use super::layer::Layer;
use super::rounds::{RoundContext, Rounds, Trains};
use super::state::store_palette;
use crate::error::CompressError;
use pruning::{Scored, prune, pruned, sparsity_after};

/// Settings and layers; which weights are pruned is in the palettes.
#[derive(Debug)]
pub(crate) struct DeepCompression {
    settings: DeepCompressionSettings,
    layers: Vec<Layer>,
}

impl DeepCompression {
    pub(crate) fn new(settings: &DeepCompressionSettings, layers: Vec<Layer>) -> Self {
        Self { settings: settings.clone(), layers }
    }

    /// Prunes further, over all layers at once.
    fn prune(&self, round: usize, graph: &mut Graph) -> Result<(), CompressError> {
        let mut scored: Vec<Scored> = self.layers.iter().map(|l| Scored::new(graph, l, round > 0)).collect();
        prune(&mut scored, sparsity_after(round, &self.settings), self.settings.prune_by);
        for (layer, scored) in self.layers.iter().zip(scored) {
            let codes = vec![0; layer.count];
            let palette = Palette::new(vec![0.0], 1, codes, scored.pruned)?;
            store_palette(graph, &layer.weight, palette);
        }
        Ok(())
    }
}

impl Rounds for DeepCompression {
    fn rounds(&self) -> usize {
        self.settings.prune_steps + 1
    }

    fn share(&mut self, round: usize, context: &mut RoundContext<'_>) -> Result<Vec<String>, CompressError> {
        if round < self.settings.prune_steps {
            self.prune(round, context.graph)?;
        } else {
            let (graph, guides, continued) = (&*context.graph, context.guides, round > 0);
            let palettes = self
                .layers
                .par_iter()
                .map(|layer| shared(graph, layer, continued, guides.of(&layer.weight).importance))
                .collect::<Result<Vec<_>, CompressError>>()?;
            for (layer, palette) in self.layers.iter().zip(palettes) {
                store_palette(context.graph, &layer.weight, palette);
            }
        }
        Ok(self.layers.iter().map(|l| l.weight.clone()).collect())
    }

    fn trains(&self, round: usize) -> Trains {
        if round < self.settings.prune_steps { Trains::Weights } else { Trains::Centroids }
    }
}

/// The palette of one layer: cluster 0 holds the pruned weights, the optimal codebook of the others has the rest.
fn shared(
    graph: &Graph,
    layer: &Layer,
    continued: bool,
    importance: Option<&[f32]>,
) -> Result<Palette, CompressError> {
    let values = graph.weights[&layer.weight].tensor.as_f32().unwrap_or_default();
    let is_pruned = pruned(graph, layer, continued);
    let run = (values.len() / layer.groups).max(1);
    let mut codebook = Vec::with_capacity(layer.groups * layer.size);
    let mut codes = Vec::with_capacity(values.len());
    for (start, is_pruned) in (0..values.len()).step_by(run).zip(is_pruned.chunks(run)) {
        let left = |all: &[f32]| -> Vec<f32> {
            let group = all[start..].iter().zip(is_pruned);
            group.filter(|(_, p)| !**p).map(|(v, _)| *v).collect()
        };
        let survivors = left(values);
        let k = (layer.size - 1).min(survivors.len());
        let mut book = vec![0.0];
        let mut found = Vec::new();
        if k > 0 {
            let named = |source| CompressError::Cluster { layer: layer.weight.clone(), source };
            let params = ClusterParams::new(k).map_err(named)?;
            let clustering: Result<Clustering<u8>, _> = match importance {
                Some(importance) => cluster_weighted(&survivors, &left(importance), &params),
                None => cluster(&survivors, &params),
            };
            let clustering = clustering.map_err(named)?;
            book.extend(&clustering.codebook);
            found = clustering.codes;
        }
        let last = book.last().copied().unwrap_or_default();
        book.resize(layer.size, last);
        codebook.extend(book);
        let mut found = found.into_iter();
        // Cluster 0 is for the pruned weights; survivors count from 1 (and are 0 where there is but one cluster).
        codes.extend(is_pruned.iter().map(|&p| if p { 0 } else { found.next().map_or(0, |c| c + 1) }));
    }
    Ok(Palette::fully_fixed(codebook, layer.groups, codes)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::choices::Granularity;
    use crate::quantize::select::select_layers;
    use crate::quantize::settings::Quantize;

    #[test]
    fn pruned_weights_become_cluster_zero_and_the_rest_its_own_codebook() {
        for granularity in [Granularity::Tensor, Granularity::Group(5)] {
            let selection = Quantize::deep_compression(3).granularity(granularity);
            let settings = DeepCompressionSettings {
                sparsity: 0.8,
                prune_steps: 2,
                ..DeepCompressionSettings::default()
            };
            let mut graph = slq_zoo::build("lenet", 1).unwrap();
            let layers = select_layers(&graph, &selection).unwrap();
            let method = DeepCompression::new(&settings, layers.clone());
            assert_eq!(method.rounds(), 3);
            let zeros = |graph: &Graph| -> usize {
                let zero = |l: &Layer| {
                    let values = graph.weights[&l.weight].tensor.as_f32().unwrap();
                    values.iter().filter(|v| **v == 0.0).count()
                };
                layers.iter().map(zero).sum()
            };
            method.prune(0, &mut graph).unwrap();
            // Half way along the cubic: 0.8 (1 - 1/8).
            assert_eq!(zeros(&graph), (430_500.0f64 * 0.7).round() as usize);
            method.prune(1, &mut graph).unwrap();
            assert_eq!(zeros(&graph), (430_500.0f64 * 0.8).round() as usize);
            for layer in &layers {
                let pruned = graph.weights[&layer.weight].palette.clone().unwrap();
                let palette = shared(&graph, layer, true, None).unwrap();
                assert_eq!(palette.codebook_size(), 8);
                assert!(palette.is_fully_fixed());
                for (&code, &was_pruned) in palette.codes().iter().zip(pruned.fixed()) {
                    assert_eq!(code == 0, was_pruned);
                }
            }
        }
    }

    #[test]
    fn a_layer_without_survivors_is_all_zero() {
        let mut graph = slq_zoo::build("lenet", 1).unwrap();
        let layer = &select_layers(&graph, &Quantize::deep_compression(5)).unwrap()[0];
        let all = Palette::fully_fixed(vec![0.0], 1, vec![0; layer.count]).unwrap();
        store_palette(&mut graph, &layer.weight, all);
        let palette = shared(&graph, layer, true, None).unwrap();
        assert!(palette.decode().iter().all(|&v| v == 0.0));
    }
}
