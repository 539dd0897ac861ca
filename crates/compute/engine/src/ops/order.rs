//! Positions of extremes, the largest elements in order, running sums: along one axis.

use slq_kernels::parallel::{chunks_mut, parts};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// An axis of a tensor.
struct Axis {
    extent: usize,
    /// Elements after it.
    inner: usize,
}

impl Axis {
    fn new(shape: &[usize], axis: usize) -> Self {
        Self { extent: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// Where line `line` along the axis starts; its elements are `inner` apart.
    fn start(&self, line: usize) -> usize {
        line / self.inner * self.extent * self.inner + line % self.inner
    }
}

/// Writes no gradient but zeros: the output is constant between jumps.
fn flat(pass: &mut Backward<'_>) {
    pass.input_gradient(|_, _, dx, _| dx.fill(0.0));
}

/// Position of the largest or smallest element.
struct ArgLayer {
    axis: Axis,
    largest: bool,
    last: bool,
}

pub(super) fn arg_extreme(
    site: Site<'_>,
    axis: usize,
    largest: bool,
    last: bool,
) -> Result<Box<dyn Layer>, EngineError> {
    let axis = Axis::new(site.shape(0)?, axis);
    if axis.extent > 1 << 24 {
        return Err(site.unsupported(format!("positions along {} elements are too large", axis.extent)));
    }
    Ok(Box::new(ArgLayer { axis, largest, last }))
}

impl Layer for ArgLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        parts(chunks_mut(y, 1), 4096 / self.axis.extent, |line, y| {
            let start = self.axis.start(line);
            let at = |k: usize| x[start + k * self.axis.inner];
            let mut best = 0;
            for k in 1..self.axis.extent {
                let better = if self.largest { at(k) > at(best) } else { at(k) < at(best) };
                // Not a number comes before all others, as in PyTorch.
                let better = better || (at(k).is_nan() && !at(best).is_nan());
                if better || (self.last && at(k) == at(best)) {
                    best = k;
                }
            }
            y[0] = best as f32;
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        flat(pass);
    }
}

/// The largest or smallest elements in order, or their positions.
struct TopLayer {
    axis: Axis,
    count: usize,
    largest: bool,
    positions: bool,
    /// Position of each element of the output, for the backward pass.
    chosen: Vec<u32>,
}

pub(super) fn top_k(
    site: Site<'_>,
    axis: usize,
    count: usize,
    [largest, positions]: [bool; 2],
) -> Result<Box<dyn Layer>, EngineError> {
    let axis = Axis::new(site.shape(0)?, axis);
    if axis.extent > 1 << 24 {
        return Err(site.unsupported(format!("positions along {} elements are too large", axis.extent)));
    }
    let chosen = if site.differentiates() { vec![0; site.step.shape.iter().product()] } else { Vec::new() };
    Ok(Box::new(TopLayer { axis, count, largest, positions, chosen }))
}

impl Layer for TopLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        let mut order: Vec<u32> = Vec::with_capacity(self.axis.extent);
        for line in 0..y.len() / self.count {
            let start = self.axis.start(line);
            let at = |k: u32| x[start + k as usize * self.axis.inner];
            order.clear();
            order.extend(0..self.axis.extent as u32);
            // Of equal elements the first comes first. Not a number counts as the largest.
            order.sort_by(|&a, &b| {
                let ascending = at(a).partial_cmp(&at(b)).unwrap_or(at(a).is_nan().cmp(&at(b).is_nan()));
                if self.largest { ascending.reverse() } else { ascending }
            });
            let first = line / self.axis.inner * self.count * self.axis.inner + line % self.axis.inner;
            for (j, &k) in order.iter().take(self.count).enumerate() {
                let to = first + j * self.axis.inner;
                y[to] = if self.positions { k as f32 } else { at(k) };
                if let Some(chosen) = self.chosen.get_mut(to) {
                    *chosen = k;
                }
            }
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        if self.positions {
            return flat(pass);
        }
        pass.input_gradient(|_, dy, dx, _| {
            dx.fill(0.0);
            for (to, &d) in dy.iter().enumerate() {
                let (row, inner) = (to / self.axis.inner / self.count, to % self.axis.inner);
                let k = self.chosen[to] as usize;
                dx[(row * self.axis.extent + k) * self.axis.inner + inner] += d;
            }
        });
    }

    fn scratch_bytes(&self) -> usize {
        4 * self.chosen.len()
    }
}

/// Sums of all elements up to each.
struct CumSumLayer {
    axis: Axis,
    exclusive: bool,
    reverse: bool,
}

pub(super) fn cum_sum(
    site: Site<'_>,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Result<Box<dyn Layer>, EngineError> {
    Ok(Box::new(CumSumLayer { axis: Axis::new(site.shape(0)?, axis), exclusive, reverse }))
}

impl CumSumLayer {
    /// Running sums of `x`, from the end for `reverse`.
    fn run(&self, x: &[f32], y: &mut [f32], reverse: bool) {
        let Axis { extent, inner } = self.axis;
        let mut sums = vec![0.0f64; inner];
        for (x, y) in x.chunks(extent * inner).zip(y.chunks_mut(extent * inner)) {
            sums.fill(0.0);
            for k in 0..extent {
                let row = if reverse { extent - 1 - k } else { k } * inner;
                for (j, sum) in sums.iter_mut().enumerate() {
                    let before = *sum;
                    *sum += f64::from(x[row + j]);
                    y[row + j] = if self.exclusive { before } else { *sum } as f32;
                }
            }
        }
    }
}

impl Layer for CumSumLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        self.run(pass.input(0), y, self.reverse);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        // Each element is part of the sums after it.
        pass.input_gradient(|_, dy, dx, _| self.run(dy, dx, !self.reverse));
    }

    fn scratch_bytes(&self) -> usize {
        8 * self.axis.inner
    }
}
