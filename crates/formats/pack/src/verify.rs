//! Comparison of a graph with what its file gives back.

use std::collections::HashSet;

use slq_graph::{Graph, Tensor, TensorData, Weight};

use crate::error::SlqError;
use crate::network;
use crate::reader::Reader;
use crate::rounding::{FloatStorage, round};
use crate::writer::WriteOptions;

/// Whether `bytes`, written with `options`, give `graph`: nodes and metadata, values and palettes bit for bit, rounded
/// values where rounding was asked for, palettes only where they are fully fixed.
pub(crate) fn same(graph: &Graph, bytes: &[u8], options: &WriteOptions) -> Result<(), SlqError> {
    let fail = |reason: String| Err(SlqError::ReadBack { reason });
    let reader = Reader::from_bytes(bytes)?;
    // Encoded, since NaN in an attribute differs from itself.
    let encoded = |graph: &Graph| network::encode(graph, reader.weights());
    if encoded(graph)? != encoded(reader.network())? {
        return fail("its nodes, inputs, outputs or metadata differ".into());
    }
    if !graph.weights.keys().eq(reader.weights().iter().map(|w| &w.name)) {
        return fail("its weights are others or in another order".into());
    }
    let parameters: HashSet<&str> = graph.parameters().into_iter().collect();
    for (name, weight) in &graph.weights {
        let rounded = options.floats != FloatStorage::Exact && parameters.contains(name.as_str());
        let floats = if rounded { options.floats } else { FloatStorage::Exact };
        if let Some(what) = difference(weight, &reader.weight(name)?, floats) {
            return fail(format!("weight `{name}` has {what}"));
        }
    }
    Ok(())
}

/// What differs, if anything does.
fn difference(weight: &Weight, back: &Weight, floats: FloatStorage) -> Option<&'static str> {
    let palette = weight.palette.as_ref().filter(|p| p.is_fully_fixed());
    if weight.tensor.shape() != back.tensor.shape() || weight.rates != back.rates {
        return Some("another shape or other rates");
    }
    let expected =
        if palette.is_none() { weight.tensor.as_f32().and_then(|v| round(v, floats)) } else { None };
    // A dictionary keeps values exactly though they may be rounded.
    let exact = same_values(&weight.tensor, &back.tensor);
    let rounded =
        || expected.is_some_and(|e| back.tensor.as_f32().is_some_and(|b| bits(&e.values()).eq(bits(b))));
    if !exact && !rounded() {
        return Some("other values");
    }
    let same = match (palette, &back.palette) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.codes() == b.codes() && a.groups() == b.groups() && bits(a.codebook()).eq(bits(b.codebook()))
        }
        _ => false,
    };
    (!same).then_some("another palette")
}

/// Bit for bit: NaN equals itself, 0 is not -0.
fn same_values(a: &Tensor, b: &Tensor) -> bool {
    match (a.data(), b.data()) {
        (TensorData::F32(a), TensorData::F32(b)) => bits(a).eq(bits(b)),
        (a, b) => a == b,
    }
}

fn bits(values: &[f32]) -> impl Iterator<Item = u32> {
    values.iter().map(|v| v.to_bits())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::writer::write_bytes;
    use slq_graph::{Node, Palette};

    fn sample() -> Graph {
        let mut graph = Graph::default();
        let palette = Palette::fully_fixed(vec![0.5, -1.0], 1, vec![0, 1, 1, 0]).unwrap();
        let tensor = Tensor::f32(vec![2, 2], palette.decode()).unwrap();
        graph.weights.insert("w".into(), Weight { palette: Some(palette), ..tensor.into() });
        graph.weights.insert("b".into(), Tensor::f32(vec![3], vec![f32::NAN, 0.1, 0.3]).unwrap().into());
        graph.nodes.push(Node::new("fc", "Gemm", &["x", "w", "b"], &["y"]));
        graph
    }

    #[test]
    fn every_change_is_noticed() {
        let graph = sample();
        let options = WriteOptions::default();
        let bytes = write_bytes(&graph, &options).unwrap().bytes;
        same(&graph, &bytes, &options).unwrap();
        type Change = (&'static str, fn(&mut Graph));
        let changes: [Change; 6] = [
            ("nodes", |g| g.nodes[0].name = "other".into()),
            ("metadata", |g| g.metadata.doc = "words".into()),
            ("order", |g| g.weights.swap_indices(0, 1)),
            ("values", |g| g.weights["b"].tensor.as_f32_mut().unwrap()[1] = 0.2),
            ("palette", |g| g.weights["w"].palette = None),
            ("rates", |g| g.weights["b"].rates.lr_mult = 0.0),
        ];
        for (what, change) in changes {
            let mut changed = graph.clone();
            change(&mut changed);
            assert!(matches!(same(&changed, &bytes, &options), Err(SlqError::ReadBack { .. })), "{what}");
        }
    }

    #[test]
    fn rounded_values_are_expected_where_asked_for() {
        let mut graph = sample();
        graph.weights["b"].tensor.as_f32_mut().unwrap()[0] = 3.0;
        for floats in [FloatStorage::Half, FloatStorage::EightBit] {
            let options = WriteOptions { floats, ..WriteOptions::default() };
            let bytes = write_bytes(&graph, &options).unwrap().bytes;
            same(&graph, &bytes, &options).unwrap();
            assert!(same(&graph, &bytes, &WriteOptions::default()).is_err(), "{floats:?}");
        }
    }
}
