//! Data-free bias correction (Nagel et al., ICCV 2019): quantizing weights shifts mean and variance of a layer's
//! channels; both are estimated from batch-norm statistics and corrected (docs/kmeans.md).

mod moments;

use std::borrow::Cow;
use std::collections::HashMap;

use slq_graph::{Graph, Node, Tensor};

use super::layer::Layer;
use moments::{Moments, moments};

/// A constant and the values that it is to take.
pub(crate) type NewValues = (String, Vec<f32>);

/// A layer and its weights before and after.
pub(crate) type Moved<'a> = (&'a Layer, Cow<'a, [f32]>, Cow<'a, [f32]>);

/// Expected change of a layer's output statistics once its weights are quantized.
struct Shift {
    /// Change of each output channel's mean.
    mean: Vec<f64>,
    /// Factor on each output channel's variance.
    spread: Vec<f64>,
}

/// New values for the parameters behind layers whose weights changed: running mean and variance of the batch-norm that alone
/// reads a layer's output, else the layer's bias (Nagel et al., ICCV 2019, section 4.2). None for layers whose input
/// statistics are unknown, or whose weight, bias or statistics other nodes read too.
pub(crate) fn corrections<'a>(graph: &Graph, moved: impl IntoIterator<Item = Moved<'a>>) -> Vec<NewValues> {
    let (known, reads) = (moments(graph), graph.reads());
    moved.into_iter().flat_map(|moved| change(graph, &moved, &known, &reads)).collect()
}

/// Gives the constants of `graph` their new values.
pub(crate) fn apply(graph: &mut Graph, corrections: &[NewValues]) {
    for (name, values) in corrections {
        let Some(weight) = graph.weights.get_mut(name) else { continue };
        let (shape, dtype) = (weight.tensor.shape().to_vec(), weight.tensor.dtype());
        if let Ok(tensor) = Tensor::floats(shape, dtype, values.clone()) {
            weight.tensor = tensor;
        }
    }
}

/// New values of the constants behind a layer, by name.
fn change(
    graph: &Graph,
    moved: &Moved<'_>,
    known: &HashMap<&str, Moments>,
    reads: &HashMap<&str, usize>,
) -> Vec<NewValues> {
    let layer = moved.0;
    let once = |name: &str| reads.get(name) == Some(&1);
    let node =
        graph.consumers_of(&layer.weight).next().filter(|n| n.domain.is_empty() && once(&layer.weight));
    let shift = node.and_then(|node| Some((node, shift(graph, node, moved, known.get(node.input(0)?)?)?)));
    let Some((node, shift)) = shift else { return Vec::new() };
    let own = |name: Option<&str>| {
        let name = name.filter(|name| once(name))?;
        let values = graph.weights.get(name)?.tensor.to_f32().filter(|v| v.len() == shift.mean.len())?;
        Some((name.to_string(), values))
    };
    let output = node.outputs.first().map_or("", String::as_str);
    let norm = graph.consumers_of(output).next().filter(|n| n.op == "BatchNormalization" && once(output));
    if let Some(norm) = norm {
        let (Some((mean, means)), Some((variance, variances))) = (own(norm.input(3)), own(norm.input(4)))
        else {
            return Vec::new();
        };
        let means = means.iter().zip(&shift.mean).map(|(&m, s)| (f64::from(m) + s) as f32);
        let variances = variances.iter().zip(&shift.spread).map(|(&v, s)| (f64::from(v) * s) as f32);
        return vec![(mean, means.collect()), (variance, variances.collect())];
    }
    let beta = if node.op == "Gemm" { f64::from(node.float("beta", 1.0)) } else { 1.0 };
    match own(node.input(2)) {
        Some((bias, values)) if beta != 0.0 => {
            let values = values.iter().zip(&shift.mean).map(|(&b, s)| (f64::from(b) - s / beta) as f32);
            vec![(bias, values.collect())]
        }
        _ => Vec::new(),
    }
}

