//! Functions of one element, and PReLU.

use slq_graph::op::UnaryOp;
use slq_kernels::Store;
use slq_kernels::activation::{self, Activation, Saved};
use slq_kernels::elementwise::{self, Unary};

use super::elementwise::{General, general};
use super::function;
use super::layer::Layer;
use super::pass::{Backward, Forward};
use super::site::Site;
use crate::error::EngineError;

pub(super) fn unary(site: Site<'_>, op: UnaryOp) -> Result<Box<dyn Layer>, EngineError> {
    let activation = |a: Activation| Ok(Box::new(ActivationLayer(a)) as Box<dyn Layer>);
    let smooth = |f: Unary| Ok(Box::new(FunctionLayer(f)) as Box<dyn Layer>);
    match op {
        UnaryOp::Relu => activation(Activation::Relu),
        UnaryOp::LeakyRelu { alpha } => activation(Activation::LeakyRelu { slope: alpha }),
        UnaryOp::Elu { alpha } => activation(Activation::Elu { alpha }),
        UnaryOp::Sigmoid => activation(Activation::Sigmoid),
        UnaryOp::Tanh => activation(Activation::Tanh),
        UnaryOp::HardSigmoid { alpha, beta } => activation(Activation::HardSigmoid { alpha, beta }),
        UnaryOp::HardSwish => activation(Activation::HardSwish),
        UnaryOp::Gelu => activation(Activation::Gelu),
        UnaryOp::GeluTanh => activation(Activation::GeluTanh),
        UnaryOp::Swish { alpha } => activation(Activation::Swish { alpha }),
        UnaryOp::Mish => activation(Activation::Mish),
        UnaryOp::Erf => activation(Activation::Erf),
        UnaryOp::Exp => smooth(Unary::Exp),
        UnaryOp::Log => smooth(Unary::Log),
        UnaryOp::Sqrt => smooth(Unary::Sqrt),
        UnaryOp::Abs => smooth(Unary::Abs),
        UnaryOp::Neg => smooth(Unary::Neg),
        UnaryOp::Reciprocal => smooth(Unary::Reciprocal),
        other => function::function(other)
            .ok_or_else(|| site.unsupported(format!("the engine has no kernel for {other:?}"))),
    }
}

pub(super) fn clip(min: f32, max: f32) -> Result<Box<dyn Layer>, EngineError> {
    Ok(Box::new(ActivationLayer(Activation::Clip { lo: min, hi: max })))
}

/// An activation of the kernels.
struct ActivationLayer(Activation);

impl Layer for ActivationLayer {
    fn reads_input(&self, _i: usize) -> bool {
        self.0.saved() == Saved::Input
    }

    fn reads_output(&self) -> bool {
        self.0.saved() == Saved::Output
    }

    fn in_place(&self) -> Option<usize> {
        Some(0)
    }

    fn gradient_in_place(&self) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        if pass.in_place {
            activation::forward_in_place(pass.isa, self.0, y);
        } else {
            activation::forward(pass.isa, self.0, pass.input(0), y);
        }
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let mut dy = pass.take_output_gradient();
        let gradient = if pass.in_place { None } else { pass.take_gradient(0) };
        let saved = if self.0.saved() == Saved::Input { pass.input(0) } else { pass.output() };
        if pass.in_place {
            activation::backward_in_place(pass.isa, self.0, saved, &mut dy);
        } else if let Some(mut dx) = gradient {
            let store = dx.store;
            activation::backward(pass.isa, self.0, saved, &dy, &mut dx, store);
            pass.put_gradient(0, dx);
        }
        pass.put_output_gradient(dy);
    }
}

/// A function whose derivative is computed from its input.
struct FunctionLayer(Unary);

impl Layer for FunctionLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn accumulates(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        elementwise::unary_forward(pass.isa, self.0, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        pass.input_gradient(|pass, dy, dx, store| {
            elementwise::unary_backward(pass.isa, self.0, pass.input(0), dy, dx, store);
        });
    }
}

/// PReLU with one slope, or one for each channel.
struct PReluLayer {
    inner: usize,
}

pub(super) fn prelu(site: Site<'_>) -> Result<Box<dyn Layer>, EngineError> {
    let (data, slope) = (site.operand(0)?, site.operand(1)?);
    let channels = data.shape.get(1).copied().unwrap_or(1);
    // The axes of the slope stand for the last axes of the data.
    let lead = data.shape.len().saturating_sub(slope.shape.len());
    let per_channel =
        slope.shape.iter().enumerate().all(|(i, &d)| d == 1 || (lead + i == 1 && d == channels));
    if !(slope.len() == 1 || (per_channel && slope.len() == channels)) {
        return general(&site, General::Slope);
    }
    let inner = if slope.len() == 1 { data.len() } else { data.shape.iter().skip(2).product() };
    Ok(Box::new(PReluLayer { inner }))
}

impl Layer for PReluLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        activation::prelu_forward(pass.isa, pass.input(1), self.inner, pass.input(0), y);
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let dy = pass.take_output_gradient();
        let (mut dx, mut dslope) = (pass.take_gradient(0), pass.take_gradient(1));
        let (dx_values, dslope_values) = (dx.as_deref_mut(), dslope.as_deref_mut());
        let (x, slope) = (pass.input(0), pass.input(1));
        let store = Store::Overwrite;
        activation::prelu_backward(pass.isa, slope, self.inner, x, &dy, dx_values, dslope_values, store);
        for (i, gradient) in [dx, dslope].into_iter().enumerate() {
            if let Some(gradient) = gradient {
                pass.put_gradient(i, gradient);
            }
        }
        pass.put_output_gradient(dy);
    }
}
