//! Local response normalisation.

use slq_kernels::lrn::{self, Lrn};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

/// Local response normalisation across channels.
struct LrnLayer {
    settings: Lrn,
    n: usize,
    c: usize,
    plane: usize,
    /// Denominators before the power, for the backward pass.
    scale: Option<Vec<f32>>,
}

pub(super) fn lrn(
    site: Site<'_>,
    size: usize,
    alpha: f32,
    beta: f32,
    bias: f32,
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    if shape.len() < 2 {
        return Err(site.unsupported(format!("data of shape {shape:?} has no channels")));
    }
    let (n, c, plane) = (shape[0], shape[1], shape[2..].iter().product());
    let scale = site.differentiates().then(|| vec![0.0; n * c * plane]);
    Ok(Box::new(LrnLayer { settings: Lrn { alpha, beta, bias, size }, n, c, plane, scale }))
}

impl Layer for LrnLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let scale = self.scale.as_deref_mut();
        lrn::forward(pass.isa, self.settings, self.n, self.c, self.plane, pass.input(0), y, scale);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let (Some(mut dx), Some(scale)) = (pass.take_gradient(0), &self.scale) {
            let (x, store) = (pass.input(0), dx.store);
            lrn::backward(pass.isa, self.settings, self.n, self.c, self.plane, x, scale, &dy, &mut dx, store);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }

    fn scratch_bytes(&self) -> usize {
        self.scale.as_ref().map_or(0, |s| 4 * s.len())
    }
}
