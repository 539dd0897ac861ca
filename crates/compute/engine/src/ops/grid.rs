//! Sampling at the points of a grid, as the ONNX standard and PyTorch's `grid_sample` define it; forward only.

use slq_graph::op::{Grid, GridPadding, Interpolation};
use slq_kernels::parallel::{chunks_mut, parts};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

struct GridLayer {
    grid: Grid,
    /// Channels, height, width.
    data: [usize; 3],
    /// Points of a plane of the output.
    points: usize,
}

pub(super) fn grid_sample(site: Site<'_>, grid: Grid) -> Result<Box<dyn Layer>, EngineError> {
    if site.differentiates() {
        return Err(site.unsupported("sampling by a grid has no gradient here".into()));
    }
    let [_, c, h, w] = site.image_shape()?;
    let points = site.step.shape[2..].iter().product();
    Ok(Box::new(GridLayer { grid, data: [c, h, w], points }))
}

/// `at` reflected into `low..=high`.
fn reflect(at: f64, low: f64, high: f64) -> f64 {
    let span = high - low;
    if span <= 0.0 {
        return low;
    }
    let turn = (at - low).rem_euclid(2.0 * span);
    low + if turn > span { 2.0 * span - turn } else { turn }
}

impl GridLayer {
    /// Where coordinate `x` of the grid lies along an axis of `extent` elements.
    fn coordinate(&self, x: f32, extent: usize) -> f64 {
        let (x, extent) = (f64::from(x), extent as f64);
        if self.grid.align_corners {
            (x + 1.0) / 2.0 * (extent - 1.0)
        } else {
            ((x + 1.0) * extent - 1.0) / 2.0
        }
    }

    /// A coordinate moved inside, where the padding asks for it.
    fn inside(&self, at: f64, extent: usize) -> f64 {
        let last = extent as f64 - 1.0;
        match self.grid.padding {
            GridPadding::Zeros => at,
            GridPadding::Border => at.clamp(0.0, last),
            GridPadding::Reflection if self.grid.align_corners => reflect(at, 0.0, last),
            GridPadding::Reflection => reflect(at, -0.5, last + 0.5).clamp(0.0, last),
        }
    }

    /// Element and weight of each neighbour along an axis; elements outside are left out.
    fn neighbours(&self, x: f32, extent: usize) -> Vec<(usize, f64)> {
        let at = self.coordinate(x, extent);
        if !at.is_finite() {
            return Vec::new();
        }
        let (whole, pairs): (f64, Vec<(f64, f64)>) = match self.grid.interpolation {
            Interpolation::Nearest(_) => (0.0, vec![(self.inside(at, extent).round_ties_even(), 1.0)]),
            Interpolation::Linear => {
                let at = self.inside(at, extent);
                let t = at - at.floor();
                (at.floor(), vec![(0.0, 1.0 - t), (1.0, t)])
            }
            // The elements are moved inside one by one, not the point.
            Interpolation::Cubic { a } => {
                let a = f64::from(a);
                let t = at - at.floor();
                let near = |x: f64| ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
                let far = |x: f64| ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a;
                let weights = [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)];
                (at.floor(), weights.iter().enumerate().map(|(i, &w)| (i as f64 - 1.0, w)).collect())
            }
        };
        let cubic = matches!(self.grid.interpolation, Interpolation::Cubic { .. });
        let element = |(offset, weight): (f64, f64)| {
            let at = whole + offset;
            let at = if cubic { self.inside(at, extent).round() } else { at };
            (at >= 0.0 && at < extent as f64).then_some((at as usize, weight))
        };
        pairs.into_iter().filter_map(element).collect()
    }
}

impl Layer for GridLayer {
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (x, grid) = (pass.input(0), pass.input(1));
        let ([c, h, w], points) = (self.data, self.points);
        let image = c * points;
        parts(chunks_mut(y, image), 1, |n, y| {
            for p in 0..points {
                let at = 2 * (n * points + p);
                let (columns, rows) = (self.neighbours(grid[at], w), self.neighbours(grid[at + 1], h));
                for channel in 0..c {
                    let plane = &x[(n * c + channel) * h * w..][..h * w];
                    let row = |&(i, wi): &(usize, f64)| {
                        let sum: f64 = columns.iter().map(|&(j, wj)| wj * f64::from(plane[i * w + j])).sum();
                        wi * sum
                    };
                    y[channel * points + p] = rows.iter().map(row).sum::<f64>() as f32;
                }
            }
        });
    }

    fn backward(&mut self, _pass: &mut Backward<'_>) {}
}
