//! Operators that copy elements: Concat, Transpose, Slice (and Split), Pad.

use slq_graph::op::PadMode as GraphPadMode;
use slq_kernels::parallel::{chunks, chunks_mut, parts};
use slq_kernels::reshape::{self, Pad, PadMode, View};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

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
                let store = dx.store;
                reshape::split(self.row, at, len, &dy, &mut dx, store);
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
        pass.input_gradient(|pass, dy, dx, store| {
            reshape::scatter(pass.isa, &self.0, dy, dx, store);
        });
    }
}

/// Padding by reflection or repetition, or cropping where it is negative.
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
        GraphPadMode::Wrap => return wrap(&site, before),
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
    Ok(match mode {
        PadMode::Constant(value) if pads.iter().all(|&(b, a)| b >= 0 && a >= 0) => {
            Box::new(FillLayer::new(shape, before, &site.step.shape, value))
        }
        mode => Box::new(PadLayer(Pad::new(shape, &pads, mode))),
    })
}

/// Padding by the tensor itself, axis by axis as a table of positions.
fn wrap(site: &Site<'_>, before: &[i64]) -> Result<Box<dyn Layer>, EngineError> {
    let (from, to) = (site.shape(0)?, site.step.shape.as_slice());
    let mut places = vec![0usize];
    for axis in 0..from.len() {
        let at = |i: usize| (i as i64 - before[axis]).rem_euclid(from[axis] as i64) as usize;
        let row = |place: &usize| (0..to[axis]).map(|i| place * from[axis] + at(i)).collect::<Vec<_>>();
        places = places.iter().flat_map(row).collect();
    }
    Ok(Box::new(WrapLayer(places)))
}

/// Where each element of the output lies in the input.
struct WrapLayer(Vec<usize>);

impl Layer for WrapLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        y.iter_mut().zip(&self.0).for_each(|(y, &at)| *y = x[at]);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|_, dy, dx, _| {
            dx.fill(0.0);
            dy.iter().zip(&self.0).for_each(|(dy, &at)| dx[at] += dy);
        });
    }

    fn scratch_bytes(&self) -> usize {
        size_of_val(&self.0[..])
    }
}

/// Padding by a constant, row by row: a row ends with the last axis that is padded.
struct FillLayer {
    value: f32,
    /// Elements of a row of the input and of the output, and where in the latter the former begins.
    from: usize,
    to: usize,
    start: usize,
    /// The row of the input in each row of the output.
    sources: Vec<Option<usize>>,
    /// The row of the output that holds each row of the input.
    targets: Vec<usize>,
}

impl FillLayer {
    fn new(shape: &[usize], before: &[i64], padded: &[usize], value: f32) -> Self {
        let last = (0..shape.len()).rposition(|i| shape[i] != padded[i]).unwrap_or(0);
        let inner: usize = shape[last + 1..].iter().product();
        let mut sources = vec![Some(0)];
        for axis in 0..last {
            let first = before[axis] as usize;
            let within = |i: usize| i.checked_sub(first).filter(|&i| i < shape[axis]);
            let row = |source: &Option<usize>| {
                let source = *source;
                let at = move |i: usize| Some(source? * shape[axis] + within(i)?);
                (0..padded[axis]).map(at).collect::<Vec<_>>()
            };
            sources = sources.iter().flat_map(row).collect();
        }
        let targets = (0..sources.len()).filter(|&i| sources[i].is_some()).collect();
        let start = before[last] as usize * inner;
        Self { value, from: shape[last] * inner, to: padded[last] * inner, start, sources, targets }
    }

    /// Rows of a work item: enough to outweigh the cost of a task.
    fn rows(row: usize) -> usize {
        (8192 / row.max(1)).max(1)
    }
}

impl Layer for FillLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        let rows = (chunks_mut(y, self.to), chunks(&self.sources, 1));
        parts(rows, Self::rows(self.to), |_, (row, source)| match source[0] {
            None => row.fill(self.value),
            Some(source) => {
                let (head, rest) = row.split_at_mut(self.start);
                let (body, tail) = rest.split_at_mut(self.from);
                head.fill(self.value);
                body.copy_from_slice(&x[source * self.from..][..self.from]);
                tail.fill(self.value);
            }
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|_, dy, dx, store| {
            let rows = (chunks_mut(dx, self.from), chunks(&self.targets, 1));
            parts(rows, Self::rows(self.from), |_, (row, target)| {
                let from = &dy[target[0] * self.to + self.start..][..self.from];
                if store.accumulates() {
                    row.iter_mut().zip(from).for_each(|(x, y)| *x += y);
                } else {
                    row.copy_from_slice(from);
                }
            });
        });
    }

    fn scratch_bytes(&self) -> usize {
        size_of::<usize>() * (2 * self.sources.len() + self.targets.len())
    }
}

impl Layer for PadLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.0.forward(pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|_, dy, dx, store| self.0.backward(dy, dx, store));
    }
}
