//! Functions of one and two elements, and casts.

use super::Context;
use crate::dtype::DType;
use crate::error::GraphError;
use crate::op::{BinaryOp, Op, UnaryOp};
use crate::types::of_code;

/// The functions of one element.
pub(super) fn unary(cx: &Context) -> Result<Option<UnaryOp>, GraphError> {
    Ok(Some(match cx.node.op.as_str() {
        "Relu" => UnaryOp::Relu,
        "LeakyRelu" => UnaryOp::LeakyRelu { alpha: cx.float("alpha", 0.01)? },
        "Elu" => UnaryOp::Elu { alpha: cx.float("alpha", 1.0)? },
        "HardSigmoid" => {
            UnaryOp::HardSigmoid { alpha: cx.float("alpha", 0.2)?, beta: cx.float("beta", 0.5)? }
        }
        "Swish" => UnaryOp::Swish { alpha: cx.float("alpha", 1.0)? },
        "Selu" => {
            UnaryOp::Selu { alpha: cx.float("alpha", 1.673_263_2)?, gamma: cx.float("gamma", 1.050_701)? }
        }
        "Celu" => {
            let alpha = cx.float("alpha", 1.0)?;
            if alpha == 0.0 {
                return Err(cx.bad_attribute("alpha", "is 0"));
            }
            UnaryOp::Celu { alpha }
        }
        "ThresholdedRelu" => UnaryOp::ThresholdedRelu { alpha: cx.float("alpha", 1.0)? },
        "Shrink" => UnaryOp::Shrink { lambda: cx.float("lambd", 0.5)?, bias: cx.float("bias", 0.0)? },
        "IsInf" => UnaryOp::IsInf {
            negative: cx.flag("detect_negative", true)?,
            positive: cx.flag("detect_positive", true)?,
        },
        other => return Ok(plain(other)),
    }))
}

/// The functions of one element that have no settings.
fn plain(op: &str) -> Option<UnaryOp> {
    Some(match op {
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
        "IsNaN" => UnaryOp::IsNan,
        "Sin" => UnaryOp::Sin,
        "Cos" => UnaryOp::Cos,
        "Tan" => UnaryOp::Tan,
        "Asin" => UnaryOp::Asin,
        "Acos" => UnaryOp::Acos,
        "Atan" => UnaryOp::Atan,
        "Sinh" => UnaryOp::Sinh,
        "Cosh" => UnaryOp::Cosh,
        "Asinh" => UnaryOp::Asinh,
        "Acosh" => UnaryOp::Acosh,
        "Atanh" => UnaryOp::Atanh,
        _ => return None,
    })
}

/// The functions of two elements.
pub(super) fn binary(op: &str) -> Option<BinaryOp> {
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
        "BitwiseAnd" => BinaryOp::BitAnd,
        "BitwiseOr" => BinaryOp::BitOr,
        "BitwiseXor" => BinaryOp::BitXor,
        _ => return None,
    })
}

pub(super) fn modulo(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    let fmod = cx.flag("fmod", false)?;
    Ok(Op::Binary(if fmod { BinaryOp::Remainder } else { BinaryOp::Mod }))
}

pub(super) fn shift(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    match cx.string("direction", "")? {
        "LEFT" => Ok(Op::Binary(BinaryOp::ShiftLeft)),
        "RIGHT" => Ok(Op::Binary(BinaryOp::ShiftRight)),
        other => Err(cx.bad_attribute("direction", format!("is `{other}`"))),
    }
}

pub(super) fn gelu(cx: &Context) -> Result<Op, GraphError> {
    match cx.string("approximate", "none")? {
        "none" => Ok(Op::Unary(UnaryOp::Gelu)),
        "tanh" => Ok(Op::Unary(UnaryOp::GeluTanh)),
        other => Err(cx.bad_attribute("approximate", format!("is `{other}`"))),
    }
}

/// Activations are 32-bit floats throughout, whole numbers and Booleans (0 and 1) too.
pub(super) fn cast(cx: &Context) -> Result<Op, GraphError> {
    const FLOAT: i64 = 1;
    match cx.int("to", 0)? {
        FLOAT => Ok(Op::Identity),
        code if of_code(code) != DType::F32 => Ok(cast_to(of_code(code))),
        other => Err(cx.unsupported(format!("a cast of activations to element type {other}"))),
    }
}

/// A cast to the type of the second input.
pub(super) fn cast_like(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(2)?;
    match cx.dtype(1) {
        Some(DType::F64 | DType::F16 | DType::Bf16) | None => {
            Err(cx.unsupported("a cast to a type that is not known or not computed with"))
        }
        Some(dtype) => Ok(cast_to(dtype)),
    }
}

fn cast_to(dtype: DType) -> Op {
    match dtype {
        DType::Bool => Op::Unary(UnaryOp::NotZero),
        dtype if dtype.is_float() => Op::Identity,
        _ => Op::Unary(UnaryOp::Truncate),
    }
}
