//! Layers that change shapes or move elements, and `Reduction`.

use slq_graph::{Attribute, Node, Tensor, element_count};

use super::builder::{Builder, Value};
use super::mapped::{Mapped, axis};
use crate::error::CaffeError;
use crate::proto::LayerParameter;
use crate::proto::reduction_parameter::ReductionOp;

const NO_SHAPE: &str = "the shape of its input is not known";

fn reshape_to(
    b: &mut Builder,
    layer: &LayerParameter,
    input: &str,
    target: Vec<i64>,
    shape: Option<Vec<usize>>,
) -> Result<Mapped, CaffeError> {
    let target = b.constant(layer, "shape", Tensor::i64_vector(target));
    let output = b.top(layer, 0, shape)?;
    b.push(Node::new(layer.name(), "Reshape", &[input, &target], &[&output]));
    Ok(Mapped::Done)
}

/// `Concat` along one axis.
pub(super) fn concat(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.concat_param.unwrap_or_default();
    let wanted = match (p.axis, p.concat_dim) {
        (Some(_), Some(_)) => return Err(b.bad(layer, "axis", "excludes concat_dim")),
        (None, Some(dim)) => i32::try_from(dim).unwrap_or(i32::MAX),
        _ => p.axis(),
    };
    let inputs: Vec<Value> = (0..layer.bottom.len()).map(|i| b.bottom(layer, i)).collect::<Result<_, _>>()?;
    let Some(first) = inputs.first() else { return Err(b.bad(layer, "bottom", "missing")) };
    let along = match inputs.iter().find_map(|v| v.shape.as_ref()) {
        Some(shape) => axis(b, layer, wanted, shape.len())?,
        None if wanted >= 0 => wanted as usize,
        None => return Ok(Mapped::Opaque(NO_SHAPE.into())),
    };
    let shape = match inputs.iter().map(|v| v.shape.as_ref()).collect::<Option<Vec<_>>>() {
        Some(shapes) => {
            let mut total = shapes[0].clone();
            total[along] = 0;
            for shape in shapes {
                let fits = shape.len() == total.len()
                    && shape.iter().zip(&total).enumerate().all(|(i, (a, t))| i == along || a == t);
                if !fits {
                    let reason = format!("{shape:?} does not fit {:?} beside axis {along}", first.shape);
                    return Err(b.bad(layer, "bottom", reason));
                }
                total[along] = total[along].saturating_add(shape[along]);
            }
            Some(total)
        }
        None => None,
    };
    let output = b.top(layer, 0, shape)?;
    let names: Vec<&str> = inputs.iter().map(|v| v.name.as_str()).collect();
    b.push(Node::new(layer.name(), "Concat", &names, &[&output]).with("axis", Attribute::Int(along as i64)));
    Ok(Mapped::Done)
}

/// `Slice` into pieces along one axis: at the given points, or evenly.
pub(super) fn slice(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.slice_param.clone().unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let wanted = match (p.axis, p.slice_dim) {
        (Some(_), Some(_)) => return Err(b.bad(layer, "axis", "excludes slice_dim")),
        (None, Some(dim)) => i32::try_from(dim).unwrap_or(i32::MAX),
        _ => p.axis(),
    };
    let along = axis(b, layer, wanted, shape.len())?;
    let (extent, pieces) = (shape[along], layer.top.len());
    let sizes: Option<Vec<usize>> = if p.slice_point.is_empty() {
        (pieces > 0 && extent.is_multiple_of(pieces)).then(|| vec![extent / pieces; pieces])
    } else {
        let points = p.slice_point.iter().map(|&x| x as usize).chain([extent]);
        let mut from = 0;
        let sizes: Option<Vec<usize>> = points
            .map(|to| {
                let size = to.checked_sub(from).filter(|&s| s > 0);
                from = to;
                size
            })
            .collect();
        sizes.filter(|s| s.len() == pieces)
    };
    let Some(sizes) = sizes else {
        let reason = format!("{:?} does not cut {extent} into {pieces} pieces", p.slice_point);
        return Err(b.bad(layer, "slice_point", reason));
    };
    if along == 0 {
        return Err(b.bad(layer, "axis", "0 would take a batch apart"));
    }
    let mut outputs = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        let mut piece = shape.clone();
        piece[along] = size;
        outputs.push(b.top(layer, i, Some(piece))?);
    }
    let sizes = b.constant(layer, "sizes", Tensor::i64_vector(sizes.iter().map(|&s| s as i64).collect()));
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    b.push(
        Node::new(layer.name(), "Split", &[&input.name, &sizes], &outputs)
            .with("axis", Attribute::Int(along as i64)),
    );
    Ok(Mapped::Done)
}

/// `Split`: the same value under several names.
pub(super) fn split(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let input = b.bottom(layer, 0)?;
    for i in 0..layer.top.len() {
        let output = b.top(layer, i, input.shape.clone())?;
        b.push(Node::new(layer.name(), "Identity", &[&input.name], &[&output]));
    }
    Ok(Mapped::Done)
}

