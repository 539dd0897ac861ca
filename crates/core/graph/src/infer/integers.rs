//! Which values hold integers. A runtime of 32-bit floats can look rows up by them, compare, move and cast them; arithmetic on
//! them would round, so it is refused.

use std::collections::HashSet;

use crate::dtype::DType;
use crate::error::{GraphError, KMEANS_ADVICE};
use crate::graph::Graph;
use crate::node::Node;
use crate::op::{BinaryOp, Op, UnaryOp};

/// Inputs and weights that hold integers.
pub(super) fn given(graph: &Graph) -> HashSet<String> {
    let integer = |dtype: DType| !dtype.is_float() && dtype != DType::Bool;
    let inputs = graph.inputs.iter().filter(|i| integer(i.dtype)).map(|i| &i.name);
    let weights = graph.weights.iter().filter(|(_, w)| integer(w.tensor.dtype())).map(|(name, _)| name);
    inputs.chain(weights).cloned().collect()
}

/// Whether `node` writes integers.
///
/// # Errors
/// [`GraphError::UnsupportedForm`] for arithmetic on integers.
pub(super) fn written(node: &Node, op: &Op, integers: &HashSet<String>) -> Result<bool, GraphError> {
    let holds = |i: usize| node.input(i).is_some_and(|name| integers.contains(name));
    Ok(match op {
        Op::Identity if node.op == "Cast" => false,
        Op::Unary(UnaryOp::Truncate) => true,
        Op::Unary(UnaryOp::NotZero | UnaryOp::Not) => false,
        Op::Binary(
            BinaryOp::Equal
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual
            | BinaryOp::Less
            | BinaryOp::LessOrEqual
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor,
        ) => false,
        Op::Where => holds(1) || holds(2),
        Op::Gather { .. }
        | Op::Reshape { .. }
        | Op::Flatten { .. }
        | Op::Transpose { .. }
        | Op::Slice { .. }
        | Op::Split { .. }
        | Op::Expand { .. }
        | Op::Identity => holds(0),
        Op::Concat { .. } => (0..node.inputs.len()).any(holds),
        // The exponent may be an integer.
        Op::Binary(BinaryOp::Pow) if !holds(0) => false,
        other if (0..other.tensor_inputs(node.inputs.len())).any(holds) => {
            return Err(GraphError::UnsupportedForm {
                op: node.op.clone(),
                node: node.name.clone(),
                what: "arithmetic on integers that depend on the input".into(),
                advice: KMEANS_ADVICE.into(),
            });
        }
        _ => false,
    })
}
