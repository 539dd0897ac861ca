//! INQ: incremental network quantization (Zhou et al., ICLR 2017, arXiv 1702.03044).
//!
//! The levels of a layer, zero and powers of two, follow from its largest magnitude and stay. Each round fixes a
//! portion of the weights, the largest that are still free, to their levels; the rest is re-trained.

mod portions;
mod settings;

use rayon::prelude::*;
use slq_codebook::{inq_assign, inq_levels};
use slq_graph::Graph;

pub use settings::InqSettings;

use super::layer::Layer;
use super::rounds::{RoundContext, Rounds};
use super::state::{LayerState, store_palette};
use crate::error::CompressError;
use portions::{check_portions, count, default_portions};

/// Layers and portions; levels and fixed weights are in the palettes.
#[derive(Debug)]
pub(crate) struct Inq {
    layers: Vec<Layer>,
    portions: Vec<f64>,
}

impl Inq {
    /// Prepares INQ on `layers`.
    ///
    /// # Errors
    /// [`CompressError::Setting`] for portions that do not rise to 1, or a codebook size that is not 2^n + 1.
    pub(crate) fn new(settings: &InqSettings, bits: u8, layers: Vec<Layer>) -> Result<Self, CompressError> {
        if let Some(layer) = layers.iter().find(|l| !(l.size - 1).is_power_of_two() || l.size > 129) {
            let reason = format!("inq takes 2^n + 1 values (3, 5, 9, 17 … 129), not {}", layer.size);
            return Err(CompressError::Setting { name: "codebook-size", reason });
        }
        let portions = settings.portions.clone().unwrap_or_else(|| default_portions(bits));
        check_portions(&portions)?;
        Ok(Self { layers, portions })
    }
}

impl Rounds for Inq {
    fn rounds(&self) -> usize {
        self.portions.len()
    }

    fn share(&mut self, round: usize, context: &mut RoundContext<'_>) -> Result<Vec<String>, CompressError> {
        let graph = &*context.graph;
        let portion = self.portions[round];
        let states = self
            .layers
            .par_iter()
            .map(|layer| advanced(graph, layer, round, portion))
            .collect::<Result<Vec<_>, CompressError>>()?;
        for state in &states {
            store_palette(context.graph, &state.layer.weight, state.to_palette()?);
        }
        Ok(states.into_iter().map(|s| s.layer.weight).collect())
    }
}

/// One layer after a round: free weights have their present level for a code, the largest are fixed to it.
fn advanced(graph: &Graph, layer: &Layer, round: usize, portion: f64) -> Result<LayerState, CompressError> {
    let mut state = LayerState::from_graph(graph, layer, round)?;
    let named = |source| CompressError::Cluster { layer: layer.weight.clone(), source };
    let (run, size) = (state.group_len(), layer.size);
    // K = 2^(b-1) + 1.
    let bits = (size - 1).ilog2() + 1;
    for group in 0..layer.groups {
        let (weights, book) = (group * run..(group + 1) * run, group * size..(group + 1) * size);
        let values = &state.values[weights.clone()];
        if round == 0 {
            let largest = values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            state.centroids[book.clone()].copy_from_slice(&inq_levels(largest, bits).map_err(named)?);
        }
        let codes = inq_assign::<u8>(values, &state.centroids[book]).map_err(named)?;
        for (place, code) in weights.zip(codes) {
            if !state.fixed[place] {
                state.codes[place] = code;
            }
        }
    }
    fix_largest(&mut state, count(portion, layer.count));
    Ok(state)
}

/// Fixes the largest free weights until `wanted` are fixed; of equal ones those that come first.
fn fix_largest(state: &mut LayerState, wanted: usize) {
    let fixed = state.fixed.iter().filter(|&&f| f).count();
    let mut free: Vec<usize> = (0..state.values.len()).filter(|&i| !state.fixed[i]).collect();
    let values = &state.values;
    free.sort_by(|&a, &b| values[b].abs().total_cmp(&values[a].abs()).then(a.cmp(&b)));
    for &place in free.iter().take(wanted.saturating_sub(fixed)) {
        state.fixed[place] = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::choices::Granularity;
    use crate::quantize::select::select_layers;
    use crate::quantize::settings::Quantize;

    #[test]
    fn the_largest_weights_are_fixed_to_powers_of_two_and_stay() {
        let mut graph = slq_zoo::build("lenet", 1).unwrap();
        let settings = Quantize::inq(3).granularity(Granularity::Group(10));
        let layers = select_layers(&graph, &settings).unwrap();
        let layer = &layers[1];
        let before = graph.weights[&layer.weight].tensor.as_f32().unwrap().to_vec();
        let state = advanced(&graph, layer, 0, 0.5).unwrap();
        let smallest_fixed = (0..before.len()).filter(|&i| state.fixed[i]).map(|i| before[i].abs());
        let largest_free = (0..before.len()).filter(|&i| !state.fixed[i]).map(|i| before[i].abs());
        assert!(smallest_fixed.fold(f32::MAX, f32::min) >= largest_free.fold(0.0, f32::max));
        assert!(state.centroids.iter().all(|&c| c == 0.0 || c.to_bits() & 0x7f_ffff == 0));
        store_palette(&mut graph, &layer.weight, state.to_palette().unwrap());
        // What is still free moves; what is fixed keeps its level, whatever the largest magnitude is now.
        let values = graph.weights[&layer.weight].tensor.as_f32_mut().unwrap();
        (0..values.len()).filter(|&i| !state.fixed[i]).for_each(|i| values[i] *= 3.0);
        let next = advanced(&graph, layer, 1, 1.0).unwrap();
        assert_eq!(next.centroids, state.centroids);
        assert!(next.fixed.iter().all(|&f| f));
        assert!((0..before.len()).filter(|&i| state.fixed[i]).all(|i| next.codes[i] == state.codes[i]));
    }

    #[test]
    fn sizes_that_no_bits_give_are_refused() {
        let graph = slq_zoo::build("lenet", 1).unwrap();
        for (size, fits) in [(3, true), (17, true), (129, true), (4, false), (7, false), (256, false)] {
            let settings = Quantize { codebook_size: Some(size), ..Quantize::inq(4) };
            let layers = select_layers(&graph, &settings).unwrap();
            assert_eq!(Inq::new(&InqSettings::default(), 4, layers).is_ok(), fits, "{size}");
        }
    }
}