/// `Flatten` of the axes `axis ..= end_axis` into one.
pub(super) fn flatten(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.flatten_param.unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let (start, end, shape) = match &input.shape {
        Some(shape) => {
            let start = axis(b, layer, p.axis(), shape.len())?;
            let end = axis(b, layer, p.end_axis(), shape.len())?;
            if start > end {
                return Err(b.bad(layer, "end_axis", "lies before axis"));
            }
            let Some(merged) = element_count(&shape[start..=end]) else {
                return Err(b.bad(layer, "bottom", "the input has too many elements"));
            };
            let mut flat = shape[..start].to_vec();
            flat.push(merged);
            flat.extend(&shape[end + 1..]);
            (start, end + 1 == shape.len(), Some(flat))
        }
        None if p.axis() == 1 && p.end_axis() == -1 => (1, true, None),
        None => return Ok(Mapped::Opaque(NO_SHAPE.into())),
    };
    if start == 1 && end {
        let output = b.top(layer, 0, shape)?;
        let node = Node::new(layer.name(), "Flatten", &[&input.name], &[&output]);
        b.push(node.with("axis", Attribute::Int(1)));
        return Ok(Mapped::Done);
    }
    let Some(flat) = shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let target = flat.iter().enumerate().map(|(i, &d)| match i {
        i if i < start => 0,
        0 => -1,
        _ => d as i64,
    });
    reshape_to(b, layer, &input.name, target.collect(), Some(flat))
}

/// `Reshape` of the axes from `axis` on; 0 copies an extent, -1 is inferred.
pub(super) fn reshape(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.reshape_param.clone().unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let Some(shape) = &input.shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let rank = shape.len() as i64;
    let start = if p.axis() < 0 { i64::from(p.axis()) + rank + 1 } else { p.axis().into() };
    let count = if p.num_axes() == -1 { rank - start } else { p.num_axes().into() };
    if start < 0 || count < 0 || start + count > rank {
        return Err(b.bad(layer, "axis", format!("{count} axes from {start} do not exist in {shape:?}")));
    }
    let (start, end) = (start as usize, (start + count) as usize);
    let dims = p.shape.unwrap_or_default().dim;
    if dims.iter().any(|d| !(-1..=1 << 31).contains(d)) || dims.iter().filter(|&&d| d == -1).count() > 1 {
        return Err(b.bad(layer, "shape", format!("{dims:?} is not a target shape")));
    }
    let mut target: Vec<i64> = vec![0; start];
    let mut new: Vec<usize> = shape[..start].to_vec();
    let mut inferred = None;
    for (i, &dim) in dims.iter().enumerate() {
        let at = start + i;
        let extent = match dim {
            0 => match shape.get(at) {
                Some(&d) => d,
                None => return Err(b.bad(layer, "shape", format!("0 at axis {at} has nothing to copy"))),
            },
            -1 => {
                inferred = Some(at);
                1
            }
            d => d as usize,
        };
        // A batch extent written out means the batch, whatever its size.
        target.push(if at == 0 && Some(extent) == shape.first().copied() && dim > 0 { 0 } else { dim });
        new.push(extent);
    }
    for &d in &shape[end..] {
        target.push(d as i64);
        new.push(d);
    }
    let total = element_count(shape);
    if let (Some(at), Some(total), Some(known)) = (inferred, total, element_count(&new))
        && known > 0
        && total.is_multiple_of(known)
    {
        new[at] = total / known;
    }
    if element_count(&new) != total {
        return Err(b.bad(layer, "shape", format!("{dims:?} does not hold the elements of {shape:?}")));
    }
    reshape_to(b, layer, &input.name, target, Some(new))
}

/// `Permute`: the axes named first, then the rest in order.
pub(super) fn permute(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let order = layer.permute_param.clone().unwrap_or_default().order;
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let mut perm: Vec<usize> = Vec::new();
    for &axis in &order {
        let axis = axis as usize;
        if axis >= shape.len() || perm.contains(&axis) {
            return Err(b.bad(layer, "order", format!("{order:?} does not permute {} axes", shape.len())));
        }
        perm.push(axis);
    }
    perm.extend((0..shape.len()).filter(|i| !order.contains(&(*i as u32))));
    let permuted = perm.iter().map(|&i| shape[i]).collect();
    let output = b.top(layer, 0, Some(permuted))?;
    b.push(
        Node::new(layer.name(), "Transpose", &[&input.name], &[&output])
            .with("perm", Attribute::Ints(perm.iter().map(|&i| i as i64).collect())),
    );
    Ok(Mapped::Done)
}

