//! What stands behind a layer: the batch-norm that scales its outputs, or the bias that shifts them.

use std::collections::HashMap;

use slq_graph::{Graph, Node};

use super::super::matrix::Moments;
use super::site::Site;

/// A ratio of deviations outside this range and its inverse is not believed: the channel is all but constant.
const MOST_SPREAD: f64 = 4.0;

/// How the output's moments can be put right.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Follow {
    /// A batch-norm reads the output alone.
    Norm(Norm),
    /// A bias is added with a factor: the layer's own, or that of an `Add` behind it.
    Bias { name: String, factor: f64 },
    /// Neither, and why.
    Nothing(&'static str),
}

/// A batch-norm whose statistics nobody else reads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Norm {
    mean: String,
    variance: String,
    scale: Vec<f64>,
    epsilon: f64,
    /// The layer's own bias, which is added before the norm.
    bias: Vec<f64>,
}

impl Follow {
    /// Finds what stands behind a layer of `rows` outputs.
    pub fn of(graph: &Graph, site: &Site, reads: &HashMap<&str, usize>) -> Self {
        let rows = site.shape.rows;
        let once = |name: &str| reads.get(name) == Some(&1);
        if !once(&site.weight) || !once(&site.read) {
            return Follow::Nothing("other nodes read the weight too");
        }
        let vector = |name: Option<&str>| -> Option<Vec<f64>> {
            let values = graph.weights.get(name?)?.tensor.as_f32()?;
            (values.len() == rows).then(|| values.iter().map(|&v| v.into()).collect())
        };
        let reader = once(&site.output).then(|| graph.consumers_of(&site.output).next()).flatten();
        if let Some(node) = reader.filter(|n| n.op == "BatchNormalization" && n.domain.is_empty()) {
            return norm(node, site, vector, once).map_or(
                Follow::Nothing("other nodes read the statistics of the batch-norm too"),
                Follow::Norm,
            );
        }
        if let Some(name) = site.bias.as_deref().filter(|n| once(n) && site.beta != 0.0)
            && vector(Some(name)).is_some()
        {
            let factor = f64::from(site.beta);
            return Follow::Bias { name: name.into(), factor };
        }
        let added = reader.filter(|n| n.op == "Add" && n.domain.is_empty()).and_then(|node| {
            let other = node.inputs.iter().find(|i| **i != site.output)?;
            (once(other) && along_channels(graph, other, site)).then(|| other.clone())
        });
        match added {
            Some(name) => Follow::Bias { name, factor: 1.0 },
            None => Follow::Nothing("neither batch-norm nor bias follows"),
        }
    }

    /// What a squared error of each output counts: the squared scale that the batch-norm applies to it, over the largest of
    /// them; 1 where there is none. Channels that are scaled away count a millionth, not nothing.
    pub fn row_weights(&self, graph: &Graph, rows: usize) -> Vec<f32> {
        let Follow::Norm(norm) = self else { return vec![1.0; rows] };
        let variance = floats(graph, &norm.variance);
        let pairs = norm.scale.iter().zip(&variance);
        let weights: Vec<f64> = pairs.map(|(g, &v)| g * g / (v + norm.epsilon)).collect();
        let largest = weights.iter().copied().fold(0.0, f64::max);
        if !(largest > 0.0 && largest.is_finite()) {
            return vec![1.0; rows];
        }
        weights.into_iter().map(|w| (w / largest).max(1e-6) as f32).collect()
    }

    /// New values of the constants that make each output keep the float network's mean and deviation.
    ///
    /// `now` holds the moments of what the stored weights give; `scales` are the factors that make them the layer's
    /// weights. Moments are those of the layer's product alone. `spread` is how far deviations follow: 0 applies the scales
    /// only, 1 gives the float network's deviation.
    pub fn corrections(
        &self,
        graph: &Graph,
        (float, now): (&Moments, &Moments),
        scales: &[f32],
        spread: f64,
    ) -> Vec<(String, Vec<f32>)> {
        match self {
            Follow::Nothing(_) => Vec::new(),
            Follow::Bias { name, factor } => {
                let values = floats(graph, name);
                let shifts = float.mean.iter().zip(&now.mean).map(|(f, n)| (f - n) / factor);
                vec![(name.clone(), values.iter().zip(shifts).map(|(v, s)| (v + s) as f32).collect())]
            }
            Follow::Norm(norm) => {
                let (means, variances) = (floats(graph, &norm.mean), floats(graph, &norm.variance));
                let (mut mean, mut variance) = (Vec::new(), Vec::new());
                for c in 0..means.len() {
                    let scale = f64::from(scales[c]);
                    let kept = ratio(float.variance[c], scale * scale * now.variance[c]).powf(spread);
                    let ratio = kept / scale;
                    let bias = norm.bias.get(c).copied().unwrap_or(0.0);
                    let (old, new) = (float.mean[c] + bias, now.mean[c] + bias);
                    mean.push((new - (old - means[c]) * ratio) as f32);
                    let scaled = (variances[c] + norm.epsilon) * ratio * ratio - norm.epsilon;
                    variance.push(scaled.max(0.0) as f32);
                }
                vec![(norm.mean.clone(), mean), (norm.variance.clone(), variance)]
            }
        }
    }

