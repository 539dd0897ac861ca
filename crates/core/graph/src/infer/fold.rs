//! Evaluation of nodes whose result depends on constants and shapes alone.

use std::collections::HashMap;

use super::rules::broadcast;
use crate::error::GraphError;
use crate::graph::Graph;
use crate::node::{Attribute, Node};
use crate::resolve::Context;
use crate::tensor::{Tensor, TensorData, element_count};

/// Shape arithmetic is small; larger constants stay nodes.
const LARGEST_FOLD: usize = 1 << 12;

/// A small constant: integers (whatever their width) or floats.
#[derive(Clone)]
enum Values {
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

#[derive(Clone)]
struct Small {
    shape: Vec<usize>,
    values: Values,
}

impl Small {
    fn of(tensor: &Tensor) -> Option<Self> {
        // An empty tensor may still have extents whose product overflows.
        let extents: Vec<usize> = tensor.shape().iter().copied().filter(|&d| d != 0).collect();
        if element_count(&extents).is_none_or(|n| n > LARGEST_FOLD) {
            return None;
        }
        let values = match tensor.as_f32() {
            Some(v) => Values::Floats(v.to_vec()),
            None => Values::Ints(tensor.to_i64()?),
        };
        Some(Self { shape: tensor.shape().to_vec(), values })
    }

    fn ints(&self) -> Option<&[i64]> {
        if let Values::Ints(v) = &self.values { Some(v) } else { None }
    }

    fn into_tensor(self) -> Option<Tensor> {
        let data = match self.values {
            Values::Ints(v) => TensorData::I64(v),
            Values::Floats(v) => TensorData::F32(v),
        };
        Tensor::new(self.shape, data).ok()
    }

    /// The elements at `positions`, under `shape`.
    fn pick(&self, shape: Vec<usize>, positions: &[usize]) -> Option<Self> {
        let values = match &self.values {
            Values::Ints(v) => {
                Values::Ints(positions.iter().map(|&p| v.get(p).copied()).collect::<Option<_>>()?)
            }
            Values::Floats(v) => {
                Values::Floats(positions.iter().map(|&p| v.get(p).copied()).collect::<Option<_>>()?)
            }
        };
        Some(Self { shape, values })
    }
}

/// The node's outputs if they are known before the network runs, else `None`: the node is no shape arithmetic,
/// or not one that is evaluated here.
pub(crate) fn fold_node(
    graph: &Graph,
    folded: &HashMap<String, Tensor>,
    node: &Node,
    shapes: &[Option<&[usize]>],
) -> Result<Option<Vec<Tensor>>, GraphError> {
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return Ok(None);
    }
    let cx = Context { graph, folded, node, shapes };
    match node.op.as_str() {
        "Constant" => return Ok(constant(node).map(|t| vec![t])),
        "Shape" => return Ok(Some(vec![shape_of(&cx)?])),
        "Size" => {
            let count = element_count(cx.shape(0)?).and_then(|n| i64::try_from(n).ok());
            let count = count.ok_or_else(|| cx.mismatch("the number of elements overflows"))?;
            return Ok(Tensor::new(vec![], TensorData::I64(vec![count])).ok().map(|t| vec![t]));
        }
        _ => {}
    }
    let lookup = |name: &String| graph.weights.get(name).map(|w| &w.tensor).or_else(|| folded.get(name));
    // A float weight of more than one element may be a parameter that is trained: its nodes stay.
    let parameter = |name: &String| {
        graph.weights.get(name).is_some_and(|w| w.tensor.as_f32().is_some_and(|v| v.len() > 1))
    };
    let constant = |name: &String| lookup(name).filter(|_| !parameter(name)).and_then(Small::of);
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for name in &node.inputs {
        match (name.is_empty(), constant(name)) {
            (true, _) => inputs.push(None),
            (false, Some(value)) => inputs.push(Some(value)),
            (false, None) => return Ok(None),
        }
    }
    let results = evaluate(&cx, &inputs)?;
    Ok(results.and_then(|values| values.into_iter().map(Small::into_tensor).collect()))
}

/// The value of a `Constant` node.
fn constant(node: &Node) -> Option<Tensor> {
    let scalar = |data| Tensor::new(vec![], data).ok();
    match node.attributes.iter().next()? {
        (name, Attribute::Tensor(t)) if name == "value" => Some(t.clone()),
        (name, Attribute::Int(v)) if name == "value_int" => scalar(TensorData::I64(vec![*v])),
        (name, Attribute::Ints(v)) if name == "value_ints" => Some(Tensor::i64_vector(v.clone())),
        (name, Attribute::Float(v)) if name == "value_float" => scalar(TensorData::F32(vec![*v])),
        (name, Attribute::Floats(v)) if name == "value_floats" => Tensor::f32(vec![v.len()], v.clone()).ok(),
        _ => None,
    }
}

