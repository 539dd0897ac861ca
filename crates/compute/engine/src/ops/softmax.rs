//! Softmax and log-softmax inside a network (the one at its end is part of the loss).

use slq_kernels::softmax::{self, Axis};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

struct SoftmaxLayer {
    axis: Axis,
    log: bool,
}

pub(super) fn softmax(
    site: Site<'_>,
    axis: usize,
    flatten: bool,
    log: bool,
) -> Result<Box<dyn Layer>, EngineError> {
    let shape = site.shape(0)?;
    let outer = shape[..axis].iter().product();
    let rest: usize = shape[axis..].iter().product();
    let extent = if flatten { rest } else { shape.get(axis).copied().unwrap_or(1) };
    let axis = Axis { outer, axis: extent, inner: rest / extent.max(1) };
    Ok(Box::new(SoftmaxLayer { axis, log }))
}

impl Layer for SoftmaxLayer {
    fn reads_output(&self) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let run = if self.log { softmax::log_forward } else { softmax::forward };
        run(pass.isa, self.axis, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let run = if self.log { softmax::log_backward } else { softmax::backward };
        pass.input_gradient(|pass, dy, dx, store| run(pass.isa, self.axis, pass.output(), dy, dx, store));
    }
}
