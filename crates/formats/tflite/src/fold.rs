//! Batch-norm folded into the layer before it; palettes follow where they can.

use std::borrow::Cow;
use std::collections::BTreeMap;

use slq_graph::fold::fold_batch_norms;
use slq_graph::{Graph, Node, Palette, bits_for};

use crate::report::Folded;
use crate::tables::PER_TABLE;

/// The graph with every batch-norm folded that can be, and which those are.
///
/// A folded scale turns one codebook into one for each output channel. Where those, of values that take `bytes`, would take more than the codes, the
/// batch-norm stays, and is computed as a product and a sum.
pub(crate) fn fold(graph: &Graph, dense: bool, bytes: usize) -> (Cow<'_, Graph>, Vec<Folded>) {
    let norms = norms(graph);
    if norms.is_empty() {
        return (Cow::Borrowed(graph), Vec::new());
    }
    let mut graph = graph.clone();
    let mut set_aside: BTreeMap<String, Palette> = BTreeMap::new();
    for (_, layer) in &norms {
        let Some(name) = layer.input(1) else { continue };
        let Some(weight) = graph.weights.get_mut(name) else { continue };
        let (channels, count) = (weight.tensor.shape().first().copied().unwrap_or(0), weight.tensor.len());
        let by_rows = layer.op == "Conv" || (layer.op == "Gemm" && layer.int("transB", 0) != 0);
        match weight.palette.take() {
            Some(palette) if dense || !palette.is_fully_fixed() => drop(palette),
            Some(palette) if by_rows && fits(&palette, channels, count, bytes) => {
                set_aside.insert(name.into(), palette);
            }
            palette => weight.palette = palette,
        }
    }
    fold_batch_norms(&mut graph);
    // Names of values are unique; nodes may have none.
    let gone = |norm: &Node| !graph.nodes.iter().any(|n| n.op == norm.op && n.outputs == norm.outputs);
    let folded: Vec<Folded> = norms
        .iter()
        .filter(|(norm, _)| gone(norm))
        .map(|(norm, layer)| Folded { norm: norm.name.clone(), layer: layer.name.clone() })
        .collect();
    for (name, palette) in set_aside {
        let scaled = norms.iter().any(|(norm, layer)| layer.input(1) == Some(&name) && gone(norm));
        if let Some(weight) = graph.weights.get_mut(&name) {
            weight.palette = if scaled {
                rescaled(&palette, weight.tensor.as_f32(), weight.tensor.shape())
            } else {
                Some(palette)
            };
        }
    }
    (Cow::Owned(graph), folded)
}

/// Each batch-norm and the layer that it may be folded into.
fn norms(graph: &Graph) -> Vec<(Node, Node)> {
    let found = graph.nodes.iter().filter(|n| n.op == "BatchNormalization");
    found.filter_map(|n| Some((n.clone(), graph.producer_of(n.input(0)?)?.clone()))).collect()
}

/// Whether a codebook for each of `channels`, of values that take `bytes`, takes no more than the codes.
fn fits(palette: &Palette, channels: usize, count: usize, bytes: usize) -> bool {
    let size = palette.codebook_size();
    let codes = (count * usize::from(bits_for(size))).div_ceil(8);
    let tables = channels.saturating_mul(bytes * size + PER_TABLE);
    channels > 0 && (palette.groups() == 1 || channels.is_multiple_of(palette.groups())) && tables <= codes
}

/// The palette with a codebook for each output channel, whose values are those that the weight has now.
fn rescaled(palette: &Palette, values: Option<&[f32]>, shape: &[usize]) -> Option<Palette> {
    let (values, channels, size) = (values?, *shape.first()?, palette.codebook_size());
    let run = values.len() / channels.max(1);
    // Entries that no value of a channel uses stay 0.
    let mut book = vec![0.0; channels * size];
    for (i, (&value, &code)) in values.iter().zip(palette.codes()).enumerate() {
        book[i / run.max(1) * size + usize::from(code)] = value;
    }
    Palette::fully_fixed(book, channels, palette.codes().to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use slq_graph::{DType, Tensor, ValueInfo};

    use super::*;

    fn network(channels: usize, inputs: usize, size: usize) -> Graph {
        let value = |n: &str| ValueInfo { name: n.into(), dtype: DType::F32, shape: None };
        let mut graph = Graph { inputs: vec![value("x")], outputs: vec![value("y")], ..Graph::default() };
        let count = channels * inputs * 9;
        let book: Vec<f32> = (0..size).map(|v| v as f32 - 1.5).collect();
        let palette = Palette::fully_fixed(book, 1, (0..count).map(|i| (i % size) as u8).collect()).unwrap();
        let tensor = Tensor::f32(vec![channels, inputs, 3, 3], palette.decode()).unwrap();
        graph.weights.insert("w".into(), tensor.into());
        graph.weights["w"].palette = Some(palette);
        for (name, base) in [("g", 0.5f32), ("b", 0.1), ("m", -0.2), ("v", 2.0)] {
            let values = (0..channels).map(|c| base + c as f32 * 0.125).collect();
            graph.weights.insert(name.into(), Tensor::f32(vec![channels], values).unwrap().into());
        }
        graph.nodes.push(Node::new("conv", "Conv", &["x", "w"], &["h"]));
        graph.nodes.push(Node::new("norm", "BatchNormalization", &["h", "g", "b", "m", "v"], &["y"]));
        graph
    }

    #[test]
    fn palettes_follow_a_folded_scale() {
        let graph = network(4, 32, 4);
        let (folded, names) = fold(&graph, false, 4);
        assert_eq!(names, [Folded { norm: "norm".into(), layer: "conv".into() }]);
        let weight = &folded.weights["w"];
        let palette = weight.palette.as_ref().unwrap();
        assert_eq!((palette.groups(), palette.bits()), (4, 2));
        assert_eq!(palette.decode(), weight.tensor.as_f32().unwrap());
        let mut floats = graph.clone();
        floats.weights["w"].palette = None;
        fold_batch_norms(&mut floats);
        assert_eq!(weight.tensor, floats.weights["w"].tensor);
        let (dense, names) = fold(&graph, true, 4);
        assert_eq!((names.len(), dense.weights["w"].palette.is_none()), (1, true));
        assert_eq!(dense.weights["w"].tensor, floats.weights["w"].tensor);
    }

    #[test]
    fn a_batch_norm_stays_where_tables_would_outweigh_the_codes() {
        let graph = network(16, 2, 32);
        let (kept, names) = fold(&graph, false, 4);
        assert_eq!((names.len(), kept.as_ref()), (0, &graph));
    }
}
