//! Layers that look at each element by itself, element-wise combinations, and softmax.

use slq_graph::{Attribute, Node};

use super::builder::{Builder, Value};
use super::mapped::{Mapped, axis};
use crate::error::CaffeError;
use crate::proto::LayerParameter;
use crate::proto::eltwise_parameter::EltwiseOp;

/// A layer with one input, one output of the same shape and no settings but `attributes`.
pub(super) fn unary(
    b: &mut Builder,
    layer: &LayerParameter,
    op: &str,
    attributes: &[(&str, Attribute)],
) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    let output = b.top(layer, 0, input.shape)?;
    let mut node = Node::new(layer.name(), op, &[&input.name], &[&output]);
    for (name, value) in attributes {
        node = node.with(name, value.clone());
    }
    b.push(node);
    Ok(Mapped::Done)
}

/// A step of a chain: an operator, and the constant that is its second input.
type Step<'s> = (&'s str, Option<f32>);

/// A layer that is a chain of operators. The last node bears the layer's name; an empty chain is an identity.
fn chain(b: &mut Builder, layer: &LayerParameter, steps: &[Step]) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    let Some((&(last, constant), steps)) = steps.split_last() else {
        return unary(b, layer, "Identity", &[]);
    };
    let mut data = input.name;
    for &(op, constant) in steps {
        let suffix = op.to_ascii_lowercase();
        data = match constant {
            Some(value) => {
                let value = b.scalar(layer, &format!("{suffix}_by"), value)?;
                b.helper(layer, &suffix, op, &[&data, &value])
            }
            None => b.helper(layer, &suffix, op, &[&data]),
        };
    }
    let constant = match constant {
        Some(value) => Some(b.scalar(layer, &format!("{}_by", last.to_ascii_lowercase()), value)?),
        None => None,
    };
    let output = b.top(layer, 0, input.shape)?;
    let mut inputs = vec![data.as_str()];
    inputs.extend(constant.as_deref());
    b.push(Node::new(layer.name(), last, &inputs, &[&output]));
    Ok(Mapped::Done)
}

fn finite(b: &Builder, layer: &LayerParameter, fields: &[(&str, f32)]) -> Result<(), CaffeError> {
    match fields.iter().find(|(_, v)| !v.is_finite()) {
        Some((field, v)) => Err(b.bad(layer, field, format!("{v} is not finite"))),
        None => Ok(()),
    }
}

/// `ReLU`, with a slope for negative values if it has one.
pub(super) fn relu(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    match layer.relu_param.unwrap_or_default().negative_slope() {
        0.0 => unary(b, layer, "Relu", &[]),
        slope => unary(b, layer, "LeakyRelu", &[("alpha", Attribute::Float(slope))]),
    }
}

/// `ELU`.
pub(super) fn elu(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let alpha = layer.elu_param.unwrap_or_default().alpha();
    unary(b, layer, "Elu", &[("alpha", Attribute::Float(alpha))])
}

/// `Clip` and `ReLU6`: bounds as constant inputs.
pub(super) fn clip(
    b: &mut Builder,
    layer: &LayerParameter,
    min: f32,
    max: f32,
) -> Result<Mapped, CaffeError> {
    if min.is_nan() || max.is_nan() || min > max {
        return Err(b.bad(layer, "clip_param", format!("the range {min} .. {max} is empty")));
    }
    let input = b.bottom(layer, 0)?;
    let low = b.scalar(layer, "min", min)?;
    let high = b.scalar(layer, "max", max)?;
    let output = b.top(layer, 0, input.shape)?;
    b.push(Node::new(layer.name(), "Clip", &[&input.name, &low, &high], &[&output]));
    Ok(Mapped::Done)
}

/// `Swish`: x sigmoid(beta x).
pub(super) fn swish(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let beta = layer.swish_param.unwrap_or_default().beta();
    finite(b, layer, &[("beta", beta)])?;
    let input = b.bottom(layer, 0)?;
    let mut gate = input.name.clone();
    if beta != 1.0 {
        let beta = b.scalar(layer, "beta", beta)?;
        gate = b.helper(layer, "mul", "Mul", &[&gate, &beta]);
    }
    let gate = b.helper(layer, "sigmoid", "Sigmoid", &[&gate]);
    let output = b.top(layer, 0, input.shape)?;
    b.push(Node::new(layer.name(), "Mul", &[&input.name, &gate], &[&output]));
    Ok(Mapped::Done)
}

/// `Power`: (shift + scale x)^power.
pub(super) fn power(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.power_param.unwrap_or_default();
    finite(b, layer, &[("power", p.power()), ("scale", p.scale()), ("shift", p.shift())])?;
    let mut steps: Vec<Step> = affine(p.scale(), p.shift());
    if p.power() != 1.0 {
        steps.push(("Pow", Some(p.power())));
    }
    chain(b, layer, &steps)
}

fn affine<'s>(scale: f32, shift: f32) -> Vec<Step<'s>> {
    let scale = (scale != 1.0).then_some(("Mul", Some(scale)));
    let shift = (shift != 0.0).then_some(("Add", Some(shift)));
    scale.into_iter().chain(shift).collect()
}

