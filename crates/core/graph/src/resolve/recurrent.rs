//! LSTM, GRU and RNN.

use super::Context;
use crate::error::GraphError;
use crate::node::Attribute;
use crate::op::{Cell, Gate, Op, Recurrent};

pub(super) fn recurrent(cx: &Context) -> Result<Op, GraphError> {
    cx.require_inputs(3)?;
    let cell = match cx.node.op.as_str() {
        "LSTM" => Cell::Lstm,
        "GRU" => Cell::Gru { reset_after: cx.flag("linear_before_reset", false)? },
        _ => Cell::Rnn,
    };
    let reverse = match cx.string("direction", "forward")? {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return Err(cx.bad_attribute("direction", format!("is `{other}`"))),
    };
    let weight = cx.shape(2)?;
    let &[_, _, hidden] = weight else {
        return Err(cx.mismatch("the recurrent weight must have three axes"));
    };
    if cx.has("hidden_size") && usize::try_from(cx.int("hidden_size", 0)?).ok() != Some(hidden) {
        return Err(cx.bad_attribute("hidden_size", format!("differs from the weight's {hidden}")));
    }
    let clip = match cx.has("clip") {
        true => Some(cx.float("clip", 0.0)?).filter(|&c| c > 0.0),
        false => None,
    };
    let batch_first = cx.flag("layout", false)?;
    Ok(Op::Recurrent(Recurrent {
        cell,
        hidden,
        functions: functions(cx, cell, reverse.len())?,
        reverse,
        clip,
        lengths: lengths(cx, batch_first)?,
        batch_first,
        couple: cx.flag("input_forget", false)?,
    }))
}

/// The lengths of the sequences; empty where all have as many steps as the data.
fn lengths(cx: &Context, batch_first: bool) -> Result<Vec<usize>, GraphError> {
    let Some(given) = cx.constant_ints(4)? else { return Ok(Vec::new()) };
    let &[first, second, _] = cx.shape(0)? else {
        return Err(cx.mismatch("the data must have three axes"));
    };
    let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
    let lengths: Option<Vec<usize>> =
        given.iter().map(|&l| usize::try_from(l).ok().filter(|&l| l <= steps)).collect();
    let lengths = lengths.filter(|l| l.len() == batch);
    let lengths = lengths.ok_or_else(|| {
        cx.bad_input(4, format!("is {given:?}, no lengths of {batch} sequences of {steps} steps"))
    })?;
    Ok(if lengths.iter().all(|&l| l == steps) { Vec::new() } else { lengths })
}

fn floats<'a>(cx: &Context<'a>, name: &str) -> Result<&'a [f32], GraphError> {
    match cx.node.attributes.get(name) {
        None => Ok(&[]),
        Some(Attribute::Floats(v)) => Ok(v),
        Some(_) => Err(cx.bad_attribute(name, "is not a list of floats")),
    }
}

/// The functions of all directions.
fn functions(cx: &Context, cell: Cell, directions: usize) -> Result<Vec<Gate>, GraphError> {
    let names: Vec<String> = match cx.node.attributes.get("activations") {
        None => Vec::new(),
        Some(Attribute::Strings(list)) => {
            list.iter().map(|name| String::from_utf8_lossy(name).to_lowercase()).collect()
        }
        Some(_) => return Err(cx.bad_attribute("activations", "is not a list of strings")),
    };
    if names.is_empty() {
        let one = match cell {
            Cell::Rnn => vec![Gate::Tanh],
            Cell::Gru { .. } => vec![Gate::Sigmoid, Gate::Tanh],
            Cell::Lstm => vec![Gate::Sigmoid, Gate::Tanh, Gate::Tanh],
        };
        return Ok(one.repeat(directions));
    }
    if names.len() != directions * cell.functions() {
        let reason =
            format!("has {} entries where {} are needed", names.len(), directions * cell.functions());
        return Err(cx.bad_attribute("activations", reason));
    }
    let mut alphas = floats(cx, "activation_alpha")?.iter().copied();
    let mut betas = floats(cx, "activation_beta")?.iter().copied();
    let mut functions = Vec::with_capacity(names.len());
    for name in &names {
        functions.push(match name.as_str() {
            "sigmoid" => Gate::Sigmoid,
            "tanh" => Gate::Tanh,
            "relu" => Gate::Relu,
            "softsign" => Gate::Softsign,
            "affine" => Gate::Affine(alphas.next().unwrap_or(1.0), betas.next().unwrap_or(0.0)),
            "hardsigmoid" => Gate::HardSigmoid(alphas.next().unwrap_or(0.2), betas.next().unwrap_or(0.5)),
            other => return Err(cx.unsupported(format!("the activation `{other}`"))),
        });
    }
    if alphas.next().is_some() || betas.next().is_some() {
        return Err(cx.unsupported("parameters of activations that take none"));
    }
    Ok(functions)
}
