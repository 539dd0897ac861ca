//! Free scales of rows. Where a batch-norm follows, a factor on an output channel costs nothing: the norm's statistics take
//! it up. Rows of unlike size can then share one codebook: row r is a_r times codebook values.
//!
//! In the unit of the codebook the objective keeps its form, with targets t_r / a_r and row weights s_r a_r^2.

use rayon::prelude::*;
use slq_engine::Isa;

use super::chunk::Chunk;
use super::curvature::Curvature;
use super::layout::Layout;

/// Most that one step changes a scale by, and its inverse.
const MOST: f64 = 2.0;

/// Where scales start: the root mean square of each row's targets, weighted by H_jj; 1 for rows of zeros.
pub(crate) fn starting_scales(layout: &Layout, curvatures: &[Curvature], targets: &[f32]) -> Vec<f32> {
    let group_rows = layout.rows / curvatures.len();
    let groups = targets.chunks_exact(group_rows * layout.columns).zip(curvatures);
    let one = |(targets, curvature): (&[f32], &Curvature)| -> Vec<f32> {
        let diagonal = curvature.diagonal();
        let total: f64 = diagonal.iter().map(|&h| f64::from(h)).sum();
        let size = |row: &[f32]| {
            let square = row.iter().zip(&diagonal).map(|(&t, &h)| f64::from(h) * f64::from(t).powi(2));
            let scale = (square.sum::<f64>() / total).sqrt() as f32;
            if scale.is_normal() { scale } else { 1.0 }
        };
        targets.chunks_exact(layout.columns).map(size).collect()
    };
    groups.flat_map(one).collect()
}

/// Sets every row's scale to where its error is least for the codes as they are: a_r times (t H q) / (q H q). Returns by
/// how much the objective falls.
pub(crate) fn refit_scales(isa: Isa, curvatures: &[Curvature], chunks: &mut [Chunk]) -> f64 {
    let falls: Vec<f64> = chunks
        .par_iter_mut()
        .map(|chunk| {
            let curvature = &curvatures[chunk.group];
            chunk.refit_scales(isa, curvature)
        })
        .collect();
    falls.iter().sum()
}

impl Chunk {
    fn refit_scales(&mut self, isa: Isa, curvature: &Curvature) -> f64 {
        let width = self.width();
        let values: Vec<f32> = self.targets.iter().zip(&self.errors).map(|(t, e)| t - e).collect();
        let mut products = vec![0.0; self.errors.len()];
        let carry = curvature.carry(isa, &self.errors, width);
        curvature.products(isa, 0..curvature.columns(), (&self.errors, &carry), width, &mut products);
        let squares = curvature.energy(isa, &values, width);
        let mut fall = 0.0;
        for (r, &square) in squares.iter().enumerate() {
            let rows = values.iter().zip(&products).skip(r).step_by(width);
            let dot: f64 = rows.map(|(&q, &p)| f64::from(q) * f64::from(p)).sum();
            let factor = 1.0 + dot / square;
            if !(factor.is_finite() && factor > 0.0) {
                continue;
            }
            let factor = factor.clamp(1.0 / MOST, MOST) as f32;
            let step = f64::from(factor) - 1.0;
            let gain = 2.0 * step * dot - step * step * square;
            if gain > 0.0 {
                fall += f64::from(self.weights[r]) * gain;
                self.rescale(r, factor);
            }
        }
        fall
    }

    /// Multiplies the scale of row `r`.
    fn rescale(&mut self, r: usize, factor: f32) {
        let width = self.width();
        self.scales[r] *= factor;
        self.weights[r] *= factor * factor;
        for (t, e) in self.targets.iter_mut().zip(&mut self.errors).skip(r).step_by(width) {
            let value = *t - *e;
            *t /= factor;
            *e = *t - value;
        }
    }
}
