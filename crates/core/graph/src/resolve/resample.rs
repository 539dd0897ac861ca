//! Resize and Upsample.

use super::Context;
use crate::error::GraphError;
use crate::op::{Coordinates, Interpolation, Op, Resize, Rounding};
use crate::tensor::Tensor;

/// Largest factor of an axis.
const LARGEST_SCALE: f32 = 65536.0;

/// Longest axis that is made.
const LARGEST_EXTENT: usize = 1 << 24;

/// The floats of constant input `index`; `None` where it is omitted or empty.
fn floats(cx: &Context, index: usize) -> Result<Option<Vec<f32>>, GraphError> {
    let Some(tensor) = cx.constant(index)? else { return Ok(None) };
    let values = tensor.to_f32().ok_or_else(|| cx.bad_input(index, "does not hold floats"))?;
    Ok(Some(values.to_vec()).filter(|v| !v.is_empty()))
}

/// `Upsample`: factors as an attribute, or from operator set 9 on as an input.
pub(super) fn upsample(cx: &Context) -> Result<Op, GraphError> {
    let given = match cx.node.attributes.get("scales") {
        Some(crate::Attribute::Floats(scales)) => Some(scales.clone()),
        Some(_) => return Err(cx.bad_attribute("scales", "is not a list of floats")),
        None => floats(cx, 1)?,
    };
    let scales = given.ok_or_else(|| cx.bad_attribute("scales", "is missing"))?;
    let interpolation = interpolation(cx, Rounding::Floor)?;
    scaled(cx, &scales, interpolation, Coordinates::Asymmetric)
}

/// `Resize`; before operator set 11 it is `Upsample` that may also shrink.
pub(super) fn resize(cx: &Context) -> Result<Op, GraphError> {
    if cx.opset() < 11 {
        return upsample(cx);
    }
    let rank = cx.rank(0)?;
    let axes = match cx.ints("axes")? {
        None => (0..rank).collect(),
        Some(axes) => {
            cx.axes(axes, rank)?;
            axes.iter().map(|&a| cx.axis(a, rank)).collect::<Result<Vec<_>, _>>()?
        }
    };
    let rounding = match cx.string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => Rounding::PreferFloor,
        "round_prefer_ceil" => Rounding::PreferCeil,
        "floor" => Rounding::Floor,
        "ceil" => Rounding::Ceil,
        other => return Err(cx.bad_attribute("nearest_mode", format!("is `{other}`"))),
    };
    let interpolation = interpolation(cx, rounding)?;
    let coordinates = coordinates(cx, &axes, rank)?;
    let (scales, sizes) = (floats(cx, 2)?, cx.constant_ints(3)?.filter(|s| !s.is_empty()));
    let mut op = match (scales, sizes) {
        (Some(scales), None) => {
            let scales = spread(cx, &scales, &axes, vec![1.0; rank])?;
            scaled(cx, &scales, interpolation, coordinates)?
        }
        (None, Some(sizes)) => sized(cx, &sizes, &axes, interpolation, coordinates)?,
        _ => return Err(cx.mismatch("either scales or sizes are needed")),
    };
    if let Op::Resize(resize) = &mut op {
        resize.antialias = cx.flag("antialias", false)?;
        resize.exclude_outside = cx.flag("exclude_outside", false)?;
        if resize.antialias && matches!(interpolation, Interpolation::Nearest(_)) {
            return Err(cx.bad_attribute("antialias", "is set for the mode `nearest`"));
        }
    }
    Ok(op)
}

/// One value for each of `axes`, put at its axis among `all`.
fn spread<T: Copy>(
    cx: &Context,
    values: &[T],
    axes: &[usize],
    mut all: Vec<T>,
) -> Result<Vec<T>, GraphError> {
    if values.len() != axes.len() {
        return Err(cx.mismatch(format!("{} values are given for {} axes", values.len(), axes.len())));
    }
    axes.iter().zip(values).for_each(|(&axis, &v)| all[axis] = v);
    Ok(all)
}

fn interpolation(cx: &Context, rounding: Rounding) -> Result<Interpolation, GraphError> {
    Ok(match cx.string("mode", "nearest")? {
        "nearest" => Interpolation::Nearest(rounding),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic { a: cx.float("cubic_coeff_a", -0.75)? },
        other => return Err(cx.bad_attribute("mode", format!("is `{other}`"))),
    })
}