fn shape_of(cx: &Context) -> Result<Tensor, GraphError> {
    let shape = cx.shape(0)?;
    let rank = shape.len() as i64;
    // Out-of-range bounds are clamped, unlike elsewhere.
    let bound = |name: &str, default: i64| {
        let v = cx.int(name, default)?;
        let v = if v < 0 { v.saturating_add(rank) } else { v };
        Ok::<usize, GraphError>(v.clamp(0, rank) as usize)
    };
    let (start, end) = (bound("start", 0)?, bound("end", rank)?);
    let dims = shape.get(start..end.max(start)).unwrap_or_default();
    let dims: Result<Vec<i64>, _> = dims.iter().map(|&d| i64::try_from(d)).collect();
    dims.map(Tensor::i64_vector).map_err(|_| cx.mismatch("an extent is too large"))
}

type Inputs = [Option<Small>];

fn evaluate(cx: &Context, inputs: &Inputs) -> Result<Option<Vec<Small>>, GraphError> {
    let Some(first) = inputs.first().cloned().flatten() else { return Ok(None) };
    let second = inputs.get(1).and_then(Option::as_ref);
    let one = match (cx.node.op.as_str(), second) {
        ("Identity", _) => Some(first),
        ("Cast", _) => cast(first, cx.int("to", 0)?),
        ("Floor", _) => float_map(first, f32::floor),
        ("Ceil", _) => float_map(first, f32::ceil),
        ("Gather", Some(indices)) => {
            let axis = cx.axis(cx.int("axis", 0)?, first.shape.len())?;
            Some(gather(cx, &first, indices, axis)?)
        }
        ("Concat", _) => concat(cx, inputs)?,
        ("Unsqueeze" | "Squeeze" | "Reshape", _) => {
            let op = crate::resolve::resolve_with(cx.graph, cx.folded, cx.node, cx.shapes)?;
            let shape = super::rules::output_shapes(cx.node, &op, cx.shapes)?.swap_remove(0);
            Some(Small { shape, ..first })
        }
        ("Slice", _) => slice(cx, &first)?,
        ("Transpose", _) => transpose(cx, &first)?,
        ("ConstantOfShape", _) => constant_of_shape(cx, &first)?,
        ("Range", Some(limit)) => range(&first, limit, inputs.get(2).and_then(Option::as_ref)),
        ("ReduceProd", _) => product(cx, &first)?,
        ("Add" | "Sub" | "Mul" | "Div" | "Mod" | "Min" | "Max" | "Equal", Some(second))
            if inputs.len() == 2 =>
        {
            arithmetic(cx, &first, second)?
        }
        ("Where", Some(yes)) => match inputs.get(2).and_then(Option::as_ref) {
            Some(no) => select(cx, &first, yes, no)?,
            None => None,
        },
        _ => None,
    };
    Ok(one.map(|v| vec![v]))
}

fn cast(value: Small, to: i64) -> Option<Small> {
    let values = match (value.values, to) {
        (Values::Ints(v), 6 | 7) => Values::Ints(v),
        (Values::Ints(v), 9) => Values::Ints(v.into_iter().map(|x| (x != 0).into()).collect()),
        (Values::Floats(v), 6 | 7) => Values::Ints(v.into_iter().map(|x| x as i64).collect()),
        (Values::Floats(v), 1) => Values::Floats(v),
        (Values::Ints(v), 1) => Values::Floats(v.into_iter().map(|x| x as f32).collect()),
        _ => return None,
    };
    Some(Small { shape: value.shape, values })
}

fn float_map(value: Small, f: fn(f32) -> f32) -> Option<Small> {
    let Values::Floats(v) = value.values else { return None };
    Some(Small { shape: value.shape, values: Values::Floats(v.into_iter().map(f).collect()) })
}