/// The natural logarithm of a base, where -1 stands for e.
fn ln_base(b: &Builder, layer: &LayerParameter, base: f32) -> Result<f32, CaffeError> {
    match base {
        -1.0 => Ok(1.0),
        base if base > 0.0 && base != 1.0 && base.is_finite() => Ok(base.ln()),
        _ => Err(b.bad(layer, "base", format!("{base} is not the base of a logarithm"))),
    }
}

/// `Exp`: base^(shift + scale x).
pub(super) fn exp(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.exp_param.unwrap_or_default();
    finite(b, layer, &[("scale", p.scale()), ("shift", p.shift())])?;
    let ln = ln_base(b, layer, p.base())?;
    let mut steps: Vec<Step> = affine(ln * p.scale(), 0.0);
    steps.push(("Exp", None));
    steps.extend(affine((ln * p.shift()).exp(), 0.0));
    chain(b, layer, &steps)
}

/// `Log`: logarithm of (shift + scale x).
pub(super) fn log(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.log_param.unwrap_or_default();
    finite(b, layer, &[("scale", p.scale()), ("shift", p.shift())])?;
    let ln = ln_base(b, layer, p.base())?;
    let mut steps: Vec<Step> = affine(p.scale(), p.shift());
    steps.push(("Log", None));
    steps.extend(affine(1.0 / ln, 0.0));
    chain(b, layer, &steps)
}

/// `Dropout`: the same arithmetic as ONNX's.
pub(super) fn dropout(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.dropout_param.unwrap_or_default();
    if !p.scale_train() {
        return Err(b.bad(layer, "scale_train", "false (scaling when testing) is not supported"));
    }
    if !(0.0..1.0).contains(&p.dropout_ratio()) {
        return Err(b.bad(layer, "dropout_ratio", format!("{} is not in 0..1", p.dropout_ratio())));
    }
    let input = b.bottom(layer, 0)?;
    let ratio = b.scalar(layer, "ratio", p.dropout_ratio())?;
    let output = b.top(layer, 0, input.shape)?;
    b.push(Node::new(layer.name(), "Dropout", &[&input.name, &ratio], &[&output]));
    Ok(Mapped::Done)
}

/// `Softmax` along one axis.
pub(super) fn softmax(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let wanted = layer.softmax_param.unwrap_or_default().axis();
    let along = match b.bottom(layer, 0)?.shape {
        Some(shape) => axis(b, layer, wanted, shape.len())? as i64,
        None => wanted.into(),
    };
    unary(b, layer, "Softmax", &[("axis", Attribute::Int(along))])
}

/// `Eltwise`: sum with coefficients, product or maximum of inputs of one shape.
pub(super) fn eltwise(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.eltwise_param.clone().unwrap_or_default();
    let inputs: Vec<Value> = (0..layer.bottom.len()).map(|i| b.bottom(layer, i)).collect::<Result<_, _>>()?;
    let Some(first) = inputs.first().filter(|_| inputs.len() > 1) else {
        return Err(b.bad(layer, "bottom", "an element-wise layer needs two inputs"));
    };
    let shape = first.shape.clone();
    if let Some(other) = inputs.iter().find(|v| v.shape != shape && v.shape.is_some() && shape.is_some()) {
        let reason = format!("{:?} and {:?} differ in shape", shape.unwrap_or_default(), other.shape);
        return Err(b.bad(layer, "bottom", reason));
    }
    let mut names: Vec<String> = inputs.into_iter().map(|v| v.name).collect();
    let mut op = match p.operation() {
        EltwiseOp::Prod => "Mul",
        EltwiseOp::Sum => "Add",
        EltwiseOp::Max => "Max",
    };
    if !p.coeff.is_empty() {
        if p.operation() != EltwiseOp::Sum {
            return Err(b.bad(layer, "coeff", "only a sum has coefficients"));
        }
        if p.coeff.len() != names.len() || p.coeff.iter().any(|c| !c.is_finite()) {
            let reason = format!("{:?} for {} inputs", p.coeff, names.len());
            return Err(b.bad(layer, "coeff", reason));
        }
        if p.coeff == [1.0, -1.0] {
            op = "Sub";
        } else {
            for (i, (name, &coeff)) in names.iter_mut().zip(&p.coeff).enumerate() {
                if coeff != 1.0 {
                    let factor = b.scalar(layer, &format!("coeff{i}"), coeff)?;
                    *name = b.helper(layer, &format!("mul{i}"), "Mul", &[name, &factor]);
                }
            }
        }
    }
    // From left to right, two at a time, in Caffe's order.
    let mut sum = names.remove(0);
    let last = names.pop();
    for (i, name) in names.iter().enumerate() {
        sum = b.helper(layer, &format!("{}{i}", op.to_ascii_lowercase()), op, &[&sum, name]);
    }
    let output = b.top(layer, 0, shape)?;
    let inputs: Vec<&str> = std::iter::once(sum.as_str()).chain(last.as_deref()).collect();
    b.push(Node::new(layer.name(), op, &inputs, &[&output]));
    Ok(Mapped::Done)
}
