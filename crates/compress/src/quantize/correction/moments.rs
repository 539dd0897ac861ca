//! Mean and variance of every activation channel, estimated from batch-norm parameters without data.

use std::collections::HashMap;
use std::f64::consts::{PI, SQRT_2};

use slq_graph::{Graph, Node};

/// Mean and variance of each channel of an activation.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: Vec<f64>,
    pub(super) variance: Vec<f64>,
}

/// The moments of every value of `graph` that follow from the batch-norms in front of it: behind one, a channel is
/// taken for Gaussian with mean beta and deviation |gamma|, and followed through rectifiers, sums, joins and pools to
/// the layers that read it (Nagel et al., ICCV 2019, sections 4.1.2 and 4.2). Summands count as independent; values
/// whose moments are unknown have no entry.
pub(super) fn moments(graph: &Graph) -> HashMap<&str, Moments> {
    let mut known: HashMap<&str, Moments> = HashMap::new();
    for node in graph.nodes.iter().filter(|n| n.domain.is_empty()) {
        if let (Some(found), Some(output)) = (behind(graph, node, &known), node.outputs.first()) {
            known.insert(output, found);
        }
    }
    known
}

fn behind(graph: &Graph, node: &Node, known: &HashMap<&str, Moments>) -> Option<Moments> {
    let constant = |i: usize| graph.weights.get(node.input(i)?)?.tensor.to_f32();
    let input = |i: usize| known.get(node.input(i)?);
    match node.op.as_str() {
        "BatchNormalization" => {
            let (gamma, beta) = (constant(1)?, constant(2)?);
            (gamma.len() == beta.len()).then(|| Moments {
                mean: beta.iter().map(|&b| b.into()).collect(),
                variance: gamma.iter().map(|&g| f64::from(g).powi(2)).collect(),
            })
        }
        "Relu" => Some(input(0)?.clipped(0.0, f64::INFINITY)),
        "Clip" => {
            // A bound is an attribute up to opset 10 and a scalar input after that.
            let bound = |i: usize, name: &str, default: f32| match node.input(i) {
                Some(_) => constant(i)?.first().copied(),
                None => Some(node.float(name, default)),
            };
            let (low, high) = (bound(1, "min", f32::NEG_INFINITY)?, bound(2, "max", f32::INFINITY)?);
            (low <= high).then_some(())?;
            Some(input(0)?.clipped(low.into(), high.into()))
        }
        "Add" | "Sum" => {
            let mut sum = input(0)?.clone();
            for i in 1..node.inputs.len() {
                let other = input(i).filter(|o| o.mean.len() == sum.mean.len())?;
                sum.mean.iter_mut().zip(&other.mean).for_each(|(s, o)| *s += o);
                sum.variance.iter_mut().zip(&other.variance).for_each(|(s, o)| *s += o);
            }
            Some(sum)
        }
        "Concat" if node.int("axis", 0) == 1 => {
            let mut joined = Moments { mean: Vec::new(), variance: Vec::new() };
            for i in 0..node.inputs.len() {
                joined.mean.extend(&input(i)?.mean);
                joined.variance.extend(&input(i)?.variance);
            }
            Some(joined)
        }
        // An average keeps the mean. It keeps more or less of the variance, depending on the correlation of neighbours,
        // which is unknown: all of it is taken.
        "AveragePool" | "GlobalAveragePool" | "Flatten" | "Reshape" | "Identity" | "Dropout" => {
            input(0).cloned()
        }
        _ => None,
    }
}

impl Moments {
    /// The moments of Gaussian channels bounded below and above.
    fn clipped(&self, low: f64, high: f64) -> Self {
        let each =
            self.mean.iter().zip(&self.variance).map(|(&m, &v)| clipped_gaussian(m, v.sqrt(), low, high));
        let (mean, variance) = each.unzip();
        Self { mean, variance }
    }
}

