//! Which layers can be split, what that costs for each rank, and why others are left whole.

use glob::Pattern;
use serde::{Deserialize, Serialize};
use slq_graph::op::{Op, Window};
use slq_graph::{Dim, Graph, Node, Shapes, infer_shapes};

use super::scheme::{Extents, Scheme, View};
use super::settings::{Decompose, RankOverride};
use crate::error::CompressError;

/// What a layer costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Multiply-accumulates (MACs) for one image (or the batch that the graph declares).
    pub macs: u64,
    /// Parameters, bias excluded.
    pub parameters: u64,
}

impl Cost {
    pub(crate) fn times(self, n: usize) -> Self {
        let n = n as u64;
        Self { macs: self.macs.saturating_mul(n), parameters: self.parameters.saturating_mul(n) }
    }
}

/// The operator of a layer that can be split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Form {
    Conv(Window),
    Gemm,
    MatMul,
}

/// A layer that can be split.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Candidate {
    /// Position in the graph's nodes.
    pub node: usize,
    pub name: String,
    pub weight: String,
    pub form: Form,
    pub view: View,
    /// Whether a matrix is stored as outputs x inputs.
    pub outputs_first: bool,
    pub whole: Cost,
    /// Cost of the layers it is split into, for each unit of rank.
    pub per_rank: Cost,
    /// The rank that a rule for this layer asks for.
    pub pinned: Option<usize>,
}

/// Why a layer is left whole.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Reason {
    /// The network's first convolution reads few channels and is sensitive.
    FirstConvolution,
    /// A 1 x 1 convolution.
    Pointwise,
    /// A convolution in groups.
    Grouped,
    /// A rule for this layer says so.
    Skipped,
    /// Several nodes read the weight.
    Shared,
    /// A form of the operator that a pair of layers cannot express.
    Form(&'static str),
    /// A split at this rank costs as much or more.
    Cost {
        /// The rank asked for, or 1 where no rank would do.
        rank: usize,
        /// What is counted: MACs or parameters.
        what: &'static str,
        /// Cost of the split.
        split: u64,
        /// Cost of the whole layer.
        whole: u64,
    },
    /// A budget was met without it.
    Budget,
    /// The singular value decomposition did not converge.
    NoConvergence,
}

impl Reason {
    /// Whether the layer was left whole because something failed.
    pub(crate) fn is_failure(&self) -> bool {
        *self == Self::NoConvergence
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FirstConvolution => write!(f, "the first convolution"),
            Self::Pointwise => write!(f, "a 1x1 convolution"),
            Self::Grouped => write!(f, "a convolution in groups"),
            Self::Skipped => write!(f, "skipped as asked"),
            Self::Shared => write!(f, "several nodes share its weight"),
            Self::Form(what) => write!(f, "{what}"),
            Self::Cost { rank, what, split, whole } => {
                write!(f, "a split at rank {rank} takes {split} {what}, the layer {whole}")
            }
            Self::Budget => write!(f, "the budget is met without it"),
            Self::NoConvergence => write!(f, "its singular value decomposition did not converge"),
        }
    }
}

/// A layer of the kinds to be split that is left whole.
#[derive(Debug, Clone, PartialEq)]
pub struct LeftWhole {
    /// Name of its node.
    pub name: String,
    /// Name of its weight.
    pub weight: String,
    /// Why.
    pub reason: Reason,
}

/// The shapes of a graph for one image, or for the batch that the graph declares.
pub(crate) fn one_image(graph: &Graph) -> Result<Shapes, CompressError> {
    let extent = |(i, dim): (usize, &Dim)| match dim {
        Dim::Known(d) => Some(*d),
        _ => (i == 0).then_some(1),
    };
    let inputs = graph.free_inputs();
    let shapes: Vec<_> = inputs
        .filter_map(|i| {
            let dims = i.shape.as_ref()?.iter().enumerate().map(extent).collect::<Option<Vec<usize>>>()?;
            Some((i.name.as_str(), dims))
        })
        .collect();
    Ok(infer_shapes(graph, &shapes)?)
}

/// MACs and parameters of a network: the former for one image (or the batch that the graph declares), of all
/// convolutions and matrix products, the latter with running statistics included.
///
/// # Errors
/// [`CompressError::Graph`] where the shapes cannot be inferred.
pub fn network_cost(graph: &Graph) -> Result<Cost, CompressError> {
    let macs = slq_graph::stats::macs(graph, &one_image(graph)?)?;
    let macs = macs.iter().fold(0u64, |sum, m| sum.saturating_add(m.macs));
    Ok(Cost { macs, parameters: graph.parameter_count() as u64 })
}

