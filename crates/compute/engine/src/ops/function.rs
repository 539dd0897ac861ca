//! Functions of one element that are computed in double precision, one loop for all of them.

use slq_graph::op::UnaryOp;
use slq_kernels::parallel::{chunks, chunks_mut, parts};

use super::layer::Layer;
use super::pass::{Backward, Forward};

/// Elements of a work item.
const CHUNK: usize = 2048;

/// A function with its derivative.
struct ScalarLayer(UnaryOp);

/// The layer of `op`, if it is one of these functions.
pub(super) fn function(op: UnaryOp) -> Option<Box<dyn Layer>> {
    value(op, 0.0).map(|_| Box::new(ScalarLayer(op)) as Box<dyn Layer>)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn value(op: UnaryOp, x: f64) -> Option<f64> {
    Some(match op {
        UnaryOp::Softplus => softplus(x),
        UnaryOp::Selu { alpha, gamma } => {
            f64::from(gamma) * if x > 0.0 { x } else { f64::from(alpha) * x.exp_m1() }
        }
        UnaryOp::Softsign => x / (1.0 + x.abs()),
        UnaryOp::Sign if x == 0.0 || x.is_nan() => x,
        UnaryOp::Sign => x.signum(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Truncate => x.trunc(),
        UnaryOp::NotZero => f64::from(u8::from(x != 0.0)),
        UnaryOp::Not => f64::from(u8::from(x == 0.0)),
        UnaryOp::IsNan => f64::from(u8::from(x.is_nan())),
        UnaryOp::IsInf { negative, positive } => {
            f64::from(u8::from(x.is_infinite() && if x < 0.0 { negative } else { positive }))
        }
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Tan => x.tan(),
        UnaryOp::Asin => x.asin(),
        UnaryOp::Acos => x.acos(),
        UnaryOp::Atan => x.atan(),
        UnaryOp::Sinh => x.sinh(),
        UnaryOp::Cosh => x.cosh(),
        UnaryOp::Asinh => x.asinh(),
        UnaryOp::Acosh => x.acosh(),
        UnaryOp::Atanh => x.atanh(),
        UnaryOp::Celu { alpha } => {
            let alpha = f64::from(alpha);
            if x > 0.0 { x } else { alpha * (x / alpha).exp_m1() }
        }
        UnaryOp::ThresholdedRelu { alpha } if x > f64::from(alpha) => x,
        UnaryOp::ThresholdedRelu { .. } => 0.0 * x,
        UnaryOp::Shrink { lambda, bias } => {
            let (lambda, bias) = (f64::from(lambda), f64::from(bias));
            if x < -lambda {
                x + bias
            } else if x > lambda {
                x - bias
            } else {
                0.0 * x
            }
        }
        _ => return None,
    })
}

/// The derivative; 0 for functions that are constant between jumps.
fn slope(op: UnaryOp, x: f64) -> f64 {
    match op {
        UnaryOp::Softplus => sigmoid(x),
        UnaryOp::Selu { alpha, gamma } => {
            f64::from(gamma) * if x > 0.0 { 1.0 } else { f64::from(alpha) * x.exp() }
        }
        UnaryOp::Softsign => (1.0 + x.abs()).powi(-2),
        UnaryOp::Sin => x.cos(),
        UnaryOp::Cos => -x.sin(),
        UnaryOp::Tan => x.cos().powi(-2),
        UnaryOp::Asin => (1.0 - x * x).sqrt().recip(),
        UnaryOp::Acos => -(1.0 - x * x).sqrt().recip(),
        UnaryOp::Atan => (1.0 + x * x).recip(),
        UnaryOp::Sinh => x.cosh(),
        UnaryOp::Cosh => x.sinh(),
        UnaryOp::Asinh => (x * x + 1.0).sqrt().recip(),
        UnaryOp::Acosh => (x * x - 1.0).sqrt().recip(),
        UnaryOp::Atanh => (1.0 - x * x).recip(),
        UnaryOp::Celu { alpha } => {
            if x > 0.0 {
                1.0
            } else {
                (x / f64::from(alpha)).exp()
            }
        }
        UnaryOp::ThresholdedRelu { alpha } => f64::from(u8::from(x > f64::from(alpha))),
        UnaryOp::Shrink { lambda, .. } => f64::from(u8::from(x.abs() > f64::from(lambda))),
        _ => 0.0,
    }
}

impl Layer for ScalarLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (op, x) = (self.0, pass.input(0));
        parts((chunks_mut(y, CHUNK), chunks(x, CHUNK)), 1, |_, (y, x)| {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = value(op, f64::from(x)).unwrap_or(f64::NAN) as f32);
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let op = self.0;
        pass.input_gradient(|pass, dy, dx, _| {
            let all = (chunks_mut(dx, CHUNK), chunks(dy, CHUNK), chunks(pass.input(0), CHUNK));
            parts(all, 1, |_, (dx, dy, x)| {
                for ((dx, &dy), &x) in dx.iter_mut().zip(dy).zip(x) {
                    *dx = (f64::from(dy) * slope(op, f64::from(x))) as f32;
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_are_those_of_central_differences() {
        let smooth = [
            UnaryOp::Softplus,
            UnaryOp::Selu { alpha: 1.67, gamma: 1.05 },
            UnaryOp::Softsign,
            UnaryOp::Sin,
            UnaryOp::Cos,
            UnaryOp::Atan,
            UnaryOp::Asinh,
            UnaryOp::Sinh,
            UnaryOp::Cosh,
            UnaryOp::Celu { alpha: 0.7 },
            UnaryOp::ThresholdedRelu { alpha: 0.3 },
            UnaryOp::Shrink { lambda: 0.3, bias: 0.2 },
            UnaryOp::Floor,
            UnaryOp::NotZero,
        ];
        for op in smooth {
            for i in 0..40 {
                let (x, h) = (f64::from(i) * 0.317 - 6.13, 1e-5);
                let [up, down] = [x + h, x - h].map(|x| value(op, x).unwrap());
                let want = (up - down) / (2.0 * h);
                assert!((slope(op, x) - want).abs() < 1e-8, "{op:?} at {x}: {} for {want}", slope(op, x));
            }
        }
    }
}
