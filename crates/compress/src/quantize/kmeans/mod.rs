//! Plain weight sharing: the optimal 1-D k-means codebook of every layer, no data, no re-training.

mod settings;
mod steps;

use rayon::prelude::*;
use slq_codebook::{
    Algorithm, ClusterError, ClusterParams, Clustering, Start, assign, cluster_at_price,
    cluster_groups_weighted, coded_bits, even_groups, histogram, pow2_codebook, uniform_codebook,
};
use slq_graph::{Graph, Palette};

pub use settings::KmeansSettings;

use super::choices::CodebookKind;
use super::correction::{apply, corrections};
use super::importance::{Importance, importance_of};
use super::layer::Layer;
use super::state::store_palette;
use crate::error::CompressError;

/// Above so many weights in a codebook the certified fast route takes over: the exact one needs some 44 bytes for
/// every distinct value.
const EXACT_LIMIT: usize = 4_000_000;

/// What is done behind a layer.
pub(crate) type Behind<'a> = &'a mut dyn FnMut(&str, usize) -> Result<(), CompressError>;

/// How weights are shared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sharing {
    /// Whether batch-norm statistics and biases behind them are corrected for the expected shift (Nagel et al., ICCV 2019).
    pub(crate) correct: bool,
    /// Which values codebooks hold.
    pub(crate) codebook: CodebookKind,
    /// What may be paid for a bit less of every weight: squared error beside the sum of squares, mean over layers.
    pub(crate) rate: f64,
}

/// Moves the weights of `layers` onto their optimal codebooks, weighted by `importance`. A layer that would
/// take as many bytes as its floats keeps them. `behind` is called behind each layer that is clustered, with its weight and the
/// number of those done, and may end the work; the graph is then as it was.
///
/// # Errors
/// [`CompressError::Cluster`] naming the layer whose weights cannot be clustered, and those of `behind`.
pub(crate) fn share(
    graph: &mut Graph,
    layers: &[Layer],
    importance: Option<&Importance>,
    how: Sharing,
    behind: Behind<'_>,
) -> Result<(), CompressError> {
    let mut found = Vec::with_capacity(layers.len());
    let weights: usize = layers.iter().map(|l| l.count).sum();
    let price = how.rate * layers.len() as f64 / weights.max(1) as f64;
    for (done, layer) in layers.iter().enumerate() {
        let importance = importance_of(importance, &layer.weight);
        found.push((layer, best_palette(graph, layer, importance, (how.codebook, price))?));
        behind(&layer.weight, done + 1)?;
    }
    let saves = |(layer, palette): &(&Layer, Palette)| palette.stored_bytes() < 4 * layer.count;
    let palettes: Vec<_> = found.into_iter().filter(saves).collect();
    if how.correct {
        let moved = palettes.iter().map(|(layer, palette)| {
            let before = graph.weights[&layer.weight].tensor.to_f32().unwrap_or_default();
            (*layer, before, palette.decode().into())
        });
        let found = corrections(graph, moved);
        apply(graph, &found);
    }
    for (layer, palette) in palettes {
        store_palette(graph, &layer.weight, palette);
    }
    Ok(())
}

/// The codebooks asked for; where they had to be merged, one wider codebook for the whole tensor may make a smaller
/// error in the same bytes, as it does for depthwise kernels. `price` is what a bit may cost beside the sum of squares.
fn best_palette(
    graph: &Graph,
    layer: &Layer,
    importance: Option<&[f32]>,
    (kind, price): (CodebookKind, f64),
) -> Result<Palette, CompressError> {
    if kind != CodebookKind::Free {
        return shaped(graph, layer, kind);
    }
    let values = graph.weights[&layer.weight].tensor.to_f32().unwrap_or_default();
    let price = if price > 0.0 { price * squared_error(&values, importance, |_| 0.0) } else { 0.0 };
    let merged = palette(graph, layer, importance, price)?;
    let Some(size) = (layer.groups < layer.asked).then(|| widest_shared(layer)).flatten() else {
        return Ok(merged);
    };
    let shared = palette(graph, &Layer { groups: 1, size, ..layer.clone() }, importance, price)?;
    let cost = |palette: &Palette| {
        let (found, codes) = (palette.decode(), histogram(palette.codes(), palette.codebook_size()));
        squared_error(&values, None, |i| found[i]) + price * coded_bits(&codes)
    };
    Ok(if cost(&shared) < cost(&merged) { shared } else { merged })
}