fn coordinates(cx: &Context, axes: &[usize], rank: usize) -> Result<Coordinates, GraphError> {
    Ok(match cx.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_half_pixel_for_nn" => Coordinates::TfHalfPixel,
        "tf_crop_and_resize" => {
            let roi = floats(cx, 1)?.ok_or_else(|| cx.mismatch("the region of interest is missing"))?;
            if roi.len() != 2 * axes.len() || roi.iter().any(|v| !v.is_finite()) {
                return Err(
                    cx.bad_input(1, format!("does not give a start and an end for {} axes", axes.len()))
                );
            }
            let pairs: Vec<[f32; 2]> = (0..axes.len()).map(|i| [roi[i], roi[axes.len() + i]]).collect();
            let roi = spread(cx, &pairs, axes, vec![[0.0, 1.0]; rank])?;
            Coordinates::Crop { roi, outside: cx.float("extrapolation_value", 0.0)? }
        }
        other => return Err(cx.bad_attribute("coordinate_transformation_mode", format!("is `{other}`"))),
    })
}

/// By factors: extents are rounded down.
fn scaled(
    cx: &Context,
    scales: &[f32],
    interpolation: Interpolation,
    coordinates: Coordinates,
) -> Result<Op, GraphError> {
    let data = cx.shape(0)?;
    if scales.len() != data.len() {
        return Err(cx.mismatch(format!("{} scales are given for {} axes", scales.len(), data.len())));
    }
    if let Some(scale) = scales.iter().find(|&&s| !(s > 0.0 && s <= LARGEST_SCALE)) {
        return Err(cx.mismatch(format!("a scale of {scale} is outside 0..{LARGEST_SCALE}")));
    }
    let extent = |(i, (&d, &s)): (usize, (&usize, &f32))| match &coordinates {
        Coordinates::Crop { roi, .. } => {
            (f64::from(roi[i][1] - roi[i][0]) * d as f64 * f64::from(s)).floor() as usize
        }
        _ => (d as f64 * f64::from(s)).floor() as usize,
    };
    let shape: Vec<usize> = data.iter().zip(scales).enumerate().map(extent).collect();
    if let Some(&wide) =
        shape.iter().zip(data).find(|&(&to, &from)| to > LARGEST_EXTENT.max(from)).map(|p| p.0)
    {
        return Err(cx.mismatch(format!("an axis of {wide} elements is too long to be resampled to")));
    }
    Ok(op(shape, scales.to_vec(), interpolation, coordinates))
}

fn op(shape: Vec<usize>, scales: Vec<f32>, interpolation: Interpolation, coordinates: Coordinates) -> Op {
    Op::Resize(Resize { shape, scales, interpolation, coordinates, antialias: false, exclude_outside: false })
}

/// To extents, which may stand for limits of one factor for all axes.
fn sized(
    cx: &Context,
    sizes: &[i64],
    axes: &[usize],
    interpolation: Interpolation,
    coordinates: Coordinates,
) -> Result<Op, GraphError> {
    let data = cx.shape(0)?;
    let sizes: Option<Vec<usize>> =
        sizes.iter().map(|&s| usize::try_from(s).ok().filter(|&s| s > 0 && s <= LARGEST_EXTENT)).collect();
    let sizes = sizes.ok_or_else(|| cx.bad_input(3, "asks for an extent that is no extent"))?;
    let mut shape = spread(cx, &sizes, axes, data.to_vec())?;
    let ratio = |axis: usize, to: usize| to as f32 / data[axis] as f32;
    let mut scales: Vec<f32> = (0..data.len()).map(|i| ratio(i, shape[i])).collect();
    let ratios = axes.iter().map(|&a| scales[a]);
    let common = match cx.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => Some(ratios.fold(f32::INFINITY, f32::min)),
        "not_smaller" => Some(ratios.fold(0.0, f32::max)),
        other => return Err(cx.bad_attribute("keep_aspect_ratio_policy", format!("is `{other}`"))),
    };
    for &axis in axes.iter().filter(|_| common.is_some()) {
        let scale = common.unwrap_or(1.0);
        shape[axis] = ((f64::from(scale) * data[axis] as f64).round() as usize).max(1);
        scales[axis] = scale;
    }
    Ok(op(shape, scales, interpolation, coordinates))
}

/// The one value of a constant input of integers; `None` where it is omitted.
pub(super) fn one_integer(cx: &Context, index: usize) -> Result<Option<i64>, GraphError> {
    let Some(tensor) = cx.constant(index)? else { return Ok(None) };
    match tensor.to_i64().as_deref() {
        Some([v]) => Ok(Some(*v)),
        _ => Err(
            cx.bad_input(index, format!("has shape {:?} where one integer is needed", Tensor::shape(tensor)))
        ),
    }
}