/// `Crop` to the extents of the second input from `axis` on.
pub(super) fn crop(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.crop_param.clone().unwrap_or_default();
    let (input, reference) = (b.bottom(layer, 0)?, b.bottom(layer, 1)?);
    let (Some(shape), Some(to)) = (input.shape, reference.shape) else {
        return Ok(Mapped::Opaque(NO_SHAPE.into()));
    };
    let start = axis(b, layer, p.axis(), shape.len())?;
    let cropped = shape.len() - start;
    if to.len() != shape.len() || start == 0 || !matches!(p.offset.len(), 0 | 1) && p.offset.len() != cropped
    {
        let reason = format!("axis {start} and offsets {:?} do not fit {shape:?} and {to:?}", p.offset);
        return Err(b.bad(layer, "offset", reason));
    }
    let (mut starts, mut ends, mut axes) = (Vec::new(), Vec::new(), Vec::new());
    let mut new = shape.clone();
    for i in 0..cropped {
        let at = start + i;
        let offset = p.offset.get(i).or(p.offset.first()).map_or(0, |&o| o as usize);
        if offset + to[at] > shape[at] {
            let reason = format!("{offset} + {} exceeds the extent {} of axis {at}", to[at], shape[at]);
            return Err(b.bad(layer, "offset", reason));
        }
        new[at] = to[at];
        starts.push(offset as i64);
        ends.push((offset + to[at]) as i64);
        axes.push(at as i64);
    }
    let starts = b.constant(layer, "starts", Tensor::i64_vector(starts));
    let ends = b.constant(layer, "ends", Tensor::i64_vector(ends));
    let axes = b.constant(layer, "axes", Tensor::i64_vector(axes));
    let output = b.top(layer, 0, Some(new))?;
    b.push(Node::new(layer.name(), "Slice", &[&input.name, &starts, &ends, &axes], &[&output]));
    Ok(Mapped::Done)
}

/// `ShuffleChannel`: channels seen as a matrix of groups, transposed.
pub(super) fn shuffle(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let groups = layer.shuffle_channel_param.unwrap_or_default().group() as usize;
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let &[_, c, h, w] = shape.as_slice() else {
        return Err(b.bad(layer, "bottom", format!("{shape:?} is not an image batch of four axes")));
    };
    if groups == 0 || !c.is_multiple_of(groups) {
        return Err(b.bad(layer, "group", format!("{c} channels in {groups} groups")));
    }
    let apart = [0, groups as i64, (c / groups) as i64, (h * w) as i64];
    let apart = b.constant(layer, "groups", Tensor::i64_vector(apart.to_vec()));
    let matrix = b.helper(layer, "apart", "Reshape", &[&input.name, &apart]);
    let turned = b.unique(&format!("{}.turned", layer.name()));
    b.push(
        Node::new(&format!("{}.transpose", layer.name()), "Transpose", &[&matrix], &[&turned])
            .with("perm", Attribute::Ints(vec![0, 2, 1, 3])),
    );
    let target = vec![0, c as i64, h as i64, w as i64];
    reshape_to(b, layer, &turned, target, Some(shape))
}

/// `Reduction` of all axes from `axis` on to a sum or a mean.
pub(super) fn reduction(b: &mut Builder, layer: &LayerParameter) -> Result<Mapped, CaffeError> {
    let p = layer.reduction_param.unwrap_or_default();
    let input = b.bottom(layer, 0)?;
    let Some(shape) = input.shape else { return Ok(Mapped::Opaque(NO_SHAPE.into())) };
    let start = axis(b, layer, p.axis(), shape.len())?;
    let mean = match p.operation() {
        ReductionOp::Mean => true,
        ReductionOp::Sum => false,
        other => {
            return Ok(Mapped::Opaque(format!("the reduction {} is not supported", other.as_str_name())));
        }
    };
    if start == 0 {
        return Ok(Mapped::Opaque("a reduction over the batch is not supported".into()));
    }
    let axes: Vec<i64> = (start..shape.len()).map(|i| i as i64).collect();
    let reduced = Some(shape[..start].to_vec());
    let coeff = match p.coeff() {
        1.0 => None,
        c => Some(b.scalar(layer, "coeff", c)?),
    };
    let name = if coeff.is_some() { format!("{}.reduce", layer.name()) } else { layer.name().to_owned() };
    let output = b.top(layer, 0, reduced)?;
    let result = if coeff.is_some() { b.unique(&name) } else { output.clone() };
    let node = if mean {
        Node::new(&name, "ReduceMean", &[&input.name], &[&result]).with("axes", Attribute::Ints(axes))
    } else {
        let axes = b.constant(layer, "axes", Tensor::i64_vector(axes));
        Node::new(&name, "ReduceSum", &[&input.name, &axes], &[&result])
    };
    b.push(node.with("keepdims", Attribute::Int(0)));
    if let Some(coeff) = coeff {
        b.push(Node::new(layer.name(), "Mul", &[&result, &coeff], &[&output]));
    }
    Ok(Mapped::Done)
}