/// The most values, a power of two up to 256, of which one codebook and its codes take no more bytes than the merged
/// codebooks and theirs.
fn widest_shared(layer: &Layer) -> Option<usize> {
    let one = |size| Layer { groups: 1, size, ..layer.clone() };
    let room = layer.stored_bytes();
    (1..=8).rev().map(|bits| 1 << bits).find(|&size| size <= layer.count && one(size).stored_bytes() <= room)
}

/// Codebooks of a given shape, each at the scale of least squared error.
fn shaped(graph: &Graph, layer: &Layer, kind: CodebookKind) -> Result<Palette, CompressError> {
    let tensor = &graph.weights[&layer.weight].tensor;
    let (values, dtype) = (tensor.to_f32().unwrap_or_default(), tensor.dtype());
    let one = |values: &[f32]| -> Result<(Vec<f32>, Vec<u8>), ClusterError> {
        let book = match kind {
            CodebookKind::Pow2 => pow2_codebook(values, layer.size)?,
            _ if values.len() <= steps::SHORT => steps::codebook(values, layer.size),
            _ => uniform_codebook(values, layer.size)?,
        };
        let book: Vec<f32> = book.into_iter().map(|v| dtype.round(v)).collect();
        let codes = assign(values, &book)?;
        Ok((book, codes))
    };
    let runs = values.par_chunks_exact(values.len() / layer.groups);
    let found: Vec<_> = runs.map(one).collect();
    let (mut codebook, mut codes) = (Vec::new(), Vec::with_capacity(values.len()));
    for group in found {
        let (book, own) =
            group.map_err(|source| CompressError::Cluster { layer: layer.weight.clone(), source })?;
        codebook.extend(book);
        codes.extend(own);
    }
    Ok(Palette::fully_fixed(codebook, layer.groups, codes)?)
}

/// Weighted squared error of what stands for each value.
fn squared_error(values: &[f32], weights: Option<&[f32]>, found: impl Fn(usize) -> f32) -> f64 {
    let weight = |i: usize| weights.map_or(1.0, |w| f64::from(w[i]));
    values.iter().enumerate().map(|(i, v)| weight(i) * f64::from(v - found(i)).powi(2)).sum()
}

fn palette(
    graph: &Graph,
    layer: &Layer,
    importance: Option<&[f32]>,
    price: f64,
) -> Result<Palette, CompressError> {
    let tensor = &graph.weights[&layer.weight].tensor;
    let (values, dtype) = (tensor.to_f32().unwrap_or_default(), tensor.dtype());
    let named = |source| CompressError::Cluster { layer: layer.weight.clone(), source };
    let run = values.len() / layer.groups;
    let algorithm = if run > EXACT_LIMIT { Algorithm::Fast } else { Algorithm::Exact };
    let params = ClusterParams::builder(layer.size).algorithm(algorithm).build().map_err(named)?;
    let groups = even_groups(values.len(), run);
    let found: Vec<Clustering<u8>> =
        cluster_groups_weighted(&values, importance, &groups, &params).map_err(named)?;
    // Fewer distinct values than centroids need no more centroids than values.
    let size = found.iter().map(|g| g.codebook.len()).max().unwrap_or(layer.size);
    let mut codebook = Vec::with_capacity(layer.groups * size);
    for group in &found {
        // All codebooks are equally long: repeat the last centroid.
        let last = group.codebook.last().copied().unwrap_or_default();
        codebook.extend((0..size).map(|i| group.codebook.get(i).copied().unwrap_or(last)));
    }
    let mut codes: Vec<u8> = found.into_iter().flat_map(|g| g.codes).collect();
    if price > 0.0 {
        let start = Start { codebooks: &codebook, groups: layer.groups, codes: &codes };
        let priced = cluster_at_price(&values, importance, start, price).map_err(named)?;
        (codebook, codes) = (priced.codebooks, priced.codes);
    }
    // Centroids in the weight's own type: a codebook of a half-precision network takes half the bytes.
    codebook.iter_mut().for_each(|c| *c = dtype.round(*c));
    let palette = Palette::fully_fixed(codebook, layer.groups, codes)?;
    Ok(if layer.half { palette.with_half_codebooks() } else { palette })
}

#[cfg(test)]
mod tests {
    use slq_graph::{DType, Tensor};

    use super::*;
    use crate::quantize::choices::Granularity;
    use crate::quantize::select::select_layers;
    use crate::quantize::settings::Quantize;

    const CORRECTED: Sharing = Sharing { correct: true, codebook: CodebookKind::Free, rate: 0.0 };

    fn on(_: &str, _: usize) -> Result<(), CompressError> {
        Ok(())
    }

