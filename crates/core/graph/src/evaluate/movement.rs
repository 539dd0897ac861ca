//! Operators that move elements: exact for every element type.

use super::limits::{LARGEST_SMALL, small};
use super::view::View;
use crate::error::GraphError;
use crate::op::Op;
use crate::resolve::{Context, resolve_with};
use crate::rules::output_shapes_of_constants;
use crate::tensor::{Tensor, TensorData, element_count};

/// The operator's typed form and the shape of its output.
fn resolved(cx: &Context) -> Result<(Op, Vec<usize>), GraphError> {
    let op = resolve_with(cx)?;
    let shape = output_shapes_of_constants(cx.node, &op, cx.shapes)?.swap_remove(0);
    Ok((op, shape))
}

/// `Identity`, `Reshape`, `Squeeze`, `Unsqueeze`, `Flatten`.
pub(super) fn reshape(cx: &Context, data: &Tensor) -> Result<Tensor, GraphError> {
    data.clone().reshape(resolved(cx)?.1)
}

pub(super) fn transpose(cx: &Context, data: &Tensor) -> Result<Option<Tensor>, GraphError> {
    let (Op::Transpose { perm }, _) = resolved(cx)? else { return Ok(None) };
    Ok(transposed(data, &perm))
}

/// The tensor whose axis `i` is axis `perm[i]` of `data`.
pub(crate) fn transposed(data: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let shape = perm.iter().map(|&p| data.shape()[p]).collect();
    Tensor::new(shape, View::transposed(data.shape(), perm).of_data(data.data())).ok()
}

pub(super) fn slice(cx: &Context, data: &Tensor) -> Result<Option<Tensor>, GraphError> {
    let (Op::Slice { ranges }, shape) = resolved(cx)? else { return Ok(None) };
    let view = View::sliced(data.shape(), &ranges, shape.clone());
    Ok(Tensor::new(shape, view.of_data(data.data())).ok())
}

pub(super) fn concat(
    cx: &Context,
    inputs: &[Option<&Tensor>],
    largest: usize,
) -> Result<Option<Tensor>, GraphError> {
    let Some(tensors) = inputs.iter().copied().collect::<Option<Vec<&Tensor>>>() else { return Ok(None) };
    if tensors.iter().any(|t| t.dtype() != tensors[0].dtype()) {
        return Err(cx.mismatch("tensors of different element types are joined"));
    }
    let (Op::Concat { axis }, shape) = resolved(cx)? else { return Ok(None) };
    if element_count(&shape).is_none_or(|n| n > largest) {
        return Ok(None);
    }
    let outer = element_count(&shape[..axis]).unwrap_or(0);
    let joined = join(&tensors, outer);
    Ok(joined.and_then(|data| Tensor::new(shape, data).ok()))
}

/// Equal parts of each tensor in turn, `outer` times; the tensors are of one element type.
fn join(tensors: &[&Tensor], outer: usize) -> Option<TensorData> {
    macro_rules! joined {
        ($pattern:pat => $values:ident) => {
            interleave(
                tensors,
                |data| if let $pattern = data { Some($values.as_slice()) } else { None },
                outer,
            )?
        };
    }
    Some(match tensors.first()?.data() {
        TensorData::F32(_) => TensorData::F32(joined!(TensorData::F32(v) => v)),
        TensorData::I64(_) => TensorData::I64(joined!(TensorData::I64(v) => v)),
        TensorData::I32(_) => TensorData::I32(joined!(TensorData::I32(v) => v)),
        TensorData::U8(_) => TensorData::U8(joined!(TensorData::U8(v) => v)),
        TensorData::Bool(_) => TensorData::Bool(joined!(TensorData::Bool(v) => v)),
        TensorData::Raw(dtype, _) => TensorData::Raw(*dtype, joined!(TensorData::Raw(_, v) => v)),
    })
}

fn interleave<'a, T: Copy + 'a>(
    tensors: &[&'a Tensor],
    part: impl Fn(&'a TensorData) -> Option<&'a [T]>,
    outer: usize,
) -> Option<Vec<T>> {
    let parts = tensors.iter().map(|t| part(t.data())).collect::<Option<Vec<&[T]>>>()?;
    let mut joined = Vec::with_capacity(parts.iter().map(|p| p.len()).sum());
    for i in 0..outer {
        for part in &parts {
            let run = part.len() / outer;
            joined.extend_from_slice(&part[i * run..(i + 1) * run]);
        }
    }
    Some(joined)
}

/// `Gather` of few elements.
pub(super) fn gather(cx: &Context, data: &Tensor, indices: &Tensor) -> Result<Option<Tensor>, GraphError> {
    let shape = data.shape();
    let axis = cx.axis(cx.int("axis", 0)?, shape.len())?;
    let list = indices.to_i64().ok_or_else(|| cx.bad_input(1, "does not hold integers"))?;
    let list: Result<Vec<usize>, GraphError> = list.iter().map(|&i| cx.axis(i, shape[axis])).collect();
    let list = list.map_err(|_| cx.bad_input(1, format!("points outside 0..{}", shape[axis])))?;
    let result = small(cx, [&shape[..axis], indices.shape(), &shape[axis + 1..]].concat())?;
    if data.len() > LARGEST_SMALL {
        return Ok(None);
    }
    // Each index is a slice of extent 1 along the axis; the slices are joined along it.
    let outer = element_count(&shape[..axis]).unwrap_or(0);
    let pick = |&i: &usize| {
        let (mut ranges, mut extents): (Vec<_>, Vec<usize>) =
            (shape.iter().map(|&d| (0, d as i64, 1)).collect(), shape.to_vec());
        (ranges[axis], extents[axis]) = ((i as i64, i as i64 + 1, 1), 1);
        let view = View::sliced(shape, &ranges, extents.clone());
        Tensor::new(extents, view.of_data(data.data())).ok()
    };
    let Some(slices) = list.iter().map(pick).collect::<Option<Vec<Tensor>>>() else { return Ok(None) };
    if slices.is_empty() {
        return Ok(None);
    }
    let joined = join(&slices.iter().collect::<Vec<_>>(), outer);
    Ok(joined.and_then(|data| Tensor::new(result, data).ok()))
}