/// Checks settings, and that there is something to split.
///
/// # Errors
/// [`CompressError::Setting`], [`CompressError::NothingToDecompose`], [`CompressError::LayerRank`] for a rule of a layer.
pub(crate) fn check_layers(graph: &Graph, settings: &Decompose) -> Result<(), CompressError> {
    settings.check()?;
    find(graph, settings).map(drop)
}

/// The layers to split, and those of the same kinds that are left whole, in execution order.
pub(crate) fn find(
    graph: &Graph,
    settings: &Decompose,
) -> Result<(Vec<Candidate>, Vec<LeftWhole>), CompressError> {
    let shapes = one_image(graph)?;
    let readers = graph.reads();
    let mut layers = Vec::new();
    let mut convolutions = 0;
    for (index, op) in shapes.ops() {
        let node = &graph.nodes[*index];
        let scheme = match op {
            Op::Conv { .. } => settings.convolutions,
            Op::Gemm { .. } | Op::MatMul => Some(Scheme::Svd).filter(|_| settings.fully_connected),
            _ => None,
        };
        convolutions += usize::from(matches!(op, Op::Conv { .. }));
        let weight = node.input(1).filter(|w| {
            graph.weights.get(*w).is_some_and(|w| w.tensor.as_f32().is_some_and(|v| !v.is_empty()))
        });
        if let (Some(scheme), Some(weight)) = (scheme, weight)
            && let Some(described) = describe(graph, &shapes, *index, op, scheme)?
        {
            let shared = readers.get(weight).is_some_and(|&n| n > 1);
            let by_default = match described.1 {
                Some(reason) => Some((reason, false)),
                None if shared => Some((Reason::Shared, false)),
                None if matches!(op, Op::Conv { .. }) && convolutions == 1 => {
                    Some((Reason::FirstConvolution, true))
                }
                None if is_pointwise(&described.0) => Some((Reason::Pointwise, true)),
                None => None,
            };
            layers.push((described.0, by_default));
        }
    }
    let overrides = overrides(&layers, settings)?;
    let (mut candidates, mut left) = (Vec::new(), Vec::new());
    for ((mut layer, by_default), chosen) in layers.into_iter().zip(overrides) {
        let reason = match (by_default, chosen) {
            (Some((reason, false)), _) => Some(reason),
            (_, Some(RankOverride::Skip)) => Some(Reason::Skipped),
            (Some((reason, true)), None) => Some(reason),
            _ => None,
        };
        if let Some(reason) = reason {
            left.push(LeftWhole { name: layer.name, weight: layer.weight, reason });
            continue;
        }
        if let Some(RankOverride::Rank(rank)) = chosen {
            let full = layer.view.full_rank();
            if rank > full {
                return Err(CompressError::LayerRank { layer: layer.name, rank, full });
            }
            layer.pinned = Some(rank);
        }
        let values = graph.weights[&layer.weight].tensor.as_f32().unwrap_or_default();
        if let Some(position) = values.iter().position(|v| !v.is_finite()) {
            return Err(CompressError::NonFinite { weight: layer.weight, position, value: values[position] });
        }
        candidates.push(layer);
    }
    if candidates.is_empty() {
        let reasons: Vec<String> = left.iter().map(|l| format!("{}: {}", l.name, l.reason)).collect();
        return Err(CompressError::NothingToDecompose {
            schemes: settings.schemes(),
            left: summary(reasons),
        });
    }
    Ok((candidates, left))
}

/// The first few reasons, for a message.
fn summary(mut reasons: Vec<String>) -> String {
    const SHOWN: usize = 4;
    if reasons.is_empty() {
        return "it has no such layer with constant float weights".into();
    }
    let more = reasons.len().saturating_sub(SHOWN);
    reasons.truncate(SHOWN);
    let text = reasons.join("; ");
    if more > 0 { format!("{text}; and {more} more") } else { text }
}

fn is_pointwise(layer: &Candidate) -> bool {
    matches!(layer.view.extents, Extents::Kernel([_, _, 1, 1]))
}

/// The rule for each layer, if there is one; the last that matches counts.
fn overrides(
    layers: &[(Candidate, Option<(Reason, bool)>)],
    settings: &Decompose,
) -> Result<Vec<Option<RankOverride>>, CompressError> {
    let mut chosen = vec![None; layers.len()];
    for rule in &settings.layers {
        let error = |reason: String| CompressError::Pattern {
            pattern: rule.pattern.clone(),
            reason,
            layers: layers.iter().map(|(l, _)| l.name.as_str()).collect::<Vec<_>>().join(", "),
        };
        let glob = Pattern::new(&rule.pattern).map_err(|e| error(e.msg.into()))?;
        let mut matched = false;
        for (chosen, (layer, _)) in chosen.iter_mut().zip(layers) {
            if glob.matches(&layer.weight) || glob.matches(&layer.name) {
                (*chosen, matched) = (Some(rule.rank), true);
            }
        }
        if !matched {
            return Err(error("it matches no layer".into()));
        }
    }
    Ok(chosen)
}

