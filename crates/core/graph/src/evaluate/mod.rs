//! The value of a node whose inputs are constants.
//!
//! One evaluator serves shape inference (small values, and the shapes of activations as constants) and
//! [`fold_constants`](crate::fold::fold_constants) (weights of any size). Element types are those that ONNX prescribes;
//! a combination that is not evaluated here gives `None`, and the node is left as it is.

mod cast;
mod elementwise;
mod generate;
mod limits;
mod movement;
mod view;

use crate::error::GraphError;
use crate::resolve::Context;
use crate::tensor::Tensor;

pub(crate) use cast::cast_like;
pub(crate) use generate::{constant, shape_of, size_of};
pub(crate) use limits::{LARGEST_SMALL, is_reshaping, is_unlimited};
pub(crate) use movement::transposed;

/// The operators that are evaluated, where what they read is known.
pub(crate) const EVALUATED: [&str; 42] = [
    "Abs",
    "Add",
    "And",
    "Cast",
    "Ceil",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Div",
    "Equal",
    "Exp",
    "Flatten",
    "Floor",
    "Gather",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Min",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceProd",
    "Reshape",
    "Shape",
    "Size",
    "Slice",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Transpose",
    "Unsqueeze",
    "Where",
    "Xor",
];

/// The single output of a node; `inputs` holds the node's inputs in order, `None` where one is omitted. `None` if the
/// node is not one that is evaluated here, or if inputs broadcast or join to more than `largest` elements.
///
/// # Errors
/// [`GraphError`] naming the node for inputs or attributes that make no sense.
pub(crate) fn evaluate(
    cx: &Context,
    inputs: &[Option<&Tensor>],
    largest: usize,
) -> Result<Option<Tensor>, GraphError> {
    let Some(first) = inputs.first().copied().flatten() else { return Ok(None) };
    let second = inputs.get(1).copied().flatten();
    let third = inputs.get(2).copied().flatten();
    Ok(match (cx.node.op.as_str(), second, third) {
        ("Shape", ..) => Some(shape_of(cx)?),
        ("Size", ..) => size_of(cx)?,
        ("Cast", ..) => cast::cast(first, cx.int("to", 0)?),
        (op, ..) if is_reshaping(op) => Some(movement::reshape(cx, first)?),
        ("Transpose", ..) => movement::transpose(cx, first)?,
        ("Slice", ..) => movement::slice(cx, first)?,
        ("Concat", ..) => movement::concat(cx, inputs, largest)?,
        ("Gather", Some(indices), _) => movement::gather(cx, first, indices)?,
        ("ConstantOfShape", ..) => generate::constant_of_shape(cx, first)?,
        ("Range", Some(limit), Some(delta)) => generate::range(first, limit, delta),
        ("ReduceProd", ..) => generate::product(cx, first)?,
        ("Where", Some(yes), Some(no)) => elementwise::select(cx, [first, yes, no], largest)?,
        (_, Some(second), None) if inputs.len() == 2 => elementwise::binary(cx, first, second, largest)?,
        (op, None, None) if inputs.len() == 1 => elementwise::unary(op).and_then(|f| f(first)),
        _ => None,
    })
}
