//! Layer selection: which weights a job quantizes, with how many codebooks of how many values.

use std::collections::HashSet;

use glob::Pattern;
use slq_codebook::stored_bytes;
use slq_graph::{Graph, Quantizable};

use super::choices::Granularity;
use super::layer::{Layer, centroid_bytes};
use super::method::Method;
use super::settings::Quantize;
use crate::error::CompressError;

/// The layers of `graph` that `settings` quantizes, in execution order. A layer whose codebook and codes would take as many
/// bytes as its floats stays out; k-means decides that itself, by the values that there are.
///
/// # Errors
/// [`CompressError::NoLayers`] where there are none, [`CompressError::NothingPays`] where all are that small,
/// [`CompressError::Pattern`] for a pattern that is malformed or matches no layer, [`CompressError::NonFinite`] for a weight
/// that is not a number.
pub fn select_layers(graph: &Graph, settings: &Quantize) -> Result<Vec<Layer>, CompressError> {
    let candidates = graph.quantizable();
    if candidates.is_empty() {
        return Err(CompressError::NoLayers);
    }
    let mut sizes = vec![Some(settings.size()); candidates.len()];
    for rule in &settings.layers {
        let pattern_error = |reason: String| CompressError::Pattern {
            pattern: rule.pattern.clone(),
            reason,
            layers: candidates.iter().map(|q| q.weight.as_str()).collect::<Vec<_>>().join(", "),
        };
        let glob = Pattern::new(&rule.pattern).map_err(|e| pattern_error(e.msg.into()))?;
        let mut matched = false;
        for (size, q) in sizes.iter_mut().zip(&candidates) {
            if glob.matches(&q.weight) || glob.matches(&q.node) {
                (*size, matched) = (rule.bits.map(|b| settings.size_for(b)), true);
            }
        }
        if !matched {
            return Err(pattern_error("it matches no layer".into()));
        }
    }
    let (mut layers, mut small) = (Vec::new(), 0);
    for (q, size) in candidates.iter().zip(sizes) {
        let Some(wanted) = size else { continue };
        let tensor = &graph.weights[&q.weight].tensor;
        let values = tensor.to_f32().unwrap_or_default();
        if values.is_empty() {
            continue;
        }
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Err(CompressError::NonFinite {
                weight: q.weight.clone(),
                position,
                value: values[position],
            });
        }
        let granularity = settings.granularity.of(&q.op);
        let rows = if granularity == Granularity::Tensor { None } else { rows_of(graph, q) };
        let asked = rows.map_or(1, |rows| asked_groups(rows, granularity));
        let half = settings.method.rounds_codebooks();
        let pays = |groups: usize| {
            let bytes = stored_bytes(values.len(), groups, wanted, centroid_bytes(half, groups));
            bytes <= 4 * values.len()
        };
        let groups = match (granularity, rows) {
            (Granularity::Block(n), Some(rows)) => merged_blocks(rows, n, pays),
            _ => merged_groups(asked, pays),
        };
        // A codebook of a given shape has its size, however few weights take values from it.
        let size = if settings.method.has_shaped_codebook() {
            wanted
        } else {
            wanted.min(values.len() / groups).max(1)
        };
        let counts_values = matches!(settings.method, Method::Kmeans(_));
        let layer = Layer {
            weight: q.weight.clone(),
            node: q.node.clone(),
            count: values.len(),
            groups,
            asked,
            size,
            half,
        };
        if !counts_values && layer.stored_bytes() >= 4 * values.len() {
            small += 1;
            continue;
        }
        layers.push(layer);
    }
    if layers.is_empty() && small > 0 {
        return Err(CompressError::NothingPays { values: settings.size() });
    }
    if layers.is_empty() {
        return Err(CompressError::NoLayers);
    }
    Ok(layers)
}

/// Output channels and weights of each, where every channel's weights lie together, or will once [`turned`] has stored the
/// matrix by rows. `None` for other layouts, which keep one codebook.
fn rows_of(graph: &Graph, q: &Quantizable) -> Option<[usize; 2]> {
    let shape = graph.weights.get(&q.weight)?.tensor.shape();
    let rest = |from: usize| shape[from..].iter().product::<usize>().max(1);
    match (q.channel_axis, shape) {
        (0, _) => Some([shape[0], rest(1)]),
        // Of one direction after the other.
        (1, &[directions, channels, ..]) if matches!(q.op.as_str(), "LSTM" | "GRU" | "RNN") => {
            Some([directions * channels, rest(2)])
        }
        (1, &[inputs, outputs]) if graph.is_turnable(q) => Some([outputs, inputs]),
        _ => None,
    }
}

