//! Sums and means over axes.

use slq_graph::op::Reduction as Statistic;
use slq_kernels::reduce::{self, Kind, Reduction};

use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

struct ReduceLayer {
    reduction: Reduction,
    kind: Kind,
}

pub(super) fn reduce(
    site: Site<'_>,
    statistic: Statistic,
    axes: &[usize],
) -> Result<Box<dyn Layer>, EngineError> {
    let kind = match statistic {
        Statistic::Mean => Kind::Mean,
        Statistic::Sum => Kind::Sum,
        other => return super::statistic::statistic(site, other, axes),
    };
    let reduction = Reduction::new(site.shape(0)?, axes);
    Ok(Box::new(ReduceLayer { reduction, kind }))
}

impl Layer for ReduceLayer {
    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        reduce::forward(pass.isa, &self.reduction, self.kind, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, store| {
            reduce::backward(pass.isa, &self.reduction, self.kind, dy, dx, store);
        });
    }
}
