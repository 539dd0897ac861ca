//! From a typed operator to operations of an ML program (operator set of iOS 18).

mod elementwise;
mod layers;
mod layout;
mod node;
mod norm;
mod pool;

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::Op;

use crate::builder::Builder;
pub use node::Refusal;
use node::{Lowered, unsupported};

/// Most axes of a tensor in Core ML.
const RANK: usize = 5;

/// Appends what computes `node`.
pub fn lower<W: Write>(b: &mut Builder<'_, W>, node: &Node, op: &Op) -> Lowered {
    let shapes = node.inputs.iter().chain(&node.outputs).filter_map(|n| b.shapes.get(n));
    if let Some(shape) = shapes.filter(|s| s.len() > RANK).max_by_key(|s| s.len()) {
        return unsupported(format!("a tensor of {} axes, Core ML has up to {RANK}", shape.len()));
    }
    let integer = node.outputs.first().is_some_and(|o| b.shapes.is_integer(o));
    if integer && computes(node, op) {
        return unsupported("arithmetic on integers that depend on the input");
    }
    match op {
        Op::Conv { window, groups } => layers::conv(b, node, window, *groups),
        Op::ConvTranspose { window, groups, output_padding } => {
            layers::conv_transpose(b, node, window, *groups, *output_padding)
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            layers::gemm(b, node, [*alpha, *beta], [*trans_a, *trans_b])
        }
        Op::MatMul => layers::mat_mul(b, node),
        Op::MaxPool { window, ceil } => pool::max(b, node, window, *ceil),
        Op::AveragePool { window, ceil, count_include_pad } => {
            pool::average(b, node, window, *ceil, *count_include_pad)
        }
        Op::GlobalAveragePool => pool::global(b, node, "reduce_mean"),
        Op::GlobalMaxPool => pool::global(b, node, "reduce_max"),
        Op::BatchNorm { epsilon, .. } => norm::batch(b, node, *epsilon),
        Op::Lrn { size, alpha, beta, bias } => norm::local_response(b, node, *size, [*alpha, *beta, *bias]),
        Op::Normalize { over, epsilon } => norm::normalize(b, node, *over, *epsilon),
        Op::Softmax { axis, flatten, log } => norm::softmax(b, node, *axis, *flatten, *log),
        Op::Unary(function) => elementwise::unary(b, node, *function),
        Op::PRelu => elementwise::prelu(b, node),
        Op::Clip { min, max } => elementwise::clip(b, node, *min, *max),
        Op::Binary(function) => elementwise::binary(b, node, *function),
        Op::Chain(function) => elementwise::chain(b, node, *function),
        Op::Concat { axis } => layout::concat(b, node, *axis),
        Op::Split { axis, sizes } => layout::split(b, node, *axis, sizes),
        Op::Flatten { .. } | Op::Reshape { .. } => layout::reshape(b, node),
        Op::Transpose { perm } => layout::transpose(b, node, perm),
        Op::Slice { ranges } => layout::slice(b, node, ranges),
        Op::Pad { before, after, mode } => layout::pad(b, node, [before, after], *mode),
        Op::Reduce { reduction, axes, keep_dims } => layout::reduce(b, node, *reduction, axes, *keep_dims),
        Op::Gather { axis } => layout::gather(b, node, *axis),
        Op::Expand { .. } => layout::expand(b, node),
        Op::Dropout { .. } => layout::pass(b, node),
        Op::Identity => layout::identity(b, node),
        Op::Where => unsupported("a choice by a condition that depends on the input"),
        other => unsupported(format!("{other:?}")),
    }
}

/// Whether an operator computes new numbers, other than by a cast.
fn computes(node: &Node, op: &Op) -> bool {
    let cast = node.op.starts_with("Cast");
    !cast && matches!(op, Op::Unary(_) | Op::Binary(_) | Op::Chain(_) | Op::Reduce { .. } | Op::Clip { .. })
}