/// Number of codebooks that a granularity means for a matrix of `rows` channels and `row` weights of each.
fn asked_groups([rows, row]: [usize; 2], granularity: Granularity) -> usize {
    match granularity {
        Granularity::Tensor => 1,
        Granularity::Channel | Granularity::Dense(_) => rows,
        Granularity::Group(n) if rows.is_multiple_of(n) => rows / n,
        // A group size that does not divide the channels: the nearest finer one that does.
        Granularity::Group(n) => {
            (1..=n.min(rows)).rev().find(|d| rows.is_multiple_of(*d)).map_or(1, |d| rows / d)
        }
        Granularity::Block(n) => rows * blocks(row, n),
    }
}

/// `graph` as `settings` quantize it: matrices `[inputs, outputs]` that get more than one codebook are stored as
/// `[outputs, inputs]`, see [`Graph::turn_rows`]. The layers that [`select_layers`] finds are those of this graph.
///
/// # Errors
/// As [`select_layers`].
pub fn turned(mut graph: Graph, settings: &Quantize) -> Result<Graph, CompressError> {
    if settings.granularity != Granularity::Tensor {
        let layers = select_layers(&graph, settings)?;
        let several: HashSet<&str> =
            layers.iter().filter(|l| l.asked > 1).map(|l| l.weight.as_str()).collect();
        graph.turn_rows(|q| several.contains(q.weight.as_str()));
    }
    Ok(graph)
}

/// A sentence about shared weights whose output channels do not lie together (stacks of matrices, transposed convolutions),
/// where `granularity` asks for more than one codebook: they have one each.
pub(crate) fn columns_warning(graph: &Graph, granularity: Granularity) -> Option<String> {
    const NAMED: usize = 4;
    let shared = |q: &Quantizable| graph.weights.get(&q.weight).is_some_and(|w| w.palette.is_some());
    let found: Vec<String> = graph
        .quantizable()
        .into_iter()
        .filter(|q| granularity.of(&q.op) != Granularity::Tensor && shared(q) && rows_of(graph, q).is_none())
        .map(|q| q.weight)
        .collect();
    let more = match found.len().saturating_sub(NAMED) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    (!found.is_empty()).then(|| {
        format!(
            "--granularity {} leaves {}{more} with one codebook each: the weights of an output channel do not lie together, and \
             codebooks serve neighbouring weights",
            String::from(granularity),
            found[..found.len().min(NAMED)].join(", ")
        )
    })
}

/// Blocks of a channel of `row` weights: of `n` or, where `n` does not divide it, of the nearest finer size that does.
fn blocks(row: usize, n: usize) -> usize {
    (1..=n.min(row)).rev().find(|d| row.is_multiple_of(*d)).map_or(1, |d| row / d)
}

/// Number of codebooks for blocks of `n` weights. Where so many do not pay, blocks grow within their channel, then channels are
/// merged.
fn merged_blocks([channels, row]: [usize; 2], n: usize, pays: impl Fn(usize) -> bool) -> usize {
    let asked = blocks(row, n);
    let fits = |&blocks: &usize| row.is_multiple_of(blocks) && pays(channels * blocks);
    (1..=asked).rev().find(fits).map_or_else(|| merged_groups(channels, &pays), |b| channels * b)
}

