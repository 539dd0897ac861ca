//! Widths: what each layer may take, and the best choice within a number of bytes.

use rayon::prelude::*;
use slq_codebook::{Algorithm, ClusterParams, Clustering, cluster_groups, error_curve, even_groups};
use slq_graph::Graph;

use crate::allocation::{self, Choice};
use crate::error::CompressError;
use crate::quantize::{Layer, Quantize, select_layers};

/// Above so many weights the certified fast clustering estimates an error.
const EXACT_LIMIT: usize = 4_000_000;

/// One width of one layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Width {
    /// Bits as in [`Quantize::bits`].
    pub(crate) bits: u8,
    /// Bytes of codes and codebooks.
    pub(crate) bytes: u64,
    /// Squared error of the optimal codebook of that size, summed over the layer.
    pub(crate) error: f64,
}

/// The widths of one layer, each larger in bytes and smaller in error than the one before.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LayerWidths {
    pub(crate) weight: String,
    /// Sum of squares of the weights.
    pub(crate) energy: f64,
    pub(crate) widths: Vec<Width>,
    /// Whether a rule gives the layer its one width.
    pub(crate) ruled: bool,
}

/// What every selected layer may take, from the narrowest width of the method to 8 bits; a layer with a rule of its own
/// has one choice.
///
/// # Errors
/// As [`select_layers`]; [`CompressError::Cluster`] for weights that cannot be clustered.
pub(crate) fn widths(graph: &Graph, settings: &Quantize) -> Result<Vec<LayerWidths>, CompressError> {
    let lowest = settings.lowest_bits();
    let by_bits = (lowest..=8)
        .map(|bits| {
            let settings = Quantize { bits, codebook_size: None, ..settings.clone() };
            Ok((bits, select_layers(graph, &settings)?))
        })
        .collect::<Result<Vec<_>, CompressError>>()?;
    // A layer that a wide codebook would make larger has the narrower ones alone.
    let mut weights: Vec<&str> = Vec::new();
    for layer in by_bits.iter().flat_map(|(_, layers)| layers) {
        if !weights.contains(&layer.weight.as_str()) {
            weights.push(&layer.weight);
        }
    }
    weights
        .into_par_iter()
        .map(|weight| {
            let own = |(bits, all): &'_ (u8, Vec<Layer>)| {
                all.iter().find(|l| l.weight == weight).map(|layer| (*bits, layer.clone()))
            };
            let mut sizes: Vec<(u8, Layer)> = by_bits.iter().filter_map(own).collect();
            let everywhere = sizes.len() == by_bits.len();
            sizes.dedup_by_key(|(_, layer)| (layer.size, layer.groups));
            let ruled = everywhere && sizes.len() == 1;
            let values = graph.weights[&sizes[0].1.weight].tensor.as_f32().unwrap_or_default();
            let errors = errors(values, &sizes)?;
            let all = sizes.iter().zip(errors).map(|((bits, layer), error)| Width {
                bits: *bits,
                bytes: bytes(layer),
                error,
            });
            let mut widths: Vec<Width> = Vec::new();
            for width in all {
                // A width that takes more bytes without a smaller error is left out.
                if widths.last().is_none_or(|last| width.bytes > last.bytes && width.error < last.error) {
                    widths.push(width);
                }
            }
            let energy = values.iter().map(|v| f64::from(*v).powi(2)).sum();
            Ok(LayerWidths { weight: weight.into(), energy, widths, ruled })
        })
        .collect()
}

/// Bytes that a fully fixed layer is stored in.
pub(crate) fn bytes(layer: &Layer) -> u64 {
    layer.stored_bytes() as u64
}