    /// The activation that the layer's output is added to (behind the batch-norm, if one follows), as in a residual block,
    /// and what it counts in the unit of the layer's product: one factor for each output. Where the batch-norm scales an
    /// output away the factor is 0.
    pub fn skip(
        &self,
        graph: &Graph,
        site: &Site,
        reads: &HashMap<&str, usize>,
    ) -> Option<(String, Vec<f32>)> {
        let rows = site.shape.rows;
        let (value, factors) = match self {
            Follow::Norm(norm) => {
                let node = graph.consumers_of(&site.output).next()?;
                let variance = floats(graph, &norm.variance);
                let scales = norm.scale.iter().zip(&variance).map(|(g, &v)| g / (v + norm.epsilon).sqrt());
                let scales: Vec<f64> = scales.collect();
                let largest = scales.iter().fold(0.0, |m: f64, s| m.max(s.abs()));
                let factor = |s: f64| if s.abs() > 1e-3 * largest { (1.0 / s) as f32 } else { 0.0 };
                (node.outputs.first()?, scales.into_iter().map(factor).collect())
            }
            _ => (&site.output, vec![1.0 / site.alpha; rows]),
        };
        if reads.get(value.as_str()) != Some(&1) {
            return None;
        }
        let node = graph.consumers_of(value).next().filter(|n| n.op == "Add" && n.domain.is_empty())?;
        let other = node.inputs.iter().find(|i| *i != value)?;
        (!graph.weights.contains_key(other)).then(|| (other.clone(), factors))
    }

    /// Whether a factor on each output can be taken up.
    pub fn takes_scales(&self) -> bool {
        matches!(self, Follow::Norm(_))
    }

    /// Whether a constant on each output can be taken up.
    pub fn takes_shifts(&self) -> bool {
        !matches!(self, Follow::Nothing(_))
    }
}

/// Deviation now over that of the float network; 1 where they cannot be compared.
fn ratio(float: f64, now: f64) -> f64 {
    let ratio = (now / float).sqrt();
    if ratio.is_finite() && ratio > 0.0 { ratio.clamp(1.0 / MOST_SPREAD, MOST_SPREAD) } else { 1.0 }
}

fn norm(
    node: &Node,
    site: &Site,
    vector: impl Fn(Option<&str>) -> Option<Vec<f64>>,
    once: impl Fn(&str) -> bool,
) -> Option<Norm> {
    let (mean, variance) = (node.input(3)?, node.input(4)?);
    if !(once(mean) && once(variance)) {
        return None;
    }
    vector(Some(mean))?;
    vector(Some(variance))?;
    let bias = match site.bias.as_deref() {
        Some(name) => vector(Some(name))?.iter().map(|b| b * f64::from(site.beta)).collect(),
        None => Vec::new(),
    };
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    Some(Norm { mean: mean.into(), variance: variance.into(), scale: vector(node.input(1))?, epsilon, bias })
}

/// Whether a constant has one value for each output of the layer, in the place where a sum meets them.
fn along_channels(graph: &Graph, name: &str, site: &Site) -> bool {
    let Some(weight) = graph.weights.get(name).filter(|w| w.tensor.as_f32().is_some()) else { return false };
    let (shape, rows) = (weight.tensor.shape(), site.shape.rows);
    // Windows write [N, C, H, W] or [N, C, W]: channels lie before the spatial axes; rows write them last.
    let behind = if let super::site::Reads::Windows { axes, .. } = site.reads { axes } else { 0 };
    let at = shape.len().checked_sub(behind + 1);
    at.is_some_and(|at| shape[at] == rows && weight.tensor.len() == rows)
}

fn floats(graph: &Graph, name: &str) -> Vec<f64> {
    let values = graph.weights.get(name).and_then(|w| w.tensor.as_f32()).unwrap_or_default();
    values.iter().map(|&v| v.into()).collect()
}
