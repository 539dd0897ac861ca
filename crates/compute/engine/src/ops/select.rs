//! Operators that choose or repeat elements: Where, Expand, Gather, and constants computed from shapes.

use slq_kernels::parallel::{chunks, chunks_mut, parts};
use slq_kernels::reduce::{self, Kind, Reduction};

use super::elementwise::{broadcast_strides, sum_to};
use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// Operands broadcast to one shape, walked row by row along its last axis.
struct Walk {
    /// All axes but the last.
    outer: Vec<usize>,
    /// Extent of the last axis.
    last: usize,
    /// For each operand its step along each axis of the output; 0 where it repeats.
    strides: Vec<Vec<usize>>,
}

impl Walk {
    fn new(shape: &[usize], operands: &[&[usize]]) -> Self {
        let strides = operands.iter().map(|operand| broadcast_strides(shape, operand));
        let outer = shape.split_last().map_or(&[][..], |(_, outer)| outer).to_vec();
        Self { last: shape.last().copied().unwrap_or(1), strides: strides.collect(), outer }
    }

    /// Where row `row` of operand `which` starts, and its step.
    fn row(&self, which: usize, mut row: usize) -> (usize, usize) {
        let strides = &self.strides[which];
        let mut at = 0;
        for (axis, &extent) in self.outer.iter().enumerate().rev() {
            at += row % extent * strides[axis];
            row /= extent;
        }
        (at, if self.outer.len() < strides.len() { strides[self.outer.len()] } else { 0 })
    }

    fn each_row(&self, y: &mut [f32], f: impl Fn(usize, &mut [f32]) + Sync + Send) {
        parts(chunks_mut(y, self.last), 4096 / self.last.max(1), f);
    }
}

/// Input 1 where input 0 is not 0, else input 2.
struct WhereLayer {
    walk: Walk,
    /// Sums a gradient of the output's shape to inputs 1 and 2.
    sums: [Reduction; 2],
    scratch: Vec<f32>,
}

pub(super) fn choose(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    let shape = &site.step.shape;
    let operands = [site.shape(0)?, site.shape(1)?, site.shape(2)?];
    let sums = [sum_to(operands[1], shape), sum_to(operands[2], shape)];
    let len = if site.differentiates() { shape.iter().product() } else { 0 };
    Ok(Box::new(WhereLayer { walk: Walk::new(shape, &operands), sums, scratch: vec![0.0; len] }))
}

