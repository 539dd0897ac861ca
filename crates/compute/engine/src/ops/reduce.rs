//! Sums and means over axes.

use slq_graph::op::Reduction as Statistic;
use slq_kernels::reduce::{self, Reduction};

use super::{Backward, Forward, Layer, Site};
use crate::error::EngineError;

struct ReduceLayer {
    reduction: Reduction,
    mean: bool,
}

pub(super) fn reduce(
    site: Site<'_>,
    statistic: Statistic,
    axes: &[usize],
) -> Result<Box<dyn Layer>, EngineError> {
    let reduction = Reduction::new(site.shape(0)?, axes);
    Ok(Box::new(ReduceLayer { reduction, mean: statistic == Statistic::Mean }))
}

impl Layer for ReduceLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        reduce::forward(pass.isa, &self.reduction, self.mean, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        if let Some(mut dx) = pass.take_gradient(0) {
            let accumulate = dx.accumulate;
            reduce::backward(pass.isa, &self.reduction, self.mean, &dy, &mut dx, accumulate);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}
