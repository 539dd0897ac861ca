//! Functions of single elements.

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::{BinaryOp, UnaryOp};

use super::node::{Lowered, part, unsupported};
use crate::builder::Builder;
use crate::mil::DataType;

pub fn unary<W: Write>(b: &mut Builder<'_, W>, node: &Node, function: UnaryOp) -> Lowered {
    if function == UnaryOp::Truncate {
        let x = b.input(node, 0)?;
        let to = b.text("int32");
        match x.data_type {
            DataType::Int32 => b.result(node, "identity", &[("x", x.arg())]),
            _ => b.result(node, "cast", &[("x", x.arg()), ("dtype", to)]),
        }
        return Ok(());
    }
    let x = b.float_input(node, 0)?;
    if let Some(kind) = plain(function) {
        b.result(node, kind, &[("x", x.arg())]);
        return Ok(());
    }
    let data = ("x", x.arg());
    match function {
        UnaryOp::LeakyRelu { alpha } => {
            let alpha = b.float(alpha);
            b.result(node, "leaky_relu", &[data, ("alpha", alpha)]);
        }
        UnaryOp::Elu { alpha } => {
            let alpha = b.float(alpha);
            b.result(node, "elu", &[data, ("alpha", alpha)]);
        }
        UnaryOp::Selu { alpha, gamma } => {
            let (alpha, gamma) = (b.float(alpha), b.float(gamma));
            let elu = b.op("elu", &[data, ("alpha", alpha)], &part(node, "elu"), &x);
            b.result(node, "mul", &[("x", elu.arg()), ("y", gamma)]);
        }
        UnaryOp::HardSigmoid { alpha, beta } => {
            let (alpha, beta) = (b.float(alpha), b.float(beta));
            b.result(node, "sigmoid_hard", &[data, ("alpha", alpha), ("beta", beta)]);
        }
        UnaryOp::HardSwish => {
            let (alpha, beta) = (b.float(1.0 / 6.0), b.float(0.5));
            let gate = [data, ("alpha", alpha), ("beta", beta)];
            let gate = b.op("sigmoid_hard", &gate, &part(node, "gate"), &x);
            b.result(node, "mul", &[("x", x.arg()), ("y", gate.arg())]);
        }
        UnaryOp::Mish => {
            let soft = b.op("softplus", &[data], &part(node, "softplus"), &x);
            let gate = b.op("tanh", &[("x", soft.arg())], &part(node, "gate"), &x);
            b.result(node, "mul", &[("x", x.arg()), ("y", gate.arg())]);
        }
        UnaryOp::Swish { alpha } => {
            let factor = b.float(alpha);
            let scaled = b.op("mul", &[data, ("y", factor)], &part(node, "scaled"), &x);
            let gate = b.op("sigmoid", &[("x", scaled.arg())], &part(node, "gate"), &x);
            b.result(node, "mul", &[("x", x.arg()), ("y", gate.arg())]);
        }
        UnaryOp::Neg => {
            let factor = b.float(-1.0);
            b.result(node, "mul", &[data, ("y", factor)]);
        }
        // `inverse` and `log` add a small number unless told otherwise; a quotient does not.
        UnaryOp::Reciprocal => {
            let one = b.float(1.0);
            b.result(node, "real_div", &[("x", one), ("y", x.arg())]);
        }
        UnaryOp::Log => {
            let zero = b.float(0.0);
            b.result(node, "log", &[data, ("epsilon", zero)]);
        }
        UnaryOp::Gelu | UnaryOp::GeluTanh => {
            let mode = b.text(if function == UnaryOp::Gelu { "EXACT" } else { "TANH_APPROXIMATION" });
            b.result(node, "gelu", &[data, ("mode", mode)]);
        }
        other => return unsupported(format!("{other:?} of values that depend on the input")),
    }
    Ok(())
}

/// Functions without settings.
fn plain(function: UnaryOp) -> Option<&'static str> {
    Some(match function {
        UnaryOp::Relu => "relu",
        UnaryOp::Sigmoid => "sigmoid",
        UnaryOp::Tanh => "tanh",
        UnaryOp::Exp => "exp",
        UnaryOp::Sqrt => "sqrt",
        UnaryOp::Abs => "abs",
        UnaryOp::Erf => "erf",
        UnaryOp::Softplus => "softplus",
        UnaryOp::Softsign => "softsign",
        UnaryOp::Sign => "sign",
        UnaryOp::Floor => "floor",
        UnaryOp::Ceil => "ceil",
        UnaryOp::Round => "round",
        _ => return None,
    })
}

