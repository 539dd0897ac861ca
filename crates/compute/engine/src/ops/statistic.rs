//! Statistics over axes other than sums and means.

use slq_graph::op::Reduction;
use slq_kernels::parallel::{chunks_mut, parts};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// Axes of a tensor as (extent, distance of neighbours), the last first.
type Axes = Vec<(usize, usize)>;

/// Offset of element `i` of the axes.
fn offset(axes: &Axes, mut i: usize) -> usize {
    let mut at = 0;
    for &(extent, step) in axes {
        at += i % extent * step;
        i /= extent;
    }
    at
}

struct StatisticLayer {
    kind: Reduction,
    kept: Axes,
    reduced: Axes,
    /// For each axis of the input, the last first: its extent, and its distance in the output (0 where it is reduced).
    back: Axes,
    /// Elements of each statistic.
    count: usize,
    /// For each output what its gradient needs beside it: how many elements are the extreme one, or for a product how many
    /// are 0 and the product of the others.
    aside: Vec<(u32, f64)>,
}

pub(super) fn statistic(
    site: Site<'_>,
    kind: Reduction,
    axes: &[usize],
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    let (mut kept, mut reduced, mut back) = (Vec::new(), Vec::new(), Vec::new());
    let (mut step, mut out) = (1, 1);
    for axis in (0..shape.len()).rev() {
        let extent = shape[axis];
        if axes.contains(&axis) {
            reduced.push((extent, step));
            back.push((extent, 0));
        } else {
            kept.push((extent, step));
            back.push((extent, out));
            out *= extent;
        }
        step *= extent;
    }
    let count = reduced.iter().map(|d| d.0).product();
    let aside = if site.differentiates() { vec![(0, 0.0); out] } else { Vec::new() };
    Ok(Box::new(StatisticLayer { kind, kept, reduced, back, count, aside }))
}

impl StatisticLayer {
    /// The elements of statistic `o`.
    fn elements<'x>(&self, x: &'x [f32], o: usize) -> impl Iterator<Item = f32> + Clone + use<'_, 'x> {
        let at = offset(&self.kept, o);
        (0..self.count).map(move |k| x[at + offset(&self.reduced, k)])
    }

    fn value(&self, elements: impl Iterator<Item = f32> + Clone) -> f32 {
        let wide = || elements.clone().map(f64::from);
        let nan = |a: f32, b: f32, f: fn(f32, f32) -> f32| {
            if a.is_nan() || b.is_nan() { f32::NAN } else { f(a, b) }
        };
        match self.kind {
            Reduction::Max => elements.fold(f32::NEG_INFINITY, |a, b| nan(a, b, f32::max)),
            Reduction::Min => elements.fold(f32::INFINITY, |a, b| nan(a, b, f32::min)),
            Reduction::Prod => wide().product::<f64>() as f32,
            Reduction::L1 => wide().map(f64::abs).sum::<f64>() as f32,
            Reduction::L2 => wide().map(|v| v * v).sum::<f64>().sqrt() as f32,
            Reduction::SumSquare => wide().map(|v| v * v).sum::<f64>() as f32,
            Reduction::LogSum => wide().sum::<f64>().ln() as f32,
            Reduction::LogSumExp => {
                let top = wide().fold(f64::NEG_INFINITY, f64::max);
                let top = if top.is_finite() { top } else { 0.0 };
                (wide().map(|v| (v - top).exp()).sum::<f64>().ln() + top) as f32
            }
            _ => wide().sum::<f64>() as f32,
        }
    }

    /// Slope of statistic `y` with respect to its element `x`; `aside` is what was noted for it.
    fn slope(&self, x: f32, y: f32, aside: (u32, f64)) -> f64 {
        let (wide, total) = (f64::from(x), f64::from(y));
        match self.kind {
            // Equal extremes share the gradient, as in PyTorch.
            Reduction::Max | Reduction::Min if x == y => 1.0 / f64::from(aside.0.max(1)),
            Reduction::Max | Reduction::Min => 0.0,
            Reduction::Prod => match aside.0 {
                0 => aside.1 / wide,
                1 if x == 0.0 => aside.1,
                _ => 0.0,
            },
            Reduction::L1 if x == 0.0 => 0.0,
            Reduction::L1 => wide.signum(),
            Reduction::L2 if y == 0.0 => 0.0,
            Reduction::L2 => wide / total,
            Reduction::SumSquare => 2.0 * wide,
            Reduction::LogSum => (-total).exp(),
            Reduction::LogSumExp => (wide - total).exp(),
            _ => 1.0,
        }
    }
}

impl Layer for StatisticLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn reads_output(&self) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let x = pass.input(0);
        let work = (4096 / self.count.max(1)).max(1);
        parts(chunks_mut(y, 1), work, |o, y| y[0] = self.value(self.elements(x, o)));
        let mut aside = std::mem::take(&mut self.aside);
        parts(chunks_mut(&mut aside, 1), work, |o, aside| {
            let elements = self.elements(x, o);
            aside[0] = if self.kind == Reduction::Prod {
                let zeros = elements.clone().filter(|v| *v == 0.0).count() as u32;
                (zeros, elements.filter(|v| *v != 0.0).map(f64::from).product())
            } else {
                (elements.filter(|v| *v == y[o]).count() as u32, 0.0)
            };
        });
        self.aside = aside;
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, _| {
            let (x, y) = (pass.input(0), pass.output());
            parts(chunks_mut(dx, 1), 1024, |i, dx| {
                let o = offset(&self.back, i);
                dx[0] = (f64::from(dy[o]) * self.slope(x[i], y[o], self.aside[o])) as f32;
            });
        });
    }

    fn scratch_bytes(&self) -> usize {
        size_of_val(&self.aside[..])
    }
}