fn gather(cx: &Context, data: &Small, indices: &Small, axis: usize) -> Result<Small, GraphError> {
    let extent = data.shape[axis];
    let inner: usize = data.shape[axis + 1..].iter().product();
    let outer: usize = data.shape[..axis].iter().product();
    let list = indices.ints().ok_or_else(|| cx.bad_input(1, "does not hold integers"))?;
    let list: Result<Vec<usize>, GraphError> = list.iter().map(|&i| cx.axis(i, extent)).collect();
    let list = list.map_err(|_| cx.bad_input(1, format!("points outside 0..{extent}")))?;
    let mut positions = Vec::new();
    if outer.saturating_mul(list.len()).saturating_mul(inner) > LARGEST_FOLD {
        return Err(cx.mismatch("the constant becomes too large"));
    }
    for o in 0..outer {
        for &i in &list {
            positions.extend((0..inner).map(|k| (o * extent + i) * inner + k));
        }
    }
    let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    data.pick(shape, &positions).ok_or_else(|| cx.mismatch("the constant is inconsistent"))
}

fn concat(cx: &Context, inputs: &Inputs) -> Result<Option<Small>, GraphError> {
    let (mut ints, mut floats, mut length) = (Vec::new(), Vec::new(), 0usize);
    for input in inputs {
        match input {
            Some(Small { shape, values }) if shape.len() == 1 => {
                length += shape[0];
                match values {
                    Values::Ints(v) => ints.extend_from_slice(v),
                    Values::Floats(v) => floats.extend_from_slice(v),
                }
            }
            _ => return Ok(None),
        }
    }
    cx.axis(cx.int("axis", 0)?, 1)?;
    let values = match (ints.is_empty(), floats.is_empty()) {
        (_, true) => Values::Ints(ints),
        (true, false) => Values::Floats(floats),
        _ => return Err(cx.mismatch("integers and floats are joined")),
    };
    Ok((length <= LARGEST_FOLD).then_some(Small { shape: vec![length], values }))
}

fn slice(cx: &Context, data: &Small) -> Result<Option<Small>, GraphError> {
    let op = crate::resolve::resolve_with(cx.graph, cx.folded, cx.node, cx.shapes)?;
    let crate::op::Op::Slice { ranges } = op else { return Ok(None) };
    let list = |(start, end, step): (i64, i64, i64)| {
        let mut positions = Vec::new();
        let mut at = start;
        while if step > 0 { at < end } else { at > end } {
            positions.extend(usize::try_from(at));
            at = at.saturating_add(step);
        }
        positions
    };
    let axes: Vec<usize> = (0..data.shape.len()).collect();
    Ok(rearrange(data, &axes, &ranges.into_iter().map(list).collect::<Vec<_>>()))
}

fn transpose(cx: &Context, data: &Small) -> Result<Option<Small>, GraphError> {
    let op = crate::resolve::resolve_with(cx.graph, cx.folded, cx.node, cx.shapes)?;
    let crate::op::Op::Transpose { perm } = op else { return Ok(None) };
    let lists: Vec<Vec<usize>> = perm.iter().map(|&axis| (0..data.shape[axis]).collect()).collect();
    Ok(rearrange(data, &perm, &lists))
}

/// The tensor whose axis i runs over the positions `lists[i]` of axis `axes[i]` of `data`.
fn rearrange(data: &Small, axes: &[usize], lists: &[Vec<usize>]) -> Option<Small> {
    let mut positions = vec![0usize];
    for (&axis, list) in axes.iter().zip(lists) {
        let stride: usize = data.shape[axis + 1..].iter().product();
        positions = positions.iter().flat_map(|&p| list.iter().map(move |&i| p + i * stride)).collect();
    }
    data.pick(lists.iter().map(Vec::len).collect(), &positions)
}

fn constant_of_shape(cx: &Context, dims: &Small) -> Result<Option<Small>, GraphError> {
    let dims = dims.ints().ok_or_else(|| cx.bad_input(0, "does not hold integers"))?;
    let shape: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
    let shape = shape.map_err(|_| cx.bad_input(0, "asks for a negative extent"))?;
    let Some(count) = element_count(&shape).filter(|&n| n <= LARGEST_FOLD) else { return Ok(None) };
    let value = match cx.node.attributes.get("value") {
        None => Some(Values::Floats(vec![0.0])),
        Some(Attribute::Tensor(t)) => Small::of(t).map(|s| s.values),
        Some(_) => None,
    };
    let values = match value {
        Some(Values::Ints(v)) if v.len() == 1 => Values::Ints(vec![v[0]; count]),
        Some(Values::Floats(v)) if v.len() == 1 => Values::Floats(vec![v[0]; count]),
        _ => return Err(cx.bad_attribute("value", "is not a single number")),
    };
    Ok(Some(Small { shape, values }))
}