fn errors(values: &[f32], sizes: &[(u8, Layer)]) -> Result<Vec<f64>, CompressError> {
    let named = |source| CompressError::Cluster { layer: sizes[0].1.weight.clone(), source };
    let largest = sizes.iter().map(|(_, l)| l.size).max().unwrap_or(1);
    if sizes.iter().all(|(_, l)| l.groups == 1) && values.len() <= EXACT_LIMIT {
        let curve = error_curve(values, largest).map_err(named)?;
        let at = |size: usize| curve.get(size - 1).or(curve.last()).copied().unwrap_or(0.0);
        return Ok(sizes.iter().map(|(_, l)| at(l.size)).collect());
    }
    let algorithm = if values.len() > EXACT_LIMIT { Algorithm::Fast } else { Algorithm::Exact };
    let error = |layer: &Layer| {
        let params = ClusterParams::builder(layer.size).algorithm(algorithm).build().map_err(named)?;
        let groups = even_groups(values.len(), values.len() / layer.groups);
        let found: Vec<Clustering<u8>> = cluster_groups(values, &groups, &params).map_err(named)?;
        Ok(found.iter().map(|c| c.sse).sum())
    };
    sizes.iter().map(|(_, layer)| error(layer)).collect()
}

/// A width for every layer.
pub(crate) type Allocation = Vec<usize>;

/// Bytes of all layers under an allocation.
pub(crate) fn total_bytes(layers: &[LayerWidths], allocation: &[usize]) -> u64 {
    layers.iter().zip(allocation).map(|(l, &i)| l.widths[i].bytes).sum()
}

/// The allocation within `target` bytes whose expected rise of the loss, the sum of slope x error over the layers, is
/// smallest. `None` where not even the narrowest widths fit.
pub(crate) fn allocate(layers: &[LayerWidths], slopes: &[f64], target: u64) -> Option<Allocation> {
    let choices = |(layer, slope): (&LayerWidths, &f64)| -> Vec<Choice> {
        layer.widths.iter().map(|w| Choice { cost: w.bytes, error: slope * w.error }).collect()
    };
    let items: Vec<Vec<Choice>> = layers.iter().zip(slopes).map(choices).collect();
    allocation::allocate(&items, target).ok()
}