/// Expected change of the outputs of a `Conv` or `Gemm`: of each channel's mean, the change of its weights times the means of
/// their inputs; of its variance, the ratio of new to old, neighbouring pixels taken as independent.
fn shift(graph: &Graph, node: &Node, moved: &Moved<'_>, input: &Moments) -> Option<Shift> {
    let (layer, before, after) = moved;
    let tensor = &graph.weights.get(&layer.weight)?.tensor;
    ([before.len(), after.len()] == [tensor.len(); 2]).then_some(())?;
    // Output channels, inputs of each, weights for an input; groups, and whether the matrix is stored inputs first.
    let (outputs, inputs, run, groups, transposed) = match (node.op.as_str(), tensor.shape()) {
        ("Conv", &[outputs, inputs, ref kernel @ ..]) => {
            let groups = usize::try_from(node.int("group", 1)).ok().filter(|&g| g > 0 && outputs % g == 0)?;
            (outputs, inputs, kernel.iter().product::<usize>(), groups, false)
        }
        ("Gemm", &[rows, columns]) if node.int("transA", 0) == 0 => match node.int("transB", 0) {
            0 => (columns, rows, 1, 1, true),
            _ => (rows, columns, 1, 1, false),
        },
        _ => return None,
    };
    (inputs.checked_mul(groups) == Some(input.mean.len())).then_some(())?;
    let factor = if node.op == "Gemm" { f64::from(node.float("alpha", 1.0)) } else { 1.0 };
    let (mut mean, mut spread) = (vec![0.0; outputs], vec![1.0; outputs]);
    for output in 0..outputs {
        let first = output / (outputs / groups) * inputs;
        let (mut old, mut new) = (0.0, 0.0);
        for i in 0..inputs {
            let at = if transposed { i * outputs + output } else { (output * inputs + i) * run };
            for (&b, &a) in before[at..at + run].iter().zip(&after[at..at + run]) {
                let (b, a) = (f64::from(b), f64::from(a));
                mean[output] += factor * (a - b) * input.mean[first + i];
                old += b * b * input.variance[first + i];
                new += a * a * input.variance[first + i];
            }
        }
        if old > 0.0 && new > 0.0 {
            spread[output] = new / old;
        }
    }
    (mean.iter().chain(&spread).all(|v| v.is_finite())).then_some(Shift { mean, spread })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::select::select_layers;
    use crate::quantize::settings::Quantize;
    use slq_graph::{Attribute, Tensor};

    /// Batch-norm, rectifier, convolution, batch-norm, average, product with bias.
    fn network() -> Graph {
        let mut graph = Graph::default();
        let mut add = |name: &str, shape: &[usize], values: &[f32]| {
            let count = shape.iter().product();
            let values = values.iter().copied().cycle().take(count).collect();
            graph.weights.insert(name.into(), Tensor::f32(shape.to_vec(), values).unwrap().into());
        };
        add("one", &[2], &[1.0]);
        add("shift", &[2], &[3.0, -0.5]);
        add("zero", &[2], &[0.0]);
        add("conv", &[2, 2, 1, 1], &[0.9, 0.2, -0.4, 0.7]);
        add("mean", &[2], &[0.1, 0.2]);
        add("var", &[2], &[1.0, 2.0]);
        add("fc", &[3, 2], &[0.5, 0.3, -0.8, 0.1, 0.6, -0.2]);
        add("bias", &[3], &[0.0, 1.0, 2.0]);
        graph.nodes = vec![
            Node::new("n0", "BatchNormalization", &["x", "one", "shift", "zero", "one"], &["a"]),
            Node::new("r", "Relu", &["a"], &["b"]),
            Node::new("c", "Conv", &["b", "conv"], &["d"]),
            Node::new("n1", "BatchNormalization", &["d", "one", "shift", "mean", "var"], &["e"]),
            Node::new("p", "GlobalAveragePool", &["e"], &["f"]),
            Node::new("l", "Flatten", &["f"], &["g"]),
            Node::new("m", "Gemm", &["g", "fc", "bias"], &["y"]).with("transB", Attribute::Int(1)),
        ];
        graph
    }

    fn values(graph: &Graph, name: &str) -> Vec<f64> {
        graph.weights[name].tensor.as_f32().unwrap().iter().map(|&v| f64::from(v)).collect()
    }

    /// The network after each layer is set to its mean value, corrected, and how many constants moved.
    fn corrected(mut graph: Graph) -> (Graph, usize) {
        let layers = select_layers(&graph, &Quantize::kmeans(5)).unwrap();
        let found = corrections(
            &graph,
            layers.iter().map(|layer| {
                let before = graph.weights[&layer.weight].tensor.as_f32().unwrap();
                let mean = before.iter().sum::<f32>() / before.len() as f32;
                (layer, before.into(), vec![mean; before.len()].into())
            }),
        );
        apply(&mut graph, &found);
        (graph, found.len())
    }

    #[test]
    fn expected_outputs_are_those_before() {
        let before = network();
        let (after, count) = corrected(before.clone());
        assert_eq!(count, 3);
        let expected = moments(&before)["b"].clone();
        for c in 0..2 {
            // What the norm subtracts moves with what the convolution is expected to give.
            let row = &values(&before, "conv")[2 * c..][..2];
            let (old, new): (f64, f64) = row
                .iter()
                .zip(&expected.mean)
                .map(|(w, m)| (w * m, 0.35 * m))
                .fold((0.0, 0.0), |s, t| (s.0 + t.0, s.1 + t.1));
            let moved = values(&after, "mean")[c] - values(&before, "mean")[c];
            assert!((moved - (new - old)).abs() < 1e-6, "{moved} {}", new - old);
            let energy = |w: &[f64]| w.iter().zip(&expected.variance).map(|(w, v)| w * w * v).sum::<f64>();
            let ratio = values(&after, "var")[c] / values(&before, "var")[c];
            assert!((ratio - energy(&[0.35; 2]) / energy(row)).abs() < 1e-5);
        }
        // The means in front of the product are the second norm's shifts.
        let mean = values(&before, "fc").iter().sum::<f64>() / 6.0;
        for o in 0..3 {
            let row = &values(&before, "fc")[2 * o..][..2];
            let moved: f64 = row.iter().zip([3.0, -0.5]).map(|(w, m)| (w - mean) * m).sum();
            let bias = values(&after, "bias")[o] - values(&before, "bias")[o];
            assert!((bias - moved).abs() < 1e-6, "{bias} {moved}");
        }
    }

    #[test]
    fn groups_meet_their_own_channels() {
        let mut graph = network();
        graph.weights.insert("conv".into(), Tensor::f32(vec![2, 1, 1, 1], vec![0.5, 1.5]).unwrap().into());
        graph.nodes[2].attributes.insert("group".into(), Attribute::Int(2));
        let expected = moments(&graph)["b"].mean.clone();
        let (after, _) = corrected(graph.clone());
        for (c, change) in [0.5, -0.5].into_iter().enumerate() {
            let moved = values(&after, "mean")[c] - values(&graph, "mean")[c];
            assert!((moved - change * expected[c]).abs() < 1e-6);
        }
    }

    #[test]
    fn what_others_read_or_nothing_is_known_of_is_left_alone() {
        let mut shared = network();
        shared.nodes.push(Node::new(
            "n2",
            "BatchNormalization",
            &["g", "one", "shift", "mean", "var"],
            &["z"],
        ));
        assert_eq!(corrected(shared.clone()).1, 1);
        assert_eq!(corrected(shared.clone()).0.weights["mean"], shared.weights["mean"]);
        let mut unknown = network();
        unknown.nodes[1].op = "Sigmoid".into();
        unknown.nodes[4].op = "GlobalMaxPool".into();
        let (after, count) = corrected(unknown.clone());
        assert_eq!((count, after.weights), (0, unknown.weights));
    }
}