/// The layer as a candidate, with a reason where its form cannot be split; `None` where it has no weight of two
/// axes and more.
fn describe(
    graph: &Graph,
    shapes: &Shapes,
    index: usize,
    op: &Op,
    scheme: Scheme,
) -> Result<Option<(Candidate, Option<Reason>)>, CompressError> {
    let node = &graph.nodes[index];
    let shape = |name: Option<&str>| {
        let name = name.unwrap_or_default();
        shapes.get(name).ok_or_else(|| slq_graph::GraphError::UnknownShape {
            op: node.op.clone(),
            node: node.name.clone(),
            value: name.into(),
        })
    };
    let (input, weight) = (shape(node.input(0))?, shape(node.input(1))?);
    let output = shape(node.outputs.first().map(String::as_str))?;
    let mut outputs_first = true;
    let (extents, form, reason, whole, per_rank) = match (op, weight) {
        (Op::Conv { window, groups }, &[n, c, kh, kw]) => {
            let reason = (*groups > 1).then_some(Reason::Grouped);
            let whole = cost(output, &[c, kh, kw], &[n, c, kh, kw]);
            let per_rank = conv_cost(scheme, input, output, [n, c, kh, kw]);
            (Extents::Kernel([n, c, kh, kw]), Form::Conv(*window), reason, whole, per_rank)
        }
        (Op::Gemm { trans_a, trans_b, .. }, &[a, b]) => {
            outputs_first = *trans_b;
            let rows = output.first().copied().unwrap_or(1);
            let reason = trans_a.then_some(Reason::Form("its data is transposed"));
            (
                Extents::Matrix([a, b]),
                Form::Gemm,
                reason,
                cost(&[rows], &[a, b], &[a, b]),
                product_cost(rows, a, b),
            )
        }
        (Op::MatMul, &[a, b]) => {
            outputs_first = false;
            let rows = output[..output.len().saturating_sub(1)].iter().product();
            (
                Extents::Matrix([a, b]),
                Form::MatMul,
                None,
                cost(&[rows], &[a, b], &[a, b]),
                product_cost(rows, a, b),
            )
        }
        _ => return Ok(None),
    };
    let candidate = Candidate {
        node: index,
        name: node.name.clone(),
        weight: node.input(1).unwrap_or_default().into(),
        form,
        view: View { scheme, extents },
        outputs_first,
        whole,
        per_rank,
        pinned: None,
    };
    Ok(Some((candidate, reason.or_else(|| one_output(node)))))
}

/// A reason where the node has optional outputs, which a pair of layers cannot give.
fn one_output(node: &Node) -> Option<Reason> {
    let more = node.outputs.iter().skip(1).any(|o| !o.is_empty());
    more.then_some(Reason::Form("it has more than one output"))
}

fn saturating_product(factors: &[usize]) -> u64 {
    factors.iter().fold(1u64, |n, &f| n.saturating_mul(f as u64))
}

/// `elements` outputs of `each` MACs, `weight` parameters.
fn cost(elements: &[usize], each: &[usize], weight: &[usize]) -> Cost {
    Cost {
        macs: saturating_product(elements).saturating_mul(saturating_product(each)),
        parameters: saturating_product(weight),
    }
}

fn sum(a: Cost, b: Cost) -> Cost {
    Cost { macs: a.macs.saturating_add(b.macs), parameters: a.parameters.saturating_add(b.parameters) }
}

/// A matrix product of `rows` rows split at rank 1.
fn product_cost(rows: usize, a: usize, b: usize) -> Cost {
    sum(cost(&[rows], &[a], &[a]), cost(&[rows], &[b], &[b]))
}

/// A convolution from `input` to `output` (N x C x H x W) split at rank 1.
fn conv_cost(scheme: Scheme, input: &[usize], output: &[usize], [n, c, kh, kw]: [usize; 4]) -> Cost {
    let [images, h, w] = [input[0], input[2], input[3]];
    let [oh, ow] = [output[2], output[3]];
    // Rows of the input and of the output, over all images.
    let (h, oh) = (images.saturating_mul(h), images.saturating_mul(oh));
    match scheme {
        Scheme::Spatial => sum(cost(&[oh, w], &[c, kh], &[c, kh]), cost(&[n, oh, ow], &[kw], &[n, kw])),
        Scheme::Decouple => sum(cost(&[n, h, w], &[c], &[n, c]), cost(&[n, oh, ow], &[kh, kw], &[n, kh, kw])),
        _ => sum(cost(&[oh, ow], &[c, kh, kw], &[c, kh, kw]), cost(&[n, oh, ow], &[], &[n])),
    }
}