/// Mean and variance of clip(x, low, high) for x Gaussian.
fn clipped_gaussian(mean: f64, deviation: f64, low: f64, high: f64) -> (f64, f64) {
    if deviation == 0.0 {
        return (mean.clamp(low, high), 0.0);
    }
    let density = |z: f64| (-z * z / 2.0).exp() / (2.0 * PI).sqrt();
    let below = |z: f64| 0.5 * libm::erfc(-z / SQRT_2);
    let (a, b) = ((low - mean) / deviation, (high - mean) / deviation);
    let (at_low, at_high) = (below(a), below(-b));
    let inside = (1.0 - at_low - at_high).max(0.0);
    let (pa, pb) = (density(a), density(b));
    // An infinite bound is never reached: its terms are zero, not infinity times zero.
    let term = |bound: f64, weight: f64| if bound.is_finite() { bound * weight } else { 0.0 };
    let first = term(low, at_low) + term(high, at_high) + mean * inside + deviation * (pa - pb);
    let second = term(low * low, at_low)
        + term(high * high, at_high)
        + (mean * mean + deviation * deviation) * inside
        + deviation * (mean * (pa - pb) + term(low, pa) - term(high, pb));
    (first, (second - first * first).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use slq_graph::{Attribute, Tensor};

    /// Integrates clip(x) and clip(x)^2 over ten deviations on either side.
    fn integrated(mean: f64, deviation: f64, low: f64, high: f64) -> (f64, f64) {
        let steps = 200_000;
        let width = 20.0 / f64::from(steps);
        let (mut first, mut second) = (0.0, 0.0);
        for i in 0..steps {
            let z = -10.0 + (f64::from(i) + 0.5) * width;
            let p = (-z * z / 2.0).exp() / (2.0 * PI).sqrt() * width;
            let x = (mean + deviation * z).clamp(low, high);
            first += p * x;
            second += p * x * x;
        }
        (first, second - first * first)
    }

    #[test]
    fn clipped_gaussians_have_the_moments_that_integration_finds() {
        for (mean, deviation) in [(0.0, 1.0), (-2.0, 0.7), (5.0, 3.0), (0.3, 0.01), (-40.0, 1.0), (9.0, 0.5)]
        {
            for (low, high) in [(0.0, f64::INFINITY), (0.0, 6.0), (f64::NEG_INFINITY, 1.0), (-1.0, 1.0)] {
                let (found, expected) =
                    (clipped_gaussian(mean, deviation, low, high), integrated(mean, deviation, low, high));
                assert!(
                    (found.0 - expected.0).abs() < 1e-6,
                    "{mean} {deviation} {low} {high}: {found:?} {expected:?}"
                );
                assert!(
                    (found.1 - expected.1).abs() < 1e-5,
                    "{mean} {deviation} {low} {high}: {found:?} {expected:?}"
                );
            }
        }
        assert_eq!(clipped_gaussian(-3.0, 0.0, 0.0, 6.0), (0.0, 0.0));
    }

    #[test]
    fn moments_follow_rectifiers_sums_and_joins_and_end_where_nothing_is_known() {
        let mut graph = Graph::default();
        for (name, values) in
            [("g", vec![1.0, 2.0]), ("b", vec![0.5, -1.0]), ("m", vec![0.0; 2]), ("v", vec![1.0; 2])]
        {
            graph.weights.insert(name.into(), Tensor::f32(vec![2], values).unwrap().into());
        }
        graph.nodes = vec![
            Node::new("n", "BatchNormalization", &["x", "g", "b", "m", "v"], &["y"]),
            Node::new("r", "Relu", &["y"], &["r"]),
            Node::new("a", "Add", &["y", "r"], &["a"]),
            Node::new("c", "Concat", &["a", "y"], &["c"]).with("axis", Attribute::Int(1)),
            Node::new("p", "GlobalAveragePool", &["c"], &["p"]),
            Node::new("s", "Sigmoid", &["p"], &["s"]),
            Node::new("t", "Add", &["a", "s"], &["t"]),
        ];
        let found = moments(&graph);
        assert_eq!(found["y"], Moments { mean: vec![0.5, -1.0], variance: vec![1.0, 4.0] });
        let (relu, _) = integrated(-1.0, 2.0, 0.0, f64::INFINITY);
        assert!((found["a"].mean[1] - (relu - 1.0)).abs() < 1e-6);
        assert!(found["a"].variance[0] > 1.0);
        assert_eq!(found["p"].mean.len(), 4);
        assert_eq!(found["p"].mean[2..], [0.5, -1.0]);
        assert!(!found.contains_key("s") && !found.contains_key("t") && !found.contains_key("x"));
    }
}
