//! What the networks before and after a job tell: bytes and weights of each layer, multiply-accumulates.

use slq::Model;
use slq::graph::stats::{WeightStats, macs as macs_of, summary};
use slq::graph::{Dim, Graph, Weight, infer_shapes};
use slq::jobs::Output;
use slq_report::{Histogram, LayerFigures, histogram};

/// The network in an output whose file has the size that the job wrote.
pub(super) fn unchanged(output: &Output) -> Option<Model> {
    let files = std::iter::once(&output.path).chain(&output.data);
    let bytes = files.map(|f| f.metadata().ok().map(|m| m.len())).sum::<Option<u64>>()?;
    // A prototxt describes a caffemodel.
    let name = match &output.prototxt {
        Some(prototxt) => slq::ModelName {
            name: prototxt.display().to_string(),
            weights: Some(output.path.clone()),
            ..slq::ModelName::default()
        },
        None => output.path.as_path().into(),
    };
    (bytes == output.file_bytes).then(|| Model::open(name).ok()).flatten()
}

/// The parameters of `after`, with the weights that they had in `before`.
pub(super) fn layers(before: Option<&Graph>, after: &Graph) -> Vec<LayerFigures> {
    let figures = |stats: WeightStats| {
        let weight = &after.weights[&stats.name];
        let palette = weight.palette.as_ref();
        LayerFigures {
            histogram: distribution(before.and_then(|g| g.weights.get(&stats.name)), weight),
            codebooks: palette.map_or(0, |p| p.groups()),
            fixed: palette.map(|p| p.fixed_count() as f64 / stats.count.max(1) as f64),
            name: stats.name,
            op: stats.op,
            shape: stats.shape,
            count: stats.count,
            distinct: stats.distinct,
            bits: stats.bits,
            zeros: stats.zeros,
            dense: stats.dense_bytes,
            stored: stats.stored_bytes,
        }
    };
    summary(after).layers.into_iter().map(figures).collect()
}

/// The distribution of a quantized weight; `None` where it keeps its floats.
fn distribution(before: Option<&Weight>, after: &Weight) -> Option<Histogram> {
    let (palette, values) = (after.palette.as_ref()?, after.tensor.as_f32()?);
    let fixed: Vec<f32> = match palette.is_fully_fixed() {
        true => values.to_vec(),
        false => values.iter().zip(palette.fixed()).filter(|(_, fixed)| **fixed).map(|(v, _)| *v).collect(),
    };
    let before = before.filter(|b| b.tensor.shape() == after.tensor.shape()).and_then(|b| b.tensor.as_f32());
    Some(histogram(before, &fixed))
}

/// Multiply-accumulates for one input; `None` where sizes are open or not to be inferred.
pub(super) fn macs(graph: &Graph) -> Option<u64> {
    let extent = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Known(extent) if axis > 0 => Some(*extent),
        _ if axis == 0 => Some(1),
        _ => None,
    };
    let mut shapes = Vec::new();
    for input in &graph.inputs {
        let shape: Option<Vec<usize>> = input.shape.as_ref()?.iter().enumerate().map(extent).collect();
        shapes.push((input.name.as_str(), shape?));
    }
    let found = macs_of(graph, &infer_shapes(graph, &shapes).ok()?).ok()?;
    let sum = found.iter().map(|n| n.macs).sum();
    (sum > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lenet_has_the_macs_of_its_publication() {
        let lenet = Model::open("zoo:lenet").unwrap();
        // 20 x 25 x 576, 50 x 500 x 64, 800 x 500, 500 x 10.
        assert_eq!(macs(&lenet.graph), Some(288_000 + 1_600_000 + 400_000 + 5_000));
    }

    #[test]
    fn a_network_without_codebooks_has_no_distributions() {
        let lenet = Model::open("zoo:lenet").unwrap();
        let found = layers(Some(&lenet.graph), &lenet.graph);
        assert!(found.len() == 8 && found.iter().all(|l| l.histogram.is_none() && l.codebooks == 0));
    }
}