/// Where `groups` codebooks would take more bytes than coding the weights saves, neighbouring ones are merged until they pay.
fn merged_groups(mut groups: usize, pays: impl Fn(usize) -> bool) -> usize {
    while groups > 1 && !pays(groups) {
        let step = (2..=groups).find(|d| groups.is_multiple_of(*d)).unwrap_or(groups);
        groups /= step;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::super::choices::LayerRule;
    use super::*;

    fn settings(rules: &[&str]) -> Quantize {
        let layers = rules.iter().map(|r| r.parse::<LayerRule>().unwrap()).collect();
        Quantize { layers, ..Quantize::slq(4) }
    }

    fn lenet() -> Graph {
        slq_zoo::build("lenet", 0).unwrap()
    }

    #[test]
    fn all_four_layers_of_lenet_by_default() {
        let layers = select_layers(&lenet(), &Quantize::slq(4)).unwrap();
        assert_eq!(layers.iter().map(|l| l.count).collect::<Vec<_>>(), [500, 25_000, 400_000, 5_000]);
        assert!(layers.iter().all(|l| l.groups == 1 && l.size == 16));
    }

    #[test]
    fn rules_change_and_skip_layers_and_the_last_one_counts() {
        let graph = lenet();
        let names: Vec<_> = graph.quantizable().into_iter().map(|q| q.weight).collect();
        let rules = ["*=3".to_string(), format!("{}=skip", names[0]), format!("{}=4", names[2])];
        let rules: Vec<_> = rules.iter().map(String::as_str).collect();
        let layers = select_layers(&graph, &settings(&rules)).unwrap();
        let sizes: Vec<_> = layers.iter().map(|l| (l.weight.as_str(), l.size)).collect();
        assert_eq!(sizes, [(names[1].as_str(), 8), (names[2].as_str(), 16), (names[3].as_str(), 8)]);
    }

    #[test]
    fn patterns_that_match_nothing_list_the_layers() {
        let error = select_layers(&lenet(), &settings(&["nowhere=4"])).unwrap_err().to_string();
        assert!(error.contains("nowhere") && error.contains("weight"), "{error}");
        assert!(select_layers(&lenet(), &settings(&["[=4"])).is_err());
    }

    #[test]
    fn a_layer_smaller_than_its_codebook_stays_out() {
        let mut graph = lenet();
        let name = graph.quantizable()[0].weight.clone();
        let tensor = slq_graph::Tensor::f32(vec![10, 1, 5, 5], vec![0.5; 250]).unwrap();
        graph.weights.get_mut(&name).unwrap().tensor = tensor;
        let selects = |settings: &Quantize| {
            select_layers(&graph, settings).unwrap().iter().any(|layer| layer.weight == name)
        };
        // 250 values and 250 codes of a byte take 1250 bytes, the floats 1000.
        assert!(!selects(&Quantize::slq(8)) && selects(&Quantize::slq(4)));
        assert!(selects(&Quantize::kmeans(8)), "k-means counts the values that there are");
        let rules = ["*=skip".to_string(), format!("{name}=8")].map(|r| r.parse().unwrap());
        let only = Quantize { layers: rules.into(), ..Quantize::slq(8) };
        let error = select_layers(&graph, &only).unwrap_err();
        assert!(matches!(error, CompressError::NothingPays { values: 256 }), "{error}");
    }

    /// LeNet with its last matrix stored as `[inputs, outputs]`, and that weight's name.
    fn with_columns() -> (Graph, String) {
        let mut graph = lenet();
        let name = graph.quantizable().last().unwrap().weight.clone();
        let node = graph.nodes.iter_mut().find(|n| n.inputs.contains(&name)).unwrap();
        node.attributes.remove("transB");
        let tensor = &mut graph.weights.get_mut(&name).unwrap().tensor;
        *tensor = slq_graph::Tensor::f32(vec![500, 10], (0..5000).map(|i| i as f32).collect()).unwrap();
        (graph, name)
    }

    #[test]
    fn a_matrix_of_columns_gets_codebooks_for_its_output_channels() {
        let (graph, name) = with_columns();
        let layer = |graph: &Graph, granularity| {
            let settings = Quantize { granularity, ..Quantize::kmeans(4) };
            select_layers(graph, &settings).unwrap().pop().unwrap()
        };
        for (granularity, groups) in [
            (Granularity::Tensor, 1),
            (Granularity::Channel, 10),
            (Granularity::Group(5), 2),
            (Granularity::Block(250), 20),
        ] {
            let settings = Quantize { granularity, ..Quantize::kmeans(4) };
            let as_run = turned(graph.clone(), &settings).unwrap();
            let shape = if groups == 1 { [500, 10] } else { [10, 500] };
            assert_eq!(as_run.weights[&name].tensor.shape(), shape, "{granularity:?}");
            assert_eq!(
                (layer(&graph, granularity), layer(&graph, granularity).groups),
                (layer(&as_run, granularity), groups)
            );
        }
        let skip = format!("{name}=skip").parse().unwrap();
        let settings =
            Quantize { granularity: Granularity::Channel, layers: vec![skip], ..Quantize::kmeans(4) };
        assert_eq!(turned(graph.clone(), &settings).unwrap().weights[&name].tensor.shape(), [500, 10]);
    }

    #[test]
    fn recurrent_layers_have_a_codebook_for_each_row() {
        let mut graph = lenet();
        let lstm = |name: &str, shape: &[usize]| {
            let values = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
            (name.to_owned(), slq_graph::Tensor::f32(shape.to_vec(), values).unwrap().into())
        };
        graph.weights.extend([lstm("w", &[2, 32, 64]), lstm("r", &[2, 32, 8])]);
        graph.nodes.push(slq_graph::Node::new("lstm", "LSTM", &["x", "w", "r"], &["h"]));
        let settings = Quantize { granularity: Granularity::Channel, ..Quantize::kmeans(2) };
        let layers = select_layers(&graph, &settings).unwrap();
        let groups = |name: &str| layers.iter().find(|l| l.weight == name).unwrap().asked;
        assert_eq!((groups("w"), groups("r")), (64, 64));
    }

    #[test]
    fn weights_that_keep_one_codebook_are_named() {
        let mut graph = lenet();
        let name = graph.quantizable()[1].weight.clone();
        let node = graph.nodes.iter_mut().find(|n| n.inputs.contains(&name)).unwrap();
        node.op = "ConvTranspose".into();
        let weight = graph.weights.get_mut(&name).unwrap();
        let count = weight.tensor.len();
        weight.palette =
            Some(slq_graph::Palette::new(vec![0.0], 1, vec![0; count], vec![false; count]).unwrap());
        let said = columns_warning(&graph, Granularity::Channel).unwrap();
        assert!(said.starts_with("--granularity channel leaves ") && said.contains(&name), "{said}");
        assert_eq!(columns_warning(&graph, Granularity::Tensor), None);
        assert_eq!(columns_warning(&lenet(), Granularity::Channel), None, "rows, and not quantized");
    }

    #[test]
    fn nothing_left_is_an_error() {
        let error = select_layers(&lenet(), &settings(&["*=skip"])).unwrap_err();
        assert!(matches!(error, CompressError::NoLayers));
    }

    /// Codebooks of 16 values of 4 bytes.
    fn pays(count: usize) -> impl Fn(usize) -> bool {
        move |groups| stored_bytes(count, groups, 16, slq_codebook::SINGLE) <= 4 * count
    }

    #[test]
    fn codebooks_of_16_bit_floats_are_merged_less() {
        let mut graph = lenet();
        let name = graph.quantizable()[0].weight.clone();
        // Rows of 25 weights and as many values: of 2 bytes they pay, of 4 bytes they do not.
        let tensor =
            slq_graph::Tensor::f32(vec![40, 1, 5, 5], (0..1000).map(|i| i as f32).collect()).unwrap();
        graph.weights.get_mut(&name).unwrap().tensor = tensor;
        let first = |settings: Quantize| {
            let settings = Quantize { granularity: Granularity::Channel, ..settings };
            select_layers(&graph, &settings).unwrap().remove(0)
        };
        let (half, single) = (first(Quantize::kmeans(5)), first(Quantize::slq(5)));
        assert_eq!((half.groups, half.half, half.stored_bytes()), (40, true, 625 + 40 * 25 * 2));
        assert_eq!((single.groups, single.half, single.stored_bytes()), (20, false, 625 + 20 * 32 * 4));
    }

    #[test]
    fn codebooks_that_cost_more_than_they_save_are_merged() {
        // Depthwise 3x3: nine weights of 36 bytes cannot pay for sixteen centroids each.
        let groups = |shape: &[usize], granularity| {
            let rows = [shape[0], shape[1..].iter().product()];
            merged_groups(asked_groups(rows, granularity), pays(shape.iter().product()))
        };
        let depthwise = groups(&[32, 1, 3, 3], Granularity::Channel);
        assert!(depthwise < 32 && 4 * 16 * depthwise <= 4 * 288 - 144, "{depthwise}");
        assert_eq!(groups(&[64, 64, 3, 3], Granularity::Channel), 64);
        assert_eq!(groups(&[64, 64, 3, 3], Granularity::Group(4)), 16);
        assert_eq!(groups(&[6, 64, 3, 3], Granularity::Group(4)), 2);
        assert_eq!(groups(&[6, 64, 3, 3], Granularity::Group(usize::MAX)), 1);
    }

    #[test]
    fn blocks_lie_within_a_channel_and_grow_where_they_cost_too_much() {
        let groups = |shape: &[usize], n| {
            merged_blocks([shape[0], shape[1..].iter().product()], n, pays(shape.iter().product()))
        };
        assert_eq!(groups(&[64, 64, 3, 3], 64), 64 * 9);
        assert_eq!(groups(&[64, 64, 3, 3], 100), 64 * 6);
        assert_eq!(groups(&[10, 500], usize::MAX), 10);
        // Sixteen centroids of 4 bytes do not pay for eight weights of 3.5 saved bytes, nor do they for sixteen.
        assert_eq!(groups(&[4, 32], 8), 4);
        assert!(groups(&[32, 1, 3, 3], 3) < 32);
    }

    #[test]
    fn a_weight_that_is_not_a_number_is_named_with_its_place() {
        let mut graph = lenet();
        let name = graph.quantizable()[1].weight.clone();
        graph.weights[&name].tensor.as_f32_mut().unwrap()[7] = f32::NAN;
        let error = select_layers(&graph, &Quantize::kmeans(4)).unwrap_err();
        assert!(matches!(error, CompressError::NonFinite { position: 7, ref weight, .. } if *weight == name));
    }
}
