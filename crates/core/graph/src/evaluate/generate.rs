//! Constants from attributes, shapes and a few integers.

use super::elementwise::integers;
use super::limits::LARGEST_SMALL;
use crate::error::GraphError;
use crate::node::{Attribute, Node};
use crate::resolve::Context;
use crate::tensor::{Tensor, TensorData, element_count};

/// The value of a `Constant` node.
pub(crate) fn constant(node: &Node) -> Option<Tensor> {
    let scalar = |data| Tensor::new(vec![], data).ok();
    let (name, value) = node.attributes.first_key_value().filter(|_| node.attributes.len() == 1)?;
    match (name.as_str(), value) {
        ("value", Attribute::Tensor(t)) => Some(t.clone()),
        ("value_int", Attribute::Int(v)) => scalar(TensorData::I64(vec![*v])),
        ("value_ints", Attribute::Ints(v)) => Some(Tensor::i64_vector(v.clone())),
        ("value_float", Attribute::Float(v)) => scalar(TensorData::F32(vec![*v])),
        ("value_floats", Attribute::Floats(v)) => Tensor::f32(vec![v.len()], v.clone()).ok(),
        _ => None,
    }
}

/// The output of `Shape`.
pub(crate) fn shape_of(cx: &Context) -> Result<Tensor, GraphError> {
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

/// The output of `Size`.
pub(crate) fn size_of(cx: &Context) -> Result<Option<Tensor>, GraphError> {
    let count = element_count(cx.shape(0)?).and_then(|n| i64::try_from(n).ok());
    let count = count.ok_or_else(|| cx.mismatch("the number of elements overflows"))?;
    Ok(Tensor::new(vec![], TensorData::I64(vec![count])).ok())
}

pub(super) fn constant_of_shape(cx: &Context, dims: &Tensor) -> Result<Option<Tensor>, GraphError> {
    let dims = dims.to_i64().ok_or_else(|| cx.bad_input(0, "does not hold integers"))?;
    let shape: Result<Vec<usize>, _> = dims.iter().map(|&d| usize::try_from(d)).collect();
    let shape = shape.map_err(|_| cx.bad_input(0, "asks for a negative extent"))?;
    let Some(count) = element_count(&shape).filter(|&n| n <= LARGEST_SMALL) else { return Ok(None) };
    let not_single = || cx.bad_attribute("value", "is not a single number");
    let data = match cx.node.attributes.get("value") {
        None => TensorData::F32(vec![0.0; count]),
        Some(Attribute::Tensor(t)) if t.len() == 1 => match t.data() {
            TensorData::F32(v) => TensorData::F32(vec![v[0]; count]),
            TensorData::I64(v) => TensorData::I64(vec![v[0]; count]),
            TensorData::I32(v) => TensorData::I32(vec![v[0]; count]),
            TensorData::Bool(v) => TensorData::Bool(vec![v[0]; count]),
            TensorData::U8(v) => TensorData::U8(vec![v[0]; count]),
            TensorData::Raw(..) => return Err(not_single()),
        },
        Some(_) => return Err(not_single()),
    };
    Ok(Tensor::new(shape, data).ok())
}

/// `Range` over integers.
pub(super) fn range(start: &Tensor, limit: &Tensor, delta: &Tensor) -> Option<Tensor> {
    let one = |t: &Tensor| <[i64; 1]>::try_from(t.to_i64()?).ok().map(|[v]| v);
    let (mut at, limit, delta) = (one(start)?, one(limit)?, one(delta)?);
    let mut values = Vec::new();
    while delta != 0 && (if delta > 0 { at < limit } else { at > limit }) {
        if values.len() == LARGEST_SMALL {
            return None;
        }
        values.push(Some(at));
        at = at.checked_add(delta)?;
    }
    Tensor::new(vec![values.len()], integers(start.dtype(), values.into_iter())?).ok()
}

/// `ReduceProd` of a list of integers.
pub(super) fn product(cx: &Context, data: &Tensor) -> Result<Option<Tensor>, GraphError> {
    let ([_], Some(values)) = (data.shape(), data.to_i64()) else { return Ok(None) };
    let product = values.iter().try_fold(1i64, |n, &v| n.checked_mul(v));
    let product = product.ok_or_else(|| cx.mismatch("the product overflows"))?;
    let shape = if cx.flag("keepdims", true)? { vec![1] } else { vec![] };
    let data = integers(data.dtype(), std::iter::once(Some(product)));
    Ok(data.and_then(|data| Tensor::new(shape, data).ok()))
}
