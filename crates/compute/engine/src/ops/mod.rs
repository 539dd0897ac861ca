//! Operators as layers: one file for each family.
//!
//! A [`Layer`] is built once for each plan. It holds its geometry and what its backward pass needs from the forward pass;
//! it reads and writes tensors through [`Forward`] and [`Backward`].

mod activation;
mod checked;
mod conv;
mod dropout;
mod elementwise;
mod function;
mod grid;
mod index;
mod layer;
mod layout;
mod linear;
mod lrn;
mod norm;
mod normalize;
mod order;
mod packed;
mod pass;
mod place;
mod pool;
mod post;
mod recurrent;
mod reduce;
mod select;
mod site;
mod softmax;
mod statistic;
mod weighted;

pub(crate) use layer::Layer;
pub(crate) use pass::{Backward, Forward, GradientPlace};
pub(crate) use place::{Place, read};

use slq_graph::Graph;
use slq_graph::op::Op;
use slq_kernels::Isa;

use crate::error::EngineError;
use crate::packed::PackedWeight;
use crate::program::{Mode, Source, Step};
use site::Site;

/// Builds the layer of a step.
///
/// # Errors
/// [`EngineError::Unsupported`] for an operator that no kernel computes, and for a packed weight where there is no packed
/// kernel for it: in other operators, and in training.
pub(crate) fn build(
    step: &Step,
    mode: Mode,
    isa: Isa,
    wants: &[bool],
    graph: &Graph,
    packed: &[PackedWeight],
) -> Result<Box<dyn Layer>, EngineError> {
    let site = Site { step, node: &graph.nodes[step.node], mode, isa, wants, packed };
    if step.inputs.iter().flatten().any(|o| matches!(o.source, Source::Packed(_))) {
        return with_packed(site);
    }
    let layer = operator(site)?;
    Ok(match step.check {
        Some(dtype) => checked::checked(site, layer, dtype),
        None => layer,
    })
}

/// The layer of a step whose weights are floats.
fn operator(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    match &site.step.op {
        Op::Conv { window, groups } => conv::conv(site, window, *groups),
        Op::ConvTranspose { window, groups, .. } => conv::transposed(site, window, *groups),
        Op::Gemm { alpha, beta, trans_a, trans_b } => linear::gemm(site, *alpha, *beta, *trans_a, *trans_b),
        Op::MatMul => linear::matmul(site),
        Op::MaxPool { window, ceil } => pool::max(site, window, *ceil),
        Op::AveragePool { window, ceil, count_include_pad } => {
            pool::average(site, window, *ceil, *count_include_pad)
        }
        Op::GlobalAveragePool => pool::global_average(site),
        Op::GlobalMaxPool => pool::global_max(site),
        Op::BatchNorm { epsilon, momentum } => norm::batch_norm(site, *epsilon, *momentum),
        Op::Normalize { over, epsilon } => normalize::normalize(site, *over, *epsilon),
        Op::Where => select::choose(site),
        Op::Expand { .. } => select::expand(site),
        Op::Gather { axis } => select::gather(site, *axis),
        Op::Constant { values } => Ok(select::constant(values)),
        Op::Lrn { size, alpha, beta, bias } => lrn::lrn(site, *size, *alpha, *beta, *bias),
        Op::Unary(unary) => activation::unary(site, *unary),
        Op::Clip { min, max } => activation::clip(*min, *max),
        Op::PRelu => activation::prelu(site),
        Op::Binary(binary) => elementwise::binary(site, *binary),
        Op::Concat { axis } => layout::concat(site, *axis),
        Op::Transpose { perm } => layout::transpose(site, perm),
        Op::Slice { ranges } => layout::slice(site, ranges),
        Op::Pad { before, after, mode } => layout::pad(site, before, after, *mode),
        Op::Reduce { reduction, axes, .. } => reduce::reduce(site, *reduction, axes),
        Op::Dropout { ratio } => dropout::dropout(site, *ratio),
        Op::Softmax { axis, flatten, log } => softmax::softmax(site, *axis, *flatten, *log),
        Op::Weighted { axis, terms, added } => weighted::weighted(site, *axis, terms, added),
        Op::ArgExtreme { axis, largest, last, .. } => order::arg_extreme(site, *axis, *largest, *last),
        Op::TopK { axis, count, largest, positions } => {
            order::top_k(site, *axis, *count, [*largest, *positions])
        }
        Op::CumSum { axis, exclusive, reverse } => order::cum_sum(site, *axis, *exclusive, *reverse),
        Op::GatherElements { axis } => index::elements(site, *axis),
        Op::GatherNd { batch_dims } => index::tuples(site, *batch_dims),
        Op::Fill { value, .. } => Ok(select::fill(*value)),
        Op::GridSample(grid) => grid::grid_sample(site, *grid),
        Op::Recurrent(recurrent) => recurrent::recurrent(site, recurrent),
        other => Err(site.unsupported(format!("the engine has no kernel for {other:?}"))),
    }
}

/// The layer of a step that reads a packed weight.
fn with_packed(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    if site.mode != Mode::Evaluate {
        return Err(site.unsupported("its weight is packed, and packed weights cannot be trained".into()));
    }
    match (&site.step.op, packed::matrix(site)) {
        (Op::Conv { window, groups }, Some(matrix)) => packed::conv(site, window, *groups, matrix),
        (Op::Gemm { alpha, beta, trans_a: false, .. }, Some(matrix)) => {
            packed::gemm(site, [*alpha, *beta], matrix)
        }
        (Op::MatMul, Some(matrix)) => packed::matmul(site, matrix),
        _ => Err(site.unsupported("it reads a packed weight, for which it has no kernel".into())),
    }
}