/// One slope for each channel, or one for all.
pub fn prelu<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let x = b.float_input(node, 0)?;
    let Some(slope) = node.input(1).and_then(|name| b.constant_floats(name)) else {
        return unsupported("a slope that is computed");
    };
    let shape = node.input(1).and_then(|name| b.shapes.get(name)).unwrap_or_default();
    // Aligned at the last axis, only the channels' axis may be long.
    let channels = x.shape.get(1).copied().unwrap_or(1);
    let long = shape.iter().rev().enumerate().filter(|(_, d)| **d > 1).map(|(i, _)| x.shape.len() - 1 - i);
    if x.shape.len() < 3 || long.into_iter().any(|axis| axis != 1) {
        return unsupported("slopes that are not one for each channel");
    }
    let values = if slope.len() == 1 { vec![slope[0]; channels] } else { slope.to_vec() };
    let slopes = b.floats(&part(node, "slopes"), &[channels], &values)?;
    b.result(node, "prelu", &[("x", x.arg()), ("alpha", slopes.arg())]);
    Ok(())
}

/// Bounds on both sides, or on one.
pub fn clip<W: Write>(b: &mut Builder<'_, W>, node: &Node, min: f32, max: f32) -> Lowered {
    let x = b.float_input(node, 0)?;
    match (min.is_finite(), max.is_finite()) {
        (true, true) if min == 0.0 && max == 6.0 => b.result(node, "relu6", &[("x", x.arg())]),
        (true, true) if min <= max => {
            let (low, high) = (b.float(min), b.float(max));
            b.result(node, "clip", &[("x", x.arg()), ("alpha", low), ("beta", high)]);
        }
        (true, false) if max > 0.0 => {
            let low = b.float(min);
            b.result(node, "maximum", &[("x", x.arg()), ("y", low)]);
        }
        (false, true) if min < 0.0 => {
            let high = b.float(max);
            b.result(node, "minimum", &[("x", x.arg()), ("y", high)]);
        }
        (false, false) if min < max => b.result(node, "identity", &[("x", x.arg())]),
        _ => return unsupported(format!("bounds {min} and {max}")),
    }
    Ok(())
}

fn name(function: BinaryOp) -> Option<&'static str> {
    Some(match function {
        BinaryOp::Add => "add",
        BinaryOp::Sub => "sub",
        BinaryOp::Mul => "mul",
        BinaryOp::Div => "real_div",
        BinaryOp::Max => "maximum",
        BinaryOp::Min => "minimum",
        BinaryOp::Pow => "pow",
        _ => return None,
    })
}

pub fn binary<W: Write>(b: &mut Builder<'_, W>, node: &Node, function: BinaryOp) -> Lowered {
    let Some(kind) = name(function) else {
        return unsupported(format!("{function:?} of values that depend on the input"));
    };
    let (x, y) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
    b.result(node, kind, &[("x", x.arg()), ("y", y.arg())]);
    Ok(())
}

/// All inputs, one after the other.
pub fn chain<W: Write>(b: &mut Builder<'_, W>, node: &Node, function: BinaryOp) -> Lowered {
    let Some(kind) = name(function) else {
        return unsupported(format!("{function:?} of values that depend on the input"));
    };
    let mut value = b.float_input(node, 0)?;
    for index in 1..node.inputs.len() {
        let next = b.float_input(node, index)?;
        let inputs = [("x", value.arg()), ("y", next.arg())];
        if index + 1 == node.inputs.len() {
            b.result(node, kind, &inputs);
            return Ok(());
        }
        let shape = broadcast(&value.shape, &next.shape);
        value = b.op(kind, &inputs, &part(node, "part"), &value.with_shape(&shape));
    }
    unsupported("a single input")
}

/// The shape of two tensors that are known to fit together.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    (0..rank).map(|i| at(a, i).max(at(b, i))).collect()
}
