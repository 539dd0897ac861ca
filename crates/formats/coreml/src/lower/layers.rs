//! Convolutions and matrix products.

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::{Padding, Window};

use super::node::{Lowered, part, unsupported};
use crate::builder::Builder;
use crate::mil::Argument;

/// Strides, dilations, padding and groups of a convolution; padding is always given by numbers.
fn settings<W: Write>(
    b: &mut Builder<'_, W>,
    window: &Window,
    [top, left, bottom, right]: [usize; 4],
    groups: usize,
) -> [(&'static str, Argument); 5] {
    [
        ("strides", b.sizes(&window.strides)),
        ("pad_type", b.text("custom")),
        ("pad", b.sizes(&[top, bottom, left, right])),
        ("dilations", b.sizes(&window.dilations)),
        ("groups", b.int(groups)),
    ]
}

pub fn conv<W: Write>(b: &mut Builder<'_, W>, node: &Node, window: &Window, groups: usize) -> Lowered {
    let (x, weight) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
    let pads = window.resolve_pads([x.shape[2], x.shape[3]]);
    let mut inputs = vec![("x", x.arg()), ("weight", weight.arg())];
    if node.input(2).is_some() {
        inputs.push(("bias", b.float_input(node, 2)?.arg()));
    }
    inputs.extend(settings(b, window, pads, groups));
    b.result(node, "conv", &inputs);
    Ok(())
}

pub fn conv_transpose<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    window: &Window,
    groups: usize,
    extra: [usize; 2],
) -> Lowered {
    let Padding::Explicit(pads) = window.padding else {
        return unsupported("padding that depends on the output");
    };
    if extra != [0, 0] {
        return unsupported("output_padding");
    }
    if node.input(1).and_then(|name| b.constant_floats(name)).is_none() {
        return unsupported("a kernel that is computed");
    }
    let (x, weight) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
    let mut inputs = vec![("x", x.arg()), ("weight", weight.arg())];
    if node.input(2).is_some() {
        inputs.push(("bias", b.float_input(node, 2)?.arg()));
    }
    inputs.extend(settings(b, window, pads, groups));
    b.result(node, "conv_transpose", &inputs);
    Ok(())
}

pub fn gemm<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    [alpha, beta]: [f32; 2],
    [trans_a, trans_b]: [bool; 2],
) -> Lowered {
    let is_constant = |name: Option<&str>| name.and_then(|n| b.constant_floats(n)).is_some();
    let bias = node.input(2).filter(|_| beta != 0.0);
    let columns = b.like(&node.outputs[0]).shape[1];
    let vector = bias.is_none_or(|c| b.shapes.get(c).is_some_and(|s| *s == [columns] || *s == [1, columns]));
    let plain = alpha == 1.0 && (beta == 1.0 || bias.is_none()) && !trans_a && trans_b && vector;
    if plain && is_constant(node.input(1)) && (bias.is_none() || is_constant(bias)) {
        let (x, weight) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
        let mut inputs = vec![("x", x.arg()), ("weight", weight.arg())];
        if let Some(name) = bias {
            let bias = match b.shapes.get(name) {
                Some([_]) => b.float_input(node, 2)?,
                _ => {
                    let values = b.constant_floats(name).unwrap_or_default();
                    b.floats(name, &[columns], &values)?
                }
            };
            inputs.push(("bias", bias.arg()));
        }
        b.result(node, "linear", &inputs);
        return Ok(());
    }
    let like = b.like(&node.outputs[0]);
    let (x, y) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
    let inputs =
        [("x", x.arg()), ("y", y.arg()), ("transpose_x", b.flag(trans_a)), ("transpose_y", b.flag(trans_b))];
    let mut terms = b.op("matmul", &inputs, &part(node, "product"), &like);
    if alpha != 1.0 {
        let factor = b.float(alpha);
        terms = b.op("mul", &[("x", terms.arg()), ("y", factor)], &part(node, "scaled"), &like);
    }
    match bias {
        None => b.result(node, "identity", &[("x", terms.arg())]),
        Some(_) => {
            let mut c = b.float_input(node, 2)?;
            if beta != 1.0 {
                let factor = b.float(beta);
                c = b.op("mul", &[("x", c.arg()), ("y", factor)], &part(node, "bias"), &c.clone());
            }
            b.result(node, "add", &[("x", terms.arg()), ("y", c.arg())]);
        }
    }
    Ok(())
}

pub fn mat_mul<W: Write>(b: &mut Builder<'_, W>, node: &Node) -> Lowered {
    let (x, y) = (b.float_input(node, 0)?, b.float_input(node, 1)?);
    if x.shape.len() < 2 || y.shape.len() < 2 {
        return unsupported("a product with a vector");
    }
    let (plain_x, plain_y) = (b.flag(false), b.flag(false));
    let inputs = [("x", x.arg()), ("y", y.arg()), ("transpose_x", plain_x), ("transpose_y", plain_y)];
    b.result(node, "matmul", &inputs);
    Ok(())
}