fn range(start: &Small, limit: &Small, delta: Option<&Small>) -> Option<Small> {
    let (&[start], &[limit], &[delta]) = (start.ints()?, limit.ints()?, delta?.ints()?) else { return None };
    let mut values = Vec::new();
    let mut at = start;
    while delta != 0 && (if delta > 0 { at < limit } else { at > limit }) {
        if values.len() == LARGEST_FOLD {
            return None;
        }
        values.push(at);
        at = at.checked_add(delta)?;
    }
    Some(Small { shape: vec![values.len()], values: Values::Ints(values) })
}

fn product(cx: &Context, data: &Small) -> Result<Option<Small>, GraphError> {
    let ([_], Some(values)) = (data.shape.as_slice(), data.ints()) else { return Ok(None) };
    let product = values.iter().try_fold(1i64, |n, &v| n.checked_mul(v));
    let product = product.ok_or_else(|| cx.mismatch("the product overflows"))?;
    let shape = if cx.flag("keepdims", true)? { vec![1] } else { vec![] };
    Ok(Some(Small { shape, values: Values::Ints(vec![product]) }))
}

/// Positions in a tensor of `from` for each element of `shape`, which `from` is broadcast to.
fn spread(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let count: usize = shape.iter().product();
    let lead = shape.len() - from.len();
    let position = |mut index: usize| {
        let (mut at, mut stride) = (0, 1);
        for axis in (0..shape.len()).rev() {
            let i = index % shape[axis];
            index /= shape[axis];
            if axis >= lead {
                at += if from[axis - lead] == 1 { 0 } else { i * stride };
                stride *= from[axis - lead];
            }
        }
        at
    };
    (0..count).map(position).collect()
}

fn joint_shape(cx: &Context, a: &[usize], b: &[usize]) -> Result<Vec<usize>, GraphError> {
    let shape = broadcast(a, b).ok_or_else(|| cx.mismatch("the inputs cannot be broadcast together"))?;
    match element_count(&shape) {
        Some(n) if n <= LARGEST_FOLD => Ok(shape),
        _ => Err(cx.mismatch("the constant becomes too large")),
    }
}

fn arithmetic(cx: &Context, a: &Small, b: &Small) -> Result<Option<Small>, GraphError> {
    let shape = joint_shape(cx, &a.shape, &b.shape)?;
    let pick = |s: &Small| s.pick(shape.clone(), &spread(&s.shape, &shape)).map(|s| s.values);
    let op = cx.node.op.as_str();
    let values = match (pick(a), pick(b)) {
        (Some(Values::Ints(a)), Some(Values::Ints(b))) => {
            let pairs = a.into_iter().zip(b);
            let results: Option<Vec<i64>> = pairs
                .map(|(a, b)| match op {
                    "Add" => a.checked_add(b),
                    "Sub" => a.checked_sub(b),
                    "Mul" => a.checked_mul(b),
                    "Div" => a.checked_div(b),
                    "Mod" => a.checked_rem_euclid(b),
                    "Min" => Some(a.min(b)),
                    "Max" => Some(a.max(b)),
                    _ => Some((a == b).into()),
                })
                .collect();
            Values::Ints(results.ok_or_else(|| cx.mismatch("the integers overflow or are divided by 0"))?)
        }
        (Some(Values::Floats(a)), Some(Values::Floats(b))) => {
            let f: fn(f32, f32) -> f32 = match op {
                "Add" => |a, b| a + b,
                "Sub" => |a, b| a - b,
                "Mul" => |a, b| a * b,
                "Div" => |a, b| a / b,
                "Min" => f32::min,
                "Max" => f32::max,
                _ => return Ok(None),
            };
            Values::Floats(a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect())
        }
        _ => return Err(cx.mismatch("the inputs differ in element type")),
    };
    Ok(Some(Small { shape, values }))
}

fn select(cx: &Context, condition: &Small, yes: &Small, no: &Small) -> Result<Option<Small>, GraphError> {
    let shape = joint_shape(cx, &joint_shape(cx, &condition.shape, &yes.shape)?, &no.shape)?;
    let pick = |s: &Small| s.pick(shape.clone(), &spread(&s.shape, &shape)).map(|s| s.values);
    let Some(Values::Ints(condition)) = pick(condition) else { return Ok(None) };
    let (Some(Values::Ints(yes)), Some(Values::Ints(no))) = (pick(yes), pick(no)) else { return Ok(None) };
    let chosen = condition.iter().zip(yes.iter().zip(no));
    let values = Values::Ints(chosen.map(|(&c, (&y, n))| if c != 0 { y } else { n }).collect());
    Ok(Some(Small { shape, values }))
}
