//! From a [`Node`] to its typed form [`Op`], for operator sets 7 to 25.

mod context;
mod elements;
mod layers;
mod layout;
mod norm;
mod recurrent;
mod resample;
mod select;
mod sequence;
mod windows;

use std::collections::HashMap;

pub(crate) use context::Context;

use crate::error::{GraphError, KMEANS_ADVICE};
use crate::graph::Graph;
use crate::node::Node;
use crate::op::{BinaryOp, Op};
use crate::types;

impl Op {
    /// The typed form of `node` in `graph`, for ONNX operator sets 7 to 25 (a graph whose
    /// [`Metadata::opset`](crate::Metadata) is 0 is read as 13).
    ///
    /// `input_shapes[i]` is the shape of the node's input `i` where it is known; shapes of weights need not be
    /// given. Settings that later operator sets take as inputs (bounds of `Clip`, axes, pads …) must be
    /// weights; [`infer_shapes`](crate::infer::infer_shapes) also follows those that are computed from shapes.
    ///
    /// # Errors
    /// [`GraphError::UnsupportedOperator`] or [`GraphError::UnsupportedForm`] for what is not supported, with advice; [`GraphError::InvalidAttribute`], [`GraphError::InvalidInput`],
    /// [`GraphError::MissingInput`], [`GraphError::NotConstant`], [`GraphError::UnknownShape`] and
    /// [`GraphError::ShapeMismatch`] for invalid nodes. Each names the node.
    pub fn resolve(graph: &Graph, node: &Node, input_shapes: &[Option<&[usize]>]) -> Result<Op, GraphError> {
        let (folded, types) = (HashMap::new(), types::given(graph));
        let cx = Context { graph, folded: &folded, types: Some(&types), node, shapes: input_shapes };
        let op = resolve_with(&cx)?;
        refuse_mask(node, &op, |mask| {
            graph.consumers_of(mask).next().is_some() || graph.outputs.iter().any(|o| o.name == mask)
        })?;
        Ok(op)
    }
}

/// The operators of ONNX's own domain that have a typed form.
pub(crate) const RESOLVED: [&str; 127] = [
    "Abs",
    "Acos",
    "Acosh",
    "Add",
    "And",
    "ArgMax",
    "ArgMin",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Attention",
    "AveragePool",
    "BatchNormalization",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Ceil",
    "Celu",
    "Clip",
    "Concat",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Cos",
    "Cosh",
    "CumSum",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Einsum",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "GRU",
    "Gather",
    "GatherElements",
    "GatherND",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GridSample",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "IsInf",
    "IsNaN",
    "LRN",
    "LSTM",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Mean",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RMSNormalization",
    "RNN",
    "Reciprocal",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
    "Relu",
    "Reshape",
    "Resize",
    "RotaryEmbedding",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
    "Tile",
    "TopK",
    "Transpose",
    "Trilu",
    "Unsqueeze",
    "Upsample",
    "Where",
    "Xor",
];

/// Refuses a `Dropout` whose mask is read.
pub(crate) fn refuse_mask(node: &Node, op: &Op, is_read: impl Fn(&str) -> bool) -> Result<(), GraphError> {
    let mask = node.outputs.get(1).filter(|mask| !mask.is_empty());
    match (op, mask) {
        (Op::Dropout { .. }, Some(mask)) if is_read(mask) => Err(GraphError::UnsupportedForm {
            op: node.op.clone(),
            node: node.name.clone(),
            what: "the output of the mask".into(),
            advice: KMEANS_ADVICE.into(),
        }),
        _ => Ok(()),
    }
}