    #[test]
    fn layers_are_told_in_order_and_who_stops_leaves_the_graph_as_it_was() {
        let mut graph = slq_zoo::build("lenet", 3).unwrap();
        let before = graph.clone();
        let layers = select_layers(&graph, &Quantize::kmeans(2)).unwrap();
        let mut told = Vec::new();
        let mut stop = |weight: &str, done: usize| {
            told.push((weight.to_owned(), done));
            if done == 2 { Err(CompressError::Interrupted) } else { Ok(()) }
        };
        let done = share(&mut graph, &layers, None, CORRECTED, &mut stop);
        assert!(matches!(done, Err(CompressError::Interrupted)), "{done:?}");
        assert_eq!(graph, before);
        let expected: Vec<_> = layers.iter().map(|l| l.weight.clone()).zip(1..).take(2).collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn every_weight_takes_the_nearest_of_its_codebook() {
        for granularity in [Granularity::Tensor, Granularity::Channel] {
            let settings = Quantize::kmeans(2).granularity(granularity);
            let before = slq_zoo::build("lenet", 3).unwrap();
            let mut graph = before.clone();
            let layers = select_layers(&graph, &settings).unwrap();
            share(&mut graph, &layers, None, Sharing::default(), &mut on).unwrap();
            for layer in &layers {
                let weight = &graph.weights[&layer.weight];
                let palette = weight.palette.as_ref().unwrap();
                let (now, old) =
                    (weight.tensor.as_f32().unwrap(), before.weights[&layer.weight].tensor.as_f32().unwrap());
                assert_eq!(now, palette.decode());
                let run = layer.count / layer.groups;
                for (i, (&n, &o)) in now.iter().zip(old).enumerate() {
                    let size = palette.codebook_size();
                    let book = &palette.codebook()[i / run * size..][..size];
                    let nearest = book.iter().map(|c| (c - o).abs()).fold(f32::INFINITY, f32::min);
                    assert!(
                        (n - o).abs() <= nearest * (1.0 + 1e-5) + 1e-7,
                        "{granularity:?}: {o} became {n}"
                    );
                }
            }
        }
    }

    fn error_of(values: &[f32], palette: &Palette) -> f64 {
        let found = palette.decode();
        squared_error(values, None, |i| found[i])
    }

    /// A `Gemm` of one weight.
    fn gemm(rows: usize, columns: usize, value: impl Fn(usize) -> f32) -> Graph {
        let mut graph = Graph::default();
        graph.nodes.push(slq_graph::Node::new("fc", "Gemm", &["x", "w"], &["y"]));
        let values = (0..rows * columns).map(value).collect();
        let tensor = slq_graph::Tensor::f32(vec![rows, columns], values).unwrap();
        graph.weights.insert("w".into(), tensor.into());
        graph
    }

    #[test]
    fn a_layer_that_a_codebook_would_make_larger_keeps_its_floats() {
        let shared = |mut graph: Graph, bits| {
            let layers = select_layers(&graph, &Quantize::kmeans(bits)).unwrap();
            share(&mut graph, &layers, None, CORRECTED, &mut on).unwrap();
            graph
        };
        let small = gemm(8, 18, |i| i as f32);
        assert_eq!(shared(small.clone(), 8), small, "144 weights, each a value of its own");
        let four = shared(small, 4);
        assert!(four.weights["w"].palette.as_ref().unwrap().stored_bytes() < 4 * 144);
    }

    #[test]
    fn even_codebooks_of_blocks_have_one_step_each() {
        let mut graph = slq_zoo::build("lenet", 3).unwrap();
        let before = graph.clone();
        let mut settings = Quantize::kmeans(4).granularity(Granularity::Dense(32));
        let codebook = CodebookKind::Uniform;
        settings.method = crate::Method::Kmeans(KmeansSettings { codebook, ..Default::default() });
        let uniform = Sharing { codebook, ..Sharing::default() };
        let layers = select_layers(&graph, &settings).unwrap();
        share(&mut graph, &layers, None, uniform, &mut on).unwrap();
        let groups: Vec<usize> = layers.iter().map(|l| l.groups).collect();
        assert_eq!((groups[2], groups[3]), (400_000 / 32, 5000 / 25), "dense layers have blocks");
        for layer in &layers {
            let palette = graph.weights[&layer.weight].palette.as_ref().unwrap();
            let book = &palette.codebook()[..15];
            assert_eq!(palette.codebook_size(), 15);
            assert!(slq_codebook::even(book).is_some() && book[7] == 0.0, "{book:?}");
            let old = before.weights[&layer.weight].tensor.as_f32().unwrap();
            let energy = old.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
            assert!(error_of(old, palette) < 0.02 * energy, "{}", layer.weight);
        }
    }

    #[test]
    fn one_value_needs_one_centroid() {
        let mut graph = gemm(8, 6, |_| 0.3);
        let layers = select_layers(&graph, &Quantize::kmeans(8)).unwrap();
        share(&mut graph, &layers, None, Sharing::default(), &mut on).unwrap();
        let palette = graph.weights["w"].palette.as_ref().unwrap();
        assert_eq!((palette.codebook(), palette.bits()), (&[0.3][..], 1));
    }

    #[test]
    fn codebooks_hold_values_of_the_weights_type() {
        for dtype in [DType::F16, DType::Bf16, DType::F64] {
            let mut graph = slq_zoo::build("lenet", 3).unwrap();
            for weight in graph.weights.values_mut() {
                let values = weight.tensor.to_f32().unwrap().to_vec();
                weight.tensor = Tensor::floats(weight.tensor.shape().to_vec(), dtype, values).unwrap();
            }
            let before = graph.clone();
            let layers = select_layers(&graph, &Quantize::kmeans(4)).unwrap();
            assert_eq!(layers.len(), 4);
            share(&mut graph, &layers, None, CORRECTED, &mut on).unwrap();
            for layer in &layers {
                let (weight, old) = (&graph.weights[&layer.weight], &before.weights[&layer.weight].tensor);
                let palette = weight.palette.as_ref().unwrap();
                assert_eq!(weight.tensor.dtype(), dtype);
                assert_eq!(weight.tensor.to_f32().unwrap(), palette.decode());
                let values = old.to_f32().unwrap();
                let mean = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
                assert!(error_of(&values, palette) < 0.02 * mean, "{dtype:?}");
            }
            slq_graph::validate(&graph).unwrap();
        }
    }

    #[test]
    fn channels_too_small_for_codebooks_of_their_own_share_a_wider_one() {
        let mut graph = slq_zoo::build("mobilenet-v2", 0).unwrap();
        let settings = Quantize::kmeans(4).granularity(Granularity::Channel);
        let before = graph.clone();
        let layers = select_layers(&graph, &settings).unwrap();
        share(&mut graph, &layers, None, Sharing::default(), &mut on).unwrap();
        let mut wider = 0;
        for layer in layers.iter().filter(|l| l.groups < l.asked) {
            let values = before.weights[&layer.weight].tensor.as_f32().unwrap();
            let palette = graph.weights[&layer.weight].palette.as_ref().unwrap();
            let merged = super::palette(&before, layer, None, 0.0).unwrap();
            assert!(error_of(values, palette) <= error_of(values, &merged), "{}", layer.weight);
            let bytes =
                |p: &Palette| 4 * p.codebook().len() + (layer.count * usize::from(p.bits())).div_ceil(8);
            assert!(bytes(palette) <= bytes(&merged), "{}", layer.weight);
            wider += usize::from(palette.codebook_size() > layer.size);
        }
        assert!(wider > 10, "{wider} layers");
    }

    #[test]
    fn a_price_saves_bits_where_layers_are_large_and_noise_counts_little() {
        let settings = Quantize::kmeans(5);
        let before = slq_zoo::build("lenet", 3).unwrap();
        let layers = select_layers(&before, &settings).unwrap();
        let weight = |l: &Layer| before.weights[&l.weight].tensor.as_f32().unwrap().to_vec();
        // Noise of each layer beside its sum of squares, and bits of its codes.
        let measured = |rate: f64| -> Vec<(f64, f64)> {
            let mut graph = before.clone();
            share(&mut graph, &layers, None, Sharing { rate, ..Sharing::default() }, &mut on).unwrap();
            let one = |l: &Layer| {
                let (values, palette) = (weight(l), graph.weights[&l.weight].palette.as_ref().unwrap());
                let noise = error_of(&values, palette) / squared_error(&values, None, |_| 0.0);
                (noise, coded_bits(&histogram(palette.codes(), palette.codebook_size())))
            };
            layers.iter().map(one).collect()
        };
        let count: usize = layers.iter().map(|l| l.count).sum();
        let cost = |found: &[(f64, f64)], rate: f64| {
            found.iter().map(|(noise, bits)| noise / 4.0 + rate * bits / count as f64).sum::<f64>()
        };
        let plain = measured(0.0);
        for rate in [0.002, 0.02] {
            let priced = measured(rate);
            assert!(cost(&priced, rate) < cost(&plain, rate));
            let saved = |i: usize| (plain[i].1 - priced[i].1) / layers[i].count as f64;
            // The third layer has most of the weights: its noise counts no more than another's and pays for more bits.
            assert!(saved(2) > saved(0) && saved(2) > 0.2, "{} {}", saved(2), saved(0));
        }
    }
}
