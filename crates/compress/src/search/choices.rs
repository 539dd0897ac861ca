//! What widths the layers of a network may take: as settings, as trials, and what they cost.

use slq_graph::Graph;

use super::outputs;
use super::tries::Tries;
use super::widths::{LayerWidths, total_bytes, widths};
use crate::context::Context;
use crate::error::CompressError;
use crate::inputs::Origin;
use crate::progress::Trial;
use crate::quantize::{LayerRule, Quantize, Sensitivity, SensitivityOptions, sensitivity};
use crate::size::Size;

/// The layers of a network, and what lies around them.
pub(super) struct Choices {
    pub(super) layers: Vec<LayerWidths>,
    /// Bytes of everything that is not quantized.
    pub(super) floats: u64,
}

impl Choices {
    /// Those of the layers that `settings` select.
    pub(super) fn new(graph: &Graph, settings: &Quantize) -> Result<Self, CompressError> {
        let layers = widths(graph, settings)?;
        let quantized = layers.iter().map(|l| 4 * graph.weights[&l.weight].tensor.len() as u64);
        let floats = Size::of(graph).dense_bytes - quantized.sum::<u64>();
        Ok(Self { layers, floats })
    }

    /// Expected rise of the loss for each unit of squared error, layer by layer.
    pub(super) fn slopes(
        &self,
        tries: &mut Tries<'_>,
        table: Option<&Sensitivity>,
    ) -> Result<Vec<f64>, CompressError> {
        let Some(data) = tries.training_part() else {
            if let Some(inputs) = tries.context.inputs.filter(|i| i.origin() == Origin::Given) {
                let (settings, layers) = (&tries.settings, &self.layers);
                return outputs::slopes(
                    &tries.graph,
                    settings,
                    layers,
                    &tries.context,
                    inputs,
                    tries.observer,
                );
            }
            // With neither data nor inputs: errors relative to the layer's energy count the same everywhere.
            return Ok(self.layers.iter().map(|l| 1.0 / l.energy.max(f64::MIN_POSITIVE)).collect());
        };
        let table = match table.map_or_else(|| tries.dir.table(), |t| Ok(Some(t.clone())))? {
            Some(table) => table,
            None => {
                // Nine values: errors large enough to measure and small enough for the rise to be proportional to them.
                let settings = Quantize { bits: 4, codebook_size: Some(9), ..tries.settings.clone() };
                let Context { seed, isa, reducer, .. } = tries.context;
                let how = SensitivityOptions { clusters: false, isa, reducer, ..Default::default() };
                let table = sensitivity(&tries.graph, &data, &settings, seed, how, tries.observer)?;
                tries.dir.keep_table(&table)?;
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

    /// The settings that give each layer its width.
    pub(super) fn settings_for(&self, settings: &Quantize, allocation: &[usize]) -> Quantize {
        let mut settings = settings.clone();
        settings.bits = 2.max(settings.lowest_bits());
        for (layer, &i) in self.layers.iter().zip(allocation) {
            let bits = layer.widths[i].bits;
            settings.bits = settings.bits.max(bits);
            if !layer.ruled {
                settings
                    .layers
                    .push(LayerRule { pattern: glob::Pattern::escape(&layer.weight), bits: Some(bits) });
            }
        }
        settings
    }

    /// A trial of an allocation, not made yet.
    pub(super) fn trial(&self, label: &str, allocation: &[usize]) -> Trial {
        let chosen = self.layers.iter().zip(allocation).filter(|(l, _)| !l.ruled);
        Trial {
            label: label.into(),
            widths: chosen.map(|(l, &i)| (l.weight.clone(), l.widths[i].bits)).collect(),
            stored_bytes: self.floats + total_bytes(&self.layers, allocation),
            validation: None,
            rate: None,
            fits: true,
            seconds: 0.0,
        }
    }
}
