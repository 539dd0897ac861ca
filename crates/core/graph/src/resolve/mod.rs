//! From a [`Node`] to its typed form [`Op`], for operator sets 7 to 25.

mod context;
mod layers;
mod layout;
mod norm;

use std::collections::HashMap;

pub(crate) use context::Context;

use crate::error::{GraphError, KMEANS_ADVICE};
use crate::graph::Graph;
use crate::node::Node;
use crate::op::{BinaryOp, Op, Reduction, UnaryOp};
use crate::tensor::Tensor;

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
        let op = resolve_with(graph, &HashMap::new(), node, input_shapes)?;
        refuse_mask(node, &op, |mask| {
            graph.consumers_of(mask).next().is_some() || graph.outputs.iter().any(|o| o.name == mask)
        })?;
        Ok(op)
    }
}

/// The operators of ONNX's own domain that have a typed form.
pub(crate) const RESOLVED: [&str; 76] = [
    "Abs",
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Conv",
    "ConvTranspose",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "RMSNormalization",
    "Reciprocal",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Slice",
    "Softmax",
    "Softplus",
    "Softsign",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "Transpose",
    "Unsqueeze",
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

/// As [`Op::resolve`], with the constants in `folded`, and without the check on masks.
pub(crate) fn resolve_with(
    graph: &Graph,
    folded: &HashMap<String, Tensor>,
    node: &Node,
    shapes: &[Option<&[usize]>],
) -> Result<Op, GraphError> {
    let cx = Context { graph, folded, node, shapes };
    let standard = matches!(node.domain.as_str(), "" | "ai.onnx");
    if standard {
        cx.require_inputs(1)?;
    }
    let op = match if standard { node.op.as_str() } else { "" } {
        "Conv" => layers::conv(&cx)?,
        "ConvTranspose" => layers::conv_transpose(&cx)?,
        "MaxPool" => layers::max_pool(&cx)?,
        "AveragePool" => layers::average_pool(&cx)?,
        "GlobalAveragePool" => Op::GlobalAveragePool,
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "Gemm" => layers::gemm(&cx)?,
        "MatMul" => two(&cx, Op::MatMul)?,
        "BatchNormalization" => layers::batch_norm(&cx)?,
        "LayerNormalization" => norm::layer(&cx)?,
        "RMSNormalization" => norm::rms(&cx)?,
        "InstanceNormalization" => norm::instance(&cx)?,
        "GroupNormalization" => norm::group(&cx)?,
        "LRN" => layers::lrn(&cx)?,
        "Dropout" => layers::dropout(&cx)?,
        "Softmax" => layers::softmax(&cx)?,
        "LogSoftmax" => layers::log_softmax(&cx)?,
        "Clip" => layers::clip(&cx)?,
        "PRelu" => two(&cx, Op::PRelu)?,
        "Max" => extremum(&cx, BinaryOp::Max)?,
        "Min" => extremum(&cx, BinaryOp::Min)?,
        "Sum" => chain(&cx, BinaryOp::Add)?,
        "LeakyRelu" => Op::Unary(UnaryOp::LeakyRelu { alpha: cx.float("alpha", 0.01)? }),
        "Elu" => Op::Unary(UnaryOp::Elu { alpha: cx.float("alpha", 1.0)? }),
        "HardSigmoid" => {
            Op::Unary(UnaryOp::HardSigmoid { alpha: cx.float("alpha", 0.2)?, beta: cx.float("beta", 0.5)? })
        }
        "Gelu" => gelu(&cx)?,
        "Swish" => Op::Unary(UnaryOp::Swish { alpha: cx.float("alpha", 1.0)? }),
        "Selu" => Op::Unary(UnaryOp::Selu {
            alpha: cx.float("alpha", 1.673_263_2)?,
            gamma: cx.float("gamma", 1.050_701)?,
        }),
        "Where" => {
            cx.require_inputs(3)?;
            Op::Where
        }
        "Gather" => {
            cx.require_inputs(2)?;
            Op::Gather { axis: cx.axis(cx.int("axis", 0)?, cx.rank(0)?)? }
        }
        "Expand" => layout::expand(&cx)?,
        "Concat" => layout::concat(&cx)?,
        "Split" => layout::split(&cx)?,
        "Flatten" => layout::flatten(&cx)?,
        "Reshape" => layout::reshape(&cx)?,
        "Squeeze" => layout::squeeze(&cx)?,
        "Unsqueeze" => layout::unsqueeze(&cx)?,
        "Transpose" => layout::transpose(&cx)?,
        "Slice" => layout::slice(&cx)?,
        "Pad" => layout::pad(&cx)?,
        "ReduceMean" => layout::reduce(&cx, Reduction::Mean)?,
        "ReduceSum" => layout::reduce(&cx, Reduction::Sum)?,
        "Identity" => Op::Identity,
        "Cast" => cast(&cx)?,
        name if unary(name).is_some() => unary(name).map_or(Op::Identity, Op::Unary),
        name if binary(name).is_some() => two(&cx, binary(name).map_or(Op::Identity, Op::Binary))?,
        _ => {
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

/// The functions of one element that have no settings.
fn unary(op: &str) -> Option<UnaryOp> {
    Some(match op {
        "Relu" => UnaryOp::Relu,
        "Sigmoid" => UnaryOp::Sigmoid,
        "Tanh" => UnaryOp::Tanh,
        "HardSwish" => UnaryOp::HardSwish,
        "Exp" => UnaryOp::Exp,
        "Log" => UnaryOp::Log,
        "Sqrt" => UnaryOp::Sqrt,
        "Abs" => UnaryOp::Abs,
        "Neg" => UnaryOp::Neg,
        "Reciprocal" => UnaryOp::Reciprocal,
        "Erf" => UnaryOp::Erf,
        "Softplus" => UnaryOp::Softplus,
        "Mish" => UnaryOp::Mish,
        "Softsign" => UnaryOp::Softsign,
        "Sign" => UnaryOp::Sign,
        "Floor" => UnaryOp::Floor,
        "Ceil" => UnaryOp::Ceil,
        "Round" => UnaryOp::Round,
        "Not" => UnaryOp::Not,
        _ => return None,
    })
}

/// The functions of two elements.
fn binary(op: &str) -> Option<BinaryOp> {
    Some(match op {
        "Add" => BinaryOp::Add,
        "Sub" => BinaryOp::Sub,
        "Mul" => BinaryOp::Mul,
        "Div" => BinaryOp::Div,
        "Pow" => BinaryOp::Pow,
        "Equal" => BinaryOp::Equal,
        "Greater" => BinaryOp::Greater,
        "GreaterOrEqual" => BinaryOp::GreaterOrEqual,
        "Less" => BinaryOp::Less,
        "LessOrEqual" => BinaryOp::LessOrEqual,
        "And" => BinaryOp::And,
        "Or" => BinaryOp::Or,
        "Xor" => BinaryOp::Xor,
        _ => return None,
    })
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

fn gelu(cx: &Context) -> Result<Op, GraphError> {
    match cx.string("approximate", "none")? {
        "none" => Ok(Op::Unary(UnaryOp::Gelu)),
        "tanh" => Ok(Op::Unary(UnaryOp::GeluTanh)),
        other => Err(cx.bad_attribute("approximate", format!("is `{other}`"))),
    }
}

/// Activations are 32-bit floats throughout, whole numbers and Booleans (0 and 1) too.
fn cast(cx: &Context) -> Result<Op, GraphError> {
    const FLOAT: i64 = 1;
    const INT32: i64 = 6;
    const INT64: i64 = 7;
    const BOOL: i64 = 9;
    match cx.int("to", 0)? {
        FLOAT => Ok(Op::Identity),
        INT32 | INT64 => Ok(Op::Unary(UnaryOp::Truncate)),
        BOOL => Ok(Op::Unary(UnaryOp::NotZero)),
        other => Err(cx.unsupported(format!("a cast of activations to element type {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_operators_is_that_of_the_typed_forms() {
        let graph = Graph::default();
        for op in RESOLVED {
            let node = Node::new("n", op, &["x"], &["y"]);
            let found = resolve_with(&graph, &HashMap::new(), &node, &[Some(&[1, 1, 1, 1])]);
            assert!(!matches!(found, Err(GraphError::UnsupportedOperator { .. })), "{op}");
        }
    }
}