/// As [`Op::resolve`], with the constants and types of the context, and without the check on masks.
pub(crate) fn resolve_with(cx: &Context) -> Result<Op, GraphError> {
    let node = cx.node;
    let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
    if standard {
        cx.require_inputs(1)?;
    }
    let op = match if standard { node.op.as_str() } else { "" } {
        "Conv" => windows::conv(cx)?,
        "ConvTranspose" => windows::conv_transpose(cx)?,
        "MaxPool" => windows::max_pool(cx)?,
        "AveragePool" => windows::average_pool(cx)?,
        "GlobalAveragePool" => Op::GlobalAveragePool,
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "Gemm" => layers::gemm(cx)?,
        "MatMul" => two(cx, Op::MatMul)?,
        "BatchNormalization" => layers::batch_norm(cx)?,
        "LayerNormalization" => norm::layer(cx)?,
        "RMSNormalization" => norm::rms(cx)?,
        "InstanceNormalization" => norm::instance(cx)?,
        "GroupNormalization" => norm::group(cx)?,
        "LRN" => layers::lrn(cx)?,
        "Dropout" => layers::dropout(cx)?,
        "Softmax" => layers::softmax(cx)?,
        "LogSoftmax" => layers::log_softmax(cx)?,
        "Clip" => layers::clip(cx)?,
        "PRelu" => two(cx, Op::PRelu)?,
        "Max" => extremum(cx, BinaryOp::Max)?,
        "Min" => extremum(cx, BinaryOp::Min)?,
        "Sum" => chain(cx, BinaryOp::Add)?,
        "Gelu" => elements::gelu(cx)?,
        "Where" => {
            cx.require_inputs(3)?;
            Op::Where
        }
        "Gather" => {
            cx.require_inputs(2)?;
            Op::Gather { axis: cx.axis(cx.int("axis", 0)?, cx.rank(0)?)? }
        }
        "Expand" => layout::expand(cx)?,
        "Concat" => layout::concat(cx)?,
        "Split" => layout::split(cx)?,
        "Flatten" => layout::flatten(cx)?,
        "Reshape" => layout::reshape(cx)?,
        "Squeeze" => layout::squeeze(cx)?,
        "Unsqueeze" => layout::unsqueeze(cx)?,
        "Transpose" => layout::transpose(cx)?,
        "Slice" => layout::slice(cx)?,
        "Pad" => layout::pad(cx)?,
        "Identity" => Op::Identity,
        "Cast" => elements::cast(cx)?,
        "CastLike" => elements::cast_like(cx)?,
        _ => {
            if let Some(op) = if standard { composed(cx)? } else { None } {
                return Ok(op);
            }
            let name = if standard { node.op.clone() } else { format!("{}.{}", node.domain, node.op) };
            return Err(GraphError::UnsupportedOperator {
                op: name,
                node: node.name.clone(),
                advice: KMEANS_ADVICE.into(),
            });
        }
    };
    Ok(op)
}

/// The typed form of functions of elements, and of operators that choose, order, resample or are made of others.
fn composed(cx: &Context) -> Result<Option<Op>, GraphError> {
    if let Some(unary) = elements::unary(cx)? {
        return Ok(Some(Op::Unary(unary)));
    }
    Ok(Some(match cx.node.op.as_str() {
        name if layout::reduction(name).is_some() => layout::reduce(cx)?,
        "ArgMax" => select::arg_extreme(cx, true)?,
        "ArgMin" => select::arg_extreme(cx, false)?,
        "TopK" => select::top_k(cx)?,
        "Tile" => select::tile(cx)?,
        "CumSum" => select::cum_sum(cx)?,
        "Trilu" => select::trilu(cx)?,
        "GatherElements" => select::gather_elements(cx)?,
        "GatherND" => select::gather_nd(cx)?,
        "DepthToSpace" => select::blocks(cx, true)?,
        "SpaceToDepth" => select::blocks(cx, false)?,
        "ConstantOfShape" => select::constant_of_shape(cx)?,
        "Resize" => resample::resize(cx)?,
        "Upsample" => resample::upsample(cx)?,
        "LSTM" | "GRU" | "RNN" => recurrent::recurrent(cx)?,
        "Attention" => sequence::attention(cx)?,
        "RotaryEmbedding" => sequence::rotary(cx)?,
        "GridSample" => sequence::grid_sample(cx)?,
        "Einsum" => sequence::einsum(cx)?,
        "Mean" => {
            cx.require_inputs(cx.node.inputs.len())?;
            Op::Mean
        }
        "Mod" => elements::modulo(cx)?,
        "BitShift" => elements::shift(cx)?,
        name => match elements::binary(name) {
            Some(binary) => two(cx, Op::Binary(binary))?,
            None => return Ok(None),
        },
    }))
}

fn two(cx: &Context, op: Op) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    Ok(op)
}

fn extremum(cx: &Context, op: BinaryOp) -> Result<Op, GraphError> {
    if cx.node.inputs.len() == 2 { two(cx, Op::Binary(op)) } else { chain(cx, op) }
}

fn chain(cx: &Context, op: BinaryOp) -> Result<Op, GraphError> {
    cx.require_inputs(cx.node.inputs.len())?;
    Ok(if cx.node.inputs.len() == 1 { Op::Identity } else { Op::Chain(op) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_operators_is_that_of_the_typed_forms() {
        let graph = Graph::default();
        for op in RESOLVED {
            let node = Node::new("n", op, &["x"], &["y"]);
            let found = Op::resolve(&graph, &node, &[Some(&[1, 1, 1, 1])]);
            assert!(!matches!(found, Err(GraphError::UnsupportedOperator { .. })), "{op}");
        }
    }
}
