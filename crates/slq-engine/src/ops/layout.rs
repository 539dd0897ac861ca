//! Operators that only move elements: Concat, Transpose, Slice (and Split), Pad.

use slq_graph::op::PadMode as GraphPadMode;

use super::{Backward, Forward, Layer, Site};
use crate::error::EngineError;
use crate::kernels::reshape::{self, Pad, PadMode, View};

/// Operands joined along an axis.
struct ConcatLayer {
    outer: usize,
    /// Elements of each operand from the axis on.
    rows: Vec<usize>,
    row: usize,
}

pub(super) fn concat(site: Site<'_>, axis: usize) -> Result<Box<dyn Layer>, EngineError> {
    let outer = site.step.shape[..axis].iter().product();
    let count = site.step.inputs.len();
    let rows: Result<Vec<usize>, EngineError> =
        (0..count).map(|i| Ok(site.shape(i)?[axis..].iter().product())).collect();
    Ok(Box::new(ConcatLayer { outer, rows: rows?, row: site.step.shape[axis..].iter().product() }))
}

impl Layer for ConcatLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let parts: Vec<(&[f32], usize)> =
            self.rows.iter().enumerate().map(|(i, &row)| (pass.input(i), row)).collect();
        reshape::concat(self.outer, &parts, y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        let mut at = 0;
        for (i, &len) in self.rows.iter().enumerate() {
            if let Some(mut dx) = pass.take_gradient(i) {
                let accumulate = dx.accumulate;
                reshape::split(self.row, at, len, &dy, &mut dx, accumulate);
                pass.put_gradient(i, dx);
            }
            at += len;
        }
        pass.put_output_gradient(dy);
    }
}

/// A strided view, made contiguous.
struct ViewLayer(View);

pub(super) fn transpose(site: Site<'_>, perm: &[usize]) -> Result<Box<dyn Layer>, EngineError> {
    Ok(Box::new(ViewLayer(View::transpose(site.shape(0)?, perm))))
}

pub(super) fn slice(site: Site<'_>, ranges: &[(i64, i64, i64)]) -> Result<Box<dyn Layer>, EngineError> {
    let axes: Option<Vec<(usize, isize, usize)>> = ranges
        .iter()
        .zip(&site.step.shape)
        .map(|(&(start, _, step), &count)| Some((start.try_into().ok()?, step.try_into().ok()?, count)))
        .collect();
    let axes = axes.ok_or_else(|| site.unsupported(format!("the ranges {ranges:?} leave the input")))?;
    Ok(Box::new(ViewLayer(View::slice(site.shape(0)?, &axes))))
}

impl Layer for ViewLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        reshape::gather(pass.isa, &self.0, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let Some(mut dx) = pass.take_gradient(0) {
            let accumulate = dx.accumulate;
            reshape::scatter(pass.isa, &self.0, &dy, &mut dx, accumulate);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}

/// Padding, or cropping where it is negative.
struct PadLayer(Pad);

pub(super) fn pad(
    site: Site<'_>,
    before: &[i64],
    after: &[i64],
    mode: GraphPadMode,
) -> Result<Box<dyn Layer>, EngineError> {
    let mode = match mode {
        GraphPadMode::Constant(value) => PadMode::Constant(value),
        GraphPadMode::Reflect => PadMode::Reflect,
        GraphPadMode::Edge => PadMode::Edge,
    };
    let shape = site.shape(0)?;
    let pads: Vec<(isize, isize)> =
        before.iter().zip(after).map(|(&b, &a)| (b as isize, a as isize)).collect();
    let fits = |(&d, &(b, a)): (&usize, &(isize, isize))| {
        let reflectable = mode != PadMode::Reflect || (b.max(a) < d as isize);
        d as isize + b.min(0) + a.min(0) > 0 && reflectable
    };
    if pads.len() != shape.len() || !shape.iter().zip(&pads).all(fits) {
        return Err(site.unsupported(format!("the pads {pads:?} do not fit the shape {shape:?}")));
    }
    Ok(Box::new(PadLayer(Pad::new(shape, &pads, mode))))
}

impl Layer for PadLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.0.forward(pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let Some(mut dx) = pass.take_gradient(0) {
            let accumulate = dx.accumulate;
            self.0.backward(&dy, &mut dx, accumulate);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}
