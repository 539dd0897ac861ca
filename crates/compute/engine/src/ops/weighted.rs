//! Weighted sums along an axis: resampling.

use slq_kernels::weighted::{Terms, apply};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

struct WeightedLayer {
    terms: Terms,
    /// The table of the gradient; none in evaluation.
    back: Option<Terms>,
    /// Elements after the axis.
    inner: usize,
    /// Added to each element along the axis, if anything is.
    added: Vec<f32>,
}

pub(super) fn weighted(
    site: Site<'_>,
    axis: usize,
    rows: &[Vec<(usize, f32)>],
    added: &[f32],
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    let terms = Terms::new(rows, shape[axis]);
    let back = site.differentiates().then(|| terms.transposed());
    let inner = shape[axis + 1..].iter().product();
    Ok(Box::new(WeightedLayer { terms, back, inner, added: added.to_vec() }))
}

impl Layer for WeightedLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        apply(&self.terms, self.inner, pass.input(0), y, slq_kernels::Store::Overwrite);
        if !self.added.is_empty() {
            for (row, added) in y.chunks_mut(self.inner).zip(self.added.iter().cycle()) {
                row.iter_mut().for_each(|y| *y += added);
            }
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let Some(back) = &self.back else { return };
        pass.input_gradient(|_, dy, dx, store| apply(back, self.inner, dy, dx, store));
    }

    fn scratch_bytes(&self) -> usize {
        self.terms.bytes() + self.back.as_ref().map_or(0, Terms::bytes) + 4 * self.added.len()
    }
}
