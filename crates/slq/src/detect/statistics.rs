//! Detection without labels: by the statistics that batch-norms store.

use slq_data::{Batch, Mode, Split, Transform};
use slq_engine::{EngineError, Isa};
use slq_graph::{DType, Graph, Node, Tensor, ValueInfo};

use super::candidates::{spread, usual};
use super::preprocessing::Detection;
use crate::Error;
use crate::batches::fitting_batch;

/// Inputs of batch-norms whose statistics are compared.
const NORMS: usize = 3;
/// Images that statistics are taken of, where as many fit into memory.
const STATISTICS: usize = 64;
/// Distance (see [`distance`]) up to which statistics are those of the stored ones.
const NEAR: f64 = 0.5;
/// Candidates that are no further than this factor times the smallest distance, or nearer than [`ALIKE`], fit as well.
const SLACK: f64 = 1.25;
/// See [`SLACK`].
const ALIKE: f64 = 0.05;

/// Finds the preprocessing without labels: the one with which the inputs of the first batch-norms have the means and
/// variances that are stored in them. `None` where there is no batch-norm to compare with, or none of the usual ones fits.
///
/// # Errors
/// The errors of engine and data.
pub fn detect_by_statistics(
    graph: &Graph,
    split: &Split,
    base: &Transform,
    isa: Isa,
) -> Result<Option<Detection>, Error> {
    let (found, _) = fitting_batch(STATISTICS, |count| by_statistics_of(count, graph, (split, base), isa))?;
    Ok(found)
}

/// The same by the statistics of so many images.
fn by_statistics_of(
    count: usize,
    graph: &Graph,
    (split, base): (&Split, &Transform),
    isa: Isa,
) -> Result<Option<Detection>, Error> {
    let norms: Vec<Norm<'_>> = graph.nodes.iter().filter_map(|n| Norm::of(graph, n)).take(NORMS).collect();
    let [input] = &graph.free_inputs().collect::<Vec<_>>()[..] else {
        return Ok(None);
    };
    if norms.is_empty() {
        return Ok(None);
    }
    let info = |n: &Norm<'_>| ValueInfo { name: n.input.into(), dtype: DType::F32, shape: None };
    let tapped = Graph { outputs: norms.iter().map(info).collect(), ..graph.clone() };
    let images = spread(split, count)?;
    let candidates = usual(base, split);
    let mut tried = Vec::new();
    for candidate in candidates {
        let transform = candidate.transform(base);
        let mut batches = images.batches(images.len(), &transform, Mode::Eval, false)?;
        let mut batch = Batch::default();
        batches.next_into(&mut batch)?;
        let tensor = Tensor::f32(batch.shape.to_vec(), batch.images)?;
        let found = match slq_engine::run(&tapped, &[(input.name.as_str(), &tensor)], isa) {
            Ok(found) => found,
            Err(error @ EngineError::Memory { .. }) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let far: Vec<f64> = norms.iter().zip(&found).map(|(n, (_, t))| distance(n, t)).collect();
        tried.push((candidate, transform, far.iter().sum::<f64>() / far.len() as f64));
    }
    let nearest = tried.iter().map(|t| t.2).fold(f64::INFINITY, f64::min);
    // The first in the list is the most usual; chance moves the statistics of so few images.
    let found = tried.iter().find(|t| t.2 <= (SLACK * nearest).max(ALIKE));
    Ok(match found {
        Some((candidate, transform, far)) if *far <= NEAR => {
            Some(candidate.found(transform.clone(), None, images.len()))
        }
        _ => None,
    })
}

/// A batch-norm and what it stores.
struct Norm<'a> {
    input: &'a str,
    mean: &'a [f32],
    variance: &'a [f32],
}

impl<'a> Norm<'a> {
    fn of(graph: &'a Graph, node: &'a Node) -> Option<Self> {
        let constant = |i: usize| graph.weights.get(node.input(i)?)?.tensor.as_f32();
        let is_norm = node.op == "BatchNormalization";
        let (input, mean, variance) = (node.input(0)?, constant(3)?, constant(4)?);
        (is_norm && mean.len() == variance.len()).then_some(Self { input, mean, variance })
    }
}

