//! Softmax and log-softmax inside a network (the one at its end is part of the loss).

use slq_kernels::softmax::{self, Axis};

use super::{Backward, Forward, Layer, Site};
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
        let dy = pass.take_output_gradient();
        if let Some(mut dx) = pass.take_gradient(0) {
            let run = if self.log { softmax::log_backward } else { softmax::backward };
            let accumulate = dx.accumulate;
            run(pass.isa, self.axis, pass.output(), &dy, &mut dx, accumulate);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}
