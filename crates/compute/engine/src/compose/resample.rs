//! Resampling: along each axis in turn, every element of the output is a weighted sum of elements of the input.
//!
//! Coordinates and weights follow the definition of `Resize` in the ONNX standard; coordinates are 32-bit floats, as in
//! onnxruntime.

use slq_graph::op::{Coordinates, Interpolation, Op, Resize, Rounding};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

/// Most neighbours of one element: a filter against aliasing is as wide as the step between elements.
const WIDEST: f32 = 4096.0;

pub(super) fn resize(emit: &mut Emit, op: &Resize, x: &Operand) -> Result<Operand, EngineError> {
    let mut axes: Vec<usize> = (0..op.shape.len()).collect();
    // What becomes smaller first, so that the steps after it have less to do.
    axes.sort_by(|&a, &b| op.scales[a].total_cmp(&op.scales[b]));
    let mut y = x.clone();
    for axis in axes {
        let line = Line { op, axis, from: x.shape[axis], to: op.shape[axis] };
        if op.antialias && 1.0 / op.scales[axis] > WIDEST {
            return Err(emit.unsupported(format!("a scale of {} is too small for a filter", op.scales[axis])));
        }
        // A row of the table has a header, and four terms or as many as the filter is wide.
        let width = if op.antialias { (4.0 / op.scales[axis]) as usize } else { 0 };
        emit.room(line.to.saturating_mul(width.max(4) + 4).saturating_mul(2))?;
        let (terms, added) = line.terms();
        let same = terms.len() == line.from && terms.iter().enumerate().all(|(i, t)| *t == [(i, 1.0)]);
        if !same || !added.is_empty() {
            let mut shape = y.shape.clone();
            shape[axis] = line.to;
            y = emit.one(Op::Weighted { axis, terms, added }, &y, &shape);
        }
    }
    Ok(y)
}

/// One axis.
struct Line<'a> {
    op: &'a Resize,
    axis: usize,
    from: usize,
    to: usize,
}

impl Line<'_> {
    /// What each element of the output is the sum of, and what is added to it.
    fn terms(&self) -> (Vec<Vec<(usize, f32)>>, Vec<f32>) {
        let (mut all, mut added) = (Vec::with_capacity(self.to), Vec::new());
        for i in 0..self.to {
            let at = self.coordinate(i);
            let mut terms = match self.op.interpolation {
                Interpolation::Nearest(rounding) => vec![(self.nearest(at, rounding), 1.0)],
                Interpolation::Linear => self.filtered(at, 1.0, |x| 1.0 - x.abs()),
                Interpolation::Cubic { a } => self.filtered(at, 2.0, |x| cubic(f64::from(a), x.abs())),
            };
            if let Coordinates::Crop { outside, .. } = &self.op.coordinates
                && !(0.0..=(self.from - 1) as f32).contains(&at)
            {
                added.resize(self.to, 0.0);
                added[i] = *outside;
                terms = Vec::new();
            }
            all.push(terms);
        }
        (all, added)
    }

    /// Where element `i` of the output lies in the input.
    fn coordinate(&self, i: usize) -> f32 {
        let (x, scale) = (i as f32, self.op.scales[self.axis]);
        let (from, to) = (self.from as f32, self.to as f32);
        let half = (x + 0.5) / scale - 0.5;
        // An axis that keeps its extent is copied.
        if scale == 1.0 && self.from == self.to && !matches!(self.op.coordinates, Coordinates::Crop { .. }) {
            return x;
        }
        match &self.op.coordinates {
            Coordinates::HalfPixel => half,
            Coordinates::PytorchHalfPixel if self.to == 1 => 0.0,
            Coordinates::PytorchHalfPixel => half,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = to / (scale * from);
                from / 2.0 * (1.0 - adjustment) + half
            }
            Coordinates::AlignCorners if self.to == 1 => 0.0,
            Coordinates::AlignCorners => x * (from - 1.0) / (to - 1.0),
            Coordinates::Asymmetric => x / scale,
            Coordinates::TfHalfPixel => (x + 0.5) / scale,
            Coordinates::Crop { roi, .. } => {
                let [start, end] = roi[self.axis];
                if self.to > 1 {
                    start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0)
                } else {
                    0.5 * (start + end) * (from - 1.0)
                }
            }
        }
    }

    fn nearest(&self, at: f32, rounding: Rounding) -> usize {
        let whole = match rounding {
            Rounding::PreferFloor => (at - 0.5).ceil(),
            Rounding::PreferCeil => (at + 0.5).floor(),
            Rounding::Floor => at.floor(),
            Rounding::Ceil => at.ceil(),
        };
        (whole.max(0.0) as usize).min(self.from - 1)
    }

    /// Weights of the neighbours within `reach` by `filter`, which is 0 beyond; they add up to 1.
    fn filtered(&self, at: f32, reach: f64, filter: impl Fn(f64) -> f64) -> Vec<(usize, f32)> {
        let at = f64::from(at);
        // A wider filter takes the place of one that would skip elements.
        let narrow = if self.op.antialias { f64::from(self.op.scales[self.axis]).min(1.0) } else { 1.0 };
        let (first, last) = ((at - reach / narrow).ceil() as i64, (at + reach / narrow).floor() as i64);
        let mut terms: Vec<(usize, f64)> = Vec::new();
        for i in first..=last {
            let distance = (i as f64 - at) * narrow;
            let weight = if distance.abs() < reach { filter(distance) } else { 0.0 };
            let inside = i.clamp(0, self.from as i64 - 1);
            if weight == 0.0 || (self.op.exclude_outside && inside != i) {
                continue;
            }
            match terms.iter_mut().find(|(at, _)| *at == inside as usize) {
                Some((_, sum)) => *sum += weight,
                None => terms.push((inside as usize, weight)),
            }
        }
        let sum: f64 = terms.iter().map(|t| t.1).sum();
        if terms.is_empty() || sum == 0.0 {
            return vec![(self.nearest(at as f32, Rounding::PreferFloor), 1.0)];
        }
        terms.into_iter().map(|(i, w)| (i, (w / sum) as f32)).collect()
    }
}

/// Keys' cubic at a distance below 2.
fn cubic(a: f64, x: f64) -> f64 {
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    }
}