/// How far an activation's means and variances are from those stored: the mean over channels of the squared difference of
/// means in units of the stored deviation, and of the squared logarithm of the ratio of variances; each at most 10.
fn distance(norm: &Norm<'_>, found: &Tensor) -> f64 {
    let (Some(values), [batch, channels, ..]) = (found.as_f32(), found.shape()) else { return f64::INFINITY };
    if *channels != norm.mean.len() {
        return f64::INFINITY;
    }
    let plane = values.len() / (batch * channels).max(1);
    let mut sum = 0.0;
    for c in 0..*channels {
        let runs = || (0..*batch).flat_map(|n| &values[(n * channels + c) * plane..][..plane]);
        let n = (batch * plane).max(1) as f64;
        let mean = runs().map(|&v| f64::from(v)).sum::<f64>() / n;
        let variance = runs().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        let stored = f64::from(norm.variance[c]).max(1e-8);
        let shift = (mean - f64::from(norm.mean[c])).powi(2) / stored;
        let ratio = ((variance + 1e-8) / stored).ln().powi(2);
        sum += shift.min(10.0) + ratio.min(10.0);
    }
    sum / *channels as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[test]
    fn a_network_is_found_by_what_its_batch_norms_store() {
        // Noise about a bright mean; the first batch-norms are told what they see with pixels from -1 to 1.
        let pixels = |i: usize| 120 + ((i as u32).wrapping_mul(2_654_435_761) >> 25) as u8;
        let split =
            Split::from_bytes((0..8 * 3 * 1024).map(pixels).collect(), vec![0; 8], [3, 32, 32]).unwrap();
        let mut model = Model::open("zoo:resnet20").unwrap();
        let right = Transform { mean: vec![0.5], std: vec![0.5], ..Transform::default() };
        for place in 0..NORMS {
            let norms: Vec<Node> =
                model.graph.nodes.iter().filter(|n| n.op == "BatchNormalization").cloned().collect();
            let info = ValueInfo { name: norms[place].inputs[0].clone(), dtype: DType::F32, shape: None };
            let tapped = Graph { outputs: vec![info], ..model.graph.clone() };
            let mut batch = Batch::default();
            split.batches(8, &right, Mode::Eval, false).unwrap().next_into(&mut batch).unwrap();
            let tensor = Tensor::f32(batch.shape.to_vec(), batch.images).unwrap();
            let name = model.graph.inputs[0].name.clone();
            let found = slq_engine::run(&tapped, &[(name.as_str(), &tensor)], Isa::detect()).unwrap();
            let (values, shape) = (found[0].1.as_f32().unwrap(), found[0].1.shape());
            let plane = shape[2] * shape[3];
            for c in 0..shape[1] {
                let all = || (0..8).flat_map(|n| &values[(n * shape[1] + c) * plane..][..plane]);
                let mean = all().sum::<f32>() / (8 * plane) as f32;
                let variance = all().map(|v| (v - mean).powi(2)).sum::<f32>() / (8 * plane) as f32;
                for (input, value) in [(3, mean), (4, variance)] {
                    let stored = &mut model.graph.weights[&norms[place].inputs[input]];
                    stored.tensor.as_f32_mut().unwrap()[c] = value;
                }
            }
        }
        let found = detect_by_statistics(&model.graph, &split, &Transform::default(), Isa::detect())
            .unwrap()
            .unwrap();
        assert!(found.name == "-1 to 1" && found.accuracy.is_none(), "{}", found.name);
        let lenet = Model::open("zoo:lenet").unwrap();
        let none = detect_by_statistics(&lenet.graph, &split, &Transform::default(), Isa::detect()).unwrap();
        assert!(none.is_none(), "without batch-norm there is nothing to compare with");
    }
}
