//! Element types of values. A runtime of 32-bit floats holds integers up to 2^24 exactly: it can look rows up by them, compare,
//! move and cast them, and add or multiply them as long as it checks that no result leaves that range. What would round or
//! wrap around otherwise is refused.

use std::collections::HashMap;

use crate::dtype::DType;
use crate::error::{GraphError, KMEANS_ADVICE};
use crate::graph::Graph;
use crate::node::{Attribute, Node};
use crate::op::{BinaryOp, Op, Reduction, UnaryOp};

/// Types of inputs and weights.
pub(crate) fn given(graph: &Graph) -> HashMap<String, DType> {
    let inputs = graph.inputs.iter().map(|i| (i.name.clone(), i.dtype));
    inputs.chain(graph.weights.iter().map(|(name, w)| (name.clone(), w.tensor.dtype()))).collect()
}

/// The type of ONNX's code `code`.
pub(crate) fn of_code(code: i64) -> DType {
    match code {
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        12 => DType::U32,
        13 => DType::U64,
        _ => DType::F32,
    }
}

/// Types of the outputs of `node`.
///
/// # Errors
/// [`GraphError::UnsupportedForm`] for arithmetic on integers that cannot be checked.
pub(crate) fn written(
    node: &Node,
    op: &Op,
    types: &HashMap<String, DType>,
) -> Result<Vec<DType>, GraphError> {
    let of = |i: usize| node.input(i).and_then(|name| types.get(name)).copied().unwrap_or(DType::F32);
    let integer = |t: DType| !t.is_float() && t != DType::Bool;
    let outputs = node.outputs.len().max(1);
    let all = |t: DType| Ok(vec![t; outputs]);
    match op {
        Op::Fill { .. } => {
            let value = node.attributes.get("value");
            return all(if let Some(Attribute::Tensor(t)) = value { t.dtype() } else { DType::F32 });
        }
        Op::ArgExtreme { .. } => return all(DType::I64),
        Op::TopK { .. } => return Ok(vec![of(0), DType::I64]),
        Op::Unary(UnaryOp::Not) | Op::Unary(UnaryOp::IsNan | UnaryOp::IsInf { .. }) => {
            return all(DType::Bool);
        }
        Op::Binary(op) | Op::Chain(op) if op.is_test() => return all(DType::Bool),
        Op::Where => return all(of(1)),
        Op::Attention(_) | Op::Rotary(_) | Op::Recurrent(_) => return all(DType::F32),
        _ => {}
    }
    match node.op.as_str() {
        "Cast" => return all(of_code(node.int("to", 1))),
        "CastLike" => return all(of(1)),
        _ => {}
    }
    let first = of(0);
    if op.moves() {
        return all(first);
    }
    // The exponent may be an integer.
    let power = matches!(op, Op::Binary(BinaryOp::Pow));
    let reads = if power { 1 } else { op.tensor_inputs(node.inputs.len()) };
    if (0..reads).all(|i| !integer(of(i))) {
        return all(if first == DType::Bool && checkable(op) { DType::Bool } else { DType::F32 });
    }
    if checkable(op) {
        return all(first);
    }
    Err(GraphError::UnsupportedForm {
        op: node.op.clone(),
        node: node.name.clone(),
        what: "arithmetic on integers that depend on the input".into(),
        advice: KMEANS_ADVICE.into(),
    })
}

/// Whether the operator computes integers exactly, or beyond 2^24 where that shows in its result.
fn checkable(op: &Op) -> bool {
    match op {
        Op::Unary(unary) => matches!(unary, UnaryOp::Abs | UnaryOp::Neg | UnaryOp::Sign | UnaryOp::Relu),
        Op::Binary(_) | Op::Chain(_) | Op::Clip { .. } | Op::CumSum { .. } => true,
        Op::Line(op) | Op::Volume { plane: op, .. } => checkable(op),
        Op::MaxPool { .. } => true,
        Op::Reduce { reduction, .. } => matches!(
            reduction,
            Reduction::Sum
                | Reduction::Max
                | Reduction::Min
                | Reduction::Prod
                | Reduction::L1
                | Reduction::SumSquare
        ),
        _ => false,
    }
}
