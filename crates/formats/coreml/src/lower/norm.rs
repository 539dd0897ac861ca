//! Normalisations and softmax.

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::Normalization;

use super::node::{Lowered, Refusal, part, unsupported};
use crate::builder::{Builder, Val};
use crate::mil::Argument;

/// A constant input as floats.
fn constant<'a, W: Write>(
    b: &Builder<'a, W>,
    node: &Node,
    index: usize,
) -> Result<std::borrow::Cow<'a, [f32]>, Refusal> {
    match node.input(index).and_then(|name| b.constant_floats(name)) {
        Some(values) => Ok(values),
        None => unsupported(format!("parameters that are computed (input {index})")),
    }
}

/// One factor and one shift for each channel, computed in 64-bit floats: half the numbers of a batch-norm. Where Core ML has the
/// operator they are its scale and bias, at a mean of 0 and a variance of 1 that all layers of one width share.
pub fn batch<W: Write>(b: &mut Builder<'_, W>, node: &Node, epsilon: f32) -> Lowered {
    let x = b.float_input(node, 0)?;
    let [gamma, beta, mean, variance] =
        [constant(b, node, 1)?, constant(b, node, 2)?, constant(b, node, 3)?, constant(b, node, 4)?];
    let spread = variance.iter().map(|&v| (f64::from(v) + f64::from(epsilon)).sqrt());
    let factors: Vec<f64> = gamma.iter().zip(spread).map(|(&g, s)| f64::from(g) / s).collect();
    let terms = factors.iter().zip(mean.iter().zip(beta.iter()));
    let shifts: Vec<f32> = terms.map(|(f, (&m, &s))| (f64::from(s) - f64::from(m) * f) as f32).collect();
    let factors: Vec<f32> = factors.into_iter().map(|f| f as f32).collect();
    let channels = [factors.len()];
    let factors = b.floats("scale", &channels, &factors)?;
    let shifts = b.floats("shift", &channels, &shifts)?;
    if (3..=5).contains(&x.shape.len()) {
        let (zeros, ones) = (b.filled(0.0, channels[0])?, b.filled(1.0, channels[0])?);
        let inputs = [
            ("x", x.arg()),
            ("gamma", factors.arg()),
            ("beta", shifts.arg()),
            ("mean", zeros.arg()),
            ("variance", ones.arg()),
            ("epsilon", b.float(0.0)),
        ];
        b.result(node, "batch_norm", &inputs);
        return Ok(());
    }
    let scaled = b.op("mul", &[("x", x.arg()), ("y", factors.arg())], &part(node, "scaled"), &x);
    b.result(node, "add", &[("x", scaled.arg()), ("y", shifts.arg())]);
    Ok(())
}

pub fn local_response<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    size: usize,
    [alpha, beta, bias]: [f32; 3],
) -> Lowered {
    let x = b.float_input(node, 0)?;
    if size.is_multiple_of(2) || !(3..=4).contains(&x.shape.len()) {
        return unsupported(format!(
            "a sum over {size} channels of {} axes (odd sizes, 3 or 4 axes)",
            x.shape.len()
        ));
    }
    let size = b.int(size);
    let (alpha, beta, k) = (b.float(alpha), b.float(beta), b.float(bias));
    let inputs = [("x", x.arg()), ("size", size), ("alpha", alpha), ("beta", beta), ("k", k)];
    b.result(node, "local_response_norm", &inputs);
    Ok(())
}

pub fn normalize<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    over: Normalization,
    epsilon: f32,
) -> Lowered {
    let x = b.float_input(node, 0)?;
    let mut parameters = Vec::new();
    for (index, name) in [(1, "gamma"), (2, "beta")] {
        if node.input(index).is_some() {
            constant(b, node, index)?;
            parameters.push((name, b.float_input(node, index)?.arg()));
        }
    }
    let small = b.float(epsilon);
    match over {
        Normalization::Layer { axis } => {
            let axes: Vec<usize> = (axis..x.shape.len()).collect();
            let mut inputs = vec![("x", x.arg()), ("axes", b.sizes(&axes)), ("epsilon", small)];
            inputs.extend(parameters);
            b.result(node, "layer_norm", &inputs);
        }
        Normalization::Instance if (3..=4).contains(&x.shape.len()) => {
            let mut inputs = vec![("x", x.arg()), ("epsilon", small)];
            inputs.extend(parameters);
            b.result(node, "instance_norm", &inputs);
        }
        Normalization::Rms { axis } => root_mean_square(b, node, &x, axis, small, parameters),
        other => return unsupported(format!("{other:?}")),
    }
    Ok(())
}

fn root_mean_square<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    x: &Val,
    axis: usize,
    epsilon: Argument,
    parameters: Vec<(&str, Argument)>,
) {
    let axes: Vec<usize> = (axis..x.shape.len()).collect();
    let shape: Vec<usize> = x.shape.iter().enumerate().map(|(i, &d)| if i < axis { d } else { 1 }).collect();
    let one = x.with_shape(&shape);
    let square = b.op("mul", &[("x", x.arg()), ("y", x.arg())], &part(node, "square"), x);
    let (axes, keep) = (b.sizes(&axes), b.flag(true));
    let inputs = [("x", square.arg()), ("axes", axes), ("keep_dims", keep)];
    let mean = b.op("reduce_mean", &inputs, &part(node, "mean"), &one);
    let mean = b.op("add", &[("x", mean.arg()), ("y", epsilon)], &part(node, "spread"), &one);
    let root = b.op("sqrt", &[("x", mean.arg())], &part(node, "root"), &one);
    let mut value = b.op("real_div", &[("x", x.arg()), ("y", root.arg())], &part(node, "unit"), x);
    for (name, parameter) in parameters {
        let kind = if name == "gamma" { "mul" } else { "add" };
        value = b.op(kind, &[("x", value.arg()), ("y", parameter)], &part(node, name), x);
    }
    b.result(node, "identity", &[("x", value.arg())]);
}

pub fn softmax<W: Write>(
    b: &mut Builder<'_, W>,
    node: &Node,
    axis: usize,
    flatten: bool,
    log: bool,
) -> Lowered {
    let x = b.float_input(node, 0)?;
    let (mut data, mut axis) = (x.clone(), axis);
    if flatten {
        let (front, back) = x.shape.split_at(axis);
        let matrix = [front.iter().product(), back.iter().product()];
        let shape = b.sizes(&matrix);
        data = b.op(
            "reshape",
            &[("x", x.arg()), ("shape", shape)],
            &part(node, "matrix"),
            &x.with_shape(&matrix),
        );
        axis = 1;
    }
    let mut inputs = vec![("x", data.arg())];
    let kind = if log {
        let mut sums = data.clone();
        sums.shape[axis] = 1;
        let (axes, keep) = (b.sizes(&[axis]), b.flag(true));
        let reduce = [("x", data.arg()), ("axes", axes), ("keep_dims", keep)];
        let sums = b.op("reduce_log_sum_exp", &reduce, &part(node, "sums"), &sums);
        inputs.push(("y", sums.arg()));
        "sub"
    } else {
        inputs.push(("axis", b.int(axis)));
        "softmax"
    };
    if !flatten {
        b.result(node, kind, &inputs);
        return Ok(());
    }
    let made = b.op(kind, &inputs, &part(node, "rows"), &data);
    let shape = b.sizes(&x.shape);
    b.result(node, "reshape", &[("x", made.arg()), ("shape", shape)]);
    Ok(())
}