/// The same number of bits everywhere (where a layer has that choice), the most that fit.
pub(crate) fn uniform(layers: &[LayerWidths], target: u64) -> Option<Allocation> {
    let at = |bits: u8| -> Allocation {
        let place = |l: &LayerWidths| l.widths.partition_point(|w| w.bits <= bits).saturating_sub(1);
        layers.iter().map(place).collect()
    };
    (1..=8).rev().map(at).find(|a| total_bytes(layers, a) <= target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::choices::Choices;
    use super::*;
    use crate::context::Context;
    use crate::quantize::Granularity;
    use crate::quantize::stage::quantize;

    fn layer(points: &[(u64, f64)]) -> LayerWidths {
        let width = |(i, &(bytes, error)): (usize, &(u64, f64))| Width { bits: i as u8 + 1, bytes, error };
        let widths = points.iter().enumerate().map(width).collect();
        LayerWidths { weight: "w".into(), energy: 1.0, widths, ruled: false }
    }

    #[test]
    fn sensitive_layers_get_the_bytes() {
        let layers = [layer(&[(10, 8.0), (20, 2.0), (30, 1.0)]), layer(&[(10, 8.0), (20, 2.0), (30, 1.0)])];
        assert_eq!(allocate(&layers, &[1.0, 1.0], 19), None);
        assert_eq!(allocate(&layers, &[1.0, 1.0], 20), Some(vec![0, 0]));
        assert_eq!(allocate(&layers, &[1.0, 100.0], 40), Some(vec![0, 2]));
        assert_eq!(allocate(&layers, &[1.0, 1.0], 40), Some(vec![1, 1]));
        assert_eq!(allocate(&layers, &[1.0, 1.0], 1000), Some(vec![2, 2]));
        assert_eq!(uniform(&layers, 45), Some(vec![1, 1]));
        assert_eq!(uniform(&layers, 5), None);
    }

    #[test]
    fn predicted_bytes_are_those_that_are_stored() {
        let graph = slq_zoo::build("lenet", 2).unwrap();
        let context = Context::bare();
        for granularity in [Granularity::Tensor, Granularity::Channel] {
            let settings = Quantize::kmeans(8).granularity(granularity);
            let layers = widths(&graph, &settings).unwrap();
            assert_eq!(layers.len(), 4);
            let narrowest = Quantize { bits: settings.lowest_bits(), ..settings };
            let shared = quantize(graph.clone(), &narrowest, context, &mut crate::Silent).unwrap();
            let floats = 4 * (431_080 - 430_500);
            assert_eq!(shared.report.size.stored_bytes, floats + total_bytes(&layers, &[0; 4]));
            assert!(layers.iter().all(|l| l.widths.windows(2).all(|p| p[1].error < p[0].error)));
        }
    }

    #[test]
    fn a_layer_that_wide_codebooks_would_make_larger_has_narrow_ones_and_a_rule_stays() {
        let mut graph = slq_graph::Graph::default();
        let shapes =
            [("large", vec![64, 16, 3, 3]), ("small", vec![20, 1, 3, 3]), ("ruled", vec![64, 16, 3, 3])];
        for (place, (name, shape)) in shapes.iter().enumerate() {
            let count = shape.iter().product::<usize>();
            let values = (0..count).map(|i| ((i * 37 + place) % 1009) as f32 / 500.0 - 1.0).collect();
            graph
                .weights
                .insert((*name).into(), slq_graph::Tensor::f32(shape.clone(), values).unwrap().into());
            graph.nodes.push(slq_graph::Node::new(name, "Conv", &["x", name], &[name]));
        }
        let settings = Quantize::calibrate(8).layer("ruled", 3);
        let choices = Choices::new(&graph, &settings).unwrap();
        let of = |name: &str| choices.layers.iter().find(|l| l.weight == name).unwrap();
        assert_eq!(of("large").widths.last().unwrap().bits, 8);
        // 180 weights: floats take 720 bytes, 128 values and codes of 7 bits 670, 180 values and 8 bits 900.
        assert_eq!((of("small").widths.last().unwrap().bits, of("small").ruled), (7, false));
        assert_eq!((of("ruled").widths.len(), of("ruled").ruled), (1, true));
        let widest: Vec<usize> = choices.layers.iter().map(|l| l.widths.len() - 1).collect();
        let settings = choices.settings_for(&settings, &widest);
        let layers = select_layers(&graph, &settings).unwrap();
        assert_eq!(layers.iter().map(|l| l.size).collect::<Vec<_>>(), [256, 128, 8]);
        assert_eq!(layers.iter().map(bytes).sum::<u64>(), total_bytes(&choices.layers, &widest));
        assert_eq!(choices.floats, 0);
    }

    proptest! {
        #[test]
        fn an_allocation_fits_and_leaves_no_room_for_a_better_width(
            shapes in proptest::collection::vec(proptest::collection::vec((1u64..50, 0.1f64..10.0), 1..5), 1..5),
            room in 0u64..300,
        ) {
            let layers: Vec<LayerWidths> = shapes.iter().map(|steps| {
                let (mut bytes, mut error) = (0, 100.0);
                let points: Vec<(u64, f64)> = steps.iter().map(|(b, e)| { bytes += b; error -= e; (bytes, error) }).collect();
                layer(&points)
            }).collect();
            let slopes = vec![1.0; layers.len()];
            let least = total_bytes(&layers, &vec![0; layers.len()]);
            let found = allocate(&layers, &slopes, least + room).unwrap();
            let spent = total_bytes(&layers, &found);
            prop_assert!(spent <= least + room);
            for (layer, &i) in layers.iter().zip(&found) {
                for wider in &layer.widths[i + 1..] {
                    prop_assert!(spent + wider.bytes - layer.widths[i].bytes > least + room);
                }
            }
        }
    }
}