impl Layer for WhereLayer {
    fn reads_input(&self, i: usize) -> bool {
        i == 0
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let inputs = [pass.input(0), pass.input(1), pass.input(2)];
        self.walk.each_row(y, |r, row| {
            let [c, a, b] = [0, 1, 2].map(|i| self.walk.row(i, r));
            for (j, y) in row.iter_mut().enumerate() {
                let value = |i: usize, (at, step): (usize, usize)| inputs[i][at + j * step];
                *y = if value(0, c) != 0.0 { value(1, a) } else { value(2, b) };
            }
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        // The condition has no gradient.
        if let Some(mut gradient) = pass.take_gradient(0) {
            gradient.fill(0.0);
            pass.put_gradient(0, gradient);
        }
        for (which, sum) in self.sums.iter().enumerate() {
            let Some(mut gradient) = pass.take_gradient(which + 1) else { continue };
            let (condition, walk) = (pass.input(0), &self.walk);
            walk.each_row(&mut self.scratch, |r, row| {
                let (at, step) = walk.row(0, r);
                for (j, d) in row.iter_mut().enumerate() {
                    let chosen = (condition[at + j * step] != 0.0) == (which == 0);
                    *d = if chosen { dy[r * walk.last + j] } else { 0.0 };
                }
            });
            reduce::forward(pass.isa, sum, Kind::Sum, &self.scratch, &mut gradient);
            pass.put_gradient(which + 1, gradient);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        4 * self.scratch.len()
    }
}

/// Repetition along axes.
struct ExpandLayer {
    walk: Walk,
    sum: Reduction,
}

pub(super) fn expand(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    let (shape, data) = (&site.step.shape, site.shape(0)?);
    Ok(Box::new(ExpandLayer { walk: Walk::new(shape, &[data]), sum: sum_to(data, shape) }))
}

impl Layer for ExpandLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        self.walk.each_row(y, |r, row| {
            let (at, step) = self.walk.row(0, r);
            row.iter_mut().enumerate().for_each(|(j, y)| *y = x[at + j * step]);
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, _| {
            if dx.len() == dy.len() {
                dx.copy_from_slice(dy);
            } else {
                reduce::forward(pass.isa, &self.sum, Kind::Sum, dy, dx);
            }
        });
    }
}

/// A tensor of one value.
struct FillLayer(f32);

pub(super) fn fill(value: f32) -> Box<dyn Layer> {
    Box::new(FillLayer(value))
}

impl Layer for FillLayer {
    fn forward(&mut self, _pass: &mut Forward<'_>, y: &mut [f32]) {
        y.fill(self.0);
    }

    fn backward(&mut self, _pass: &mut Backward<'_>) {}
}

/// Rows of a table, by their numbers.
struct GatherLayer {
    node: String,
    /// Rows of each part of the table, and elements of a row.
    extent: usize,
    inner: usize,
    /// Position of each row; `None` where its number does not exist.
    rows: Vec<Option<usize>>,
    bad: Option<f32>,
}

pub(super) fn gather(site: Site<'_>, axis: usize) -> Result<Box<dyn Layer>, EngineError> {
    let data = site.shape(0)?;
    let inner = data[axis + 1..].iter().product();
    let rows = vec![None; site.operand(1)?.len()];
    Ok(Box::new(GatherLayer { node: site.node.name.clone(), extent: data[axis], inner, rows, bad: None }))
}

impl GatherLayer {
    fn look_up(&mut self, numbers: &[f32]) {
        self.bad = None;
        for (row, &number) in self.rows.iter_mut().zip(numbers) {
            let from_front = if number < 0.0 { number + self.extent as f32 } else { number };
            let exists = number.fract() == 0.0 && from_front >= 0.0 && (from_front as usize) < self.extent;
            *row = exists.then_some(from_front as usize);
            if !exists {
                self.bad.get_or_insert(number);
            }
        }
    }
}

impl Layer for GatherLayer {
    fn reads_input(&self, i: usize) -> bool {
        i == 1
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.look_up(pass.input(1));
        let (table, count, inner) = (pass.input(0), self.rows.len(), self.inner);
        parts(chunks_mut(y, inner), 4096 / inner, |r, y| match self.rows[r % count] {
            Some(row) => y.copy_from_slice(&table[(r / count * self.extent + row) * inner..][..inner]),
            None => y.fill(f32::NAN),
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        if let Some(mut numbers) = pass.take_gradient(1) {
            numbers.fill(0.0);
            pass.put_gradient(1, numbers);
        }
        pass.input_gradient(|_, dy, dx, _| {
            let part = self.extent * self.inner;
            let from = self.rows.len() * self.inner;
            // Rows are added in the order of their numbers' positions, whatever the number of threads.
            parts((chunks_mut(dx, part), chunks(dy, from)), 1, |_, (dx, dy)| {
                dx.fill(0.0);
                for (row, dy) in self.rows.iter().zip(dy.chunks(self.inner)) {
                    let Some(row) = row else { continue };
                    dx[row * self.inner..][..self.inner].iter_mut().zip(dy).for_each(|(x, y)| *x += y);
                }
            });
        });
    }

    fn fault(&self) -> Option<EngineError> {
        let reason = format!("looks up row {}, but there are {} rows", self.bad?, self.extent);
        Some(EngineError::Data { node: self.node.clone(), reason })
    }

    fn scratch_bytes(&self) -> usize {
        size_of::<Option<usize>>() * self.rows.len()
    }
}

/// Values that were computed when the network was planned.
struct ConstantLayer(Vec<f32>);

pub(super) fn constant(values: &[f32]) -> Box<dyn Layer> {
    Box::new(ConstantLayer(values.to_vec()))
}

impl Layer for ConstantLayer {
    fn forward(&mut self, _pass: &mut Forward<'_>, y: &mut [f32]) {
        y.copy_from_slice(&self.0);
    }

    fn backward(&mut self, _pass: &mut Backward<'_>) {}

    fn scratch_bytes(&self) -> usize {
        4 * self.0.len()
    }
}
