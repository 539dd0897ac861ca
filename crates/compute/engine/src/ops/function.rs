//! Functions of one element that are computed in double precision, one loop for all of them.

use slq_graph::op::UnaryOp;
use slq_kernels::parallel::prelude::*;

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

/// The distribution function of the normal distribution.
fn normal(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// The argument of the hyperbolic tangent in the approximate GELU, and its slope.
fn gelu_inner(x: f64) -> (f64, f64) {
    let root = (2.0 / std::f64::consts::PI).sqrt();
    (root * (x + 0.044_715 * x.powi(3)), root * (1.0 + 3.0 * 0.044_715 * x * x))
}

fn value(op: UnaryOp, x: f64) -> Option<f64> {
    Some(match op {
        UnaryOp::Erf => erf(x),
        UnaryOp::Gelu => x * normal(x),
        UnaryOp::GeluTanh => 0.5 * x * (1.0 + gelu_inner(x).0.tanh()),
        UnaryOp::Softplus => softplus(x),
        UnaryOp::Mish => x * softplus(x).tanh(),
        UnaryOp::Swish { alpha } => x * sigmoid(f64::from(alpha) * x),
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
    let bell = |x: f64| (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    match op {
        UnaryOp::Erf => std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp(),
        UnaryOp::Gelu => normal(x) + x * bell(x),
        UnaryOp::GeluTanh => {
            let (inner, rise) = gelu_inner(x);
            let t = inner.tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * rise
        }
        UnaryOp::Softplus => sigmoid(x),
        UnaryOp::Mish => {
            let t = softplus(x).tanh();
            t + x * (1.0 - t * t) * sigmoid(x)
        }
        UnaryOp::Swish { alpha } => {
            let alpha = f64::from(alpha);
            let s = sigmoid(alpha * x);
            s + alpha * x * s * (1.0 - s)
        }
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

/// erf(x) in double precision: the power series near zero, a continued fraction of erfc further out.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() || a >= 6.0 {
        return if x.is_nan() { x } else { x.signum() };
    }
    let value = if a < 2.5 {
        // erf(a) = 2/sqrt(pi) exp(-a^2) sum of a (2 a^2)^k / (1 3 5 ... (2k+1)): all terms are positive.
        let (mut term, mut sum, mut k) = (a, a, 1.0);
        while term > sum * 1e-17 {
            term *= 2.0 * a * a / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() * sum
    } else {
        let tail = (1..=60).rev().fold(a, |d, k| a + 0.5 * f64::from(k) / d);
        1.0 - 0.5 * std::f64::consts::FRAC_2_SQRT_PI * (-a * a).exp() / tail
    };
    value.copysign(x)
}

impl Layer for ScalarLayer {
    fn reads_input(&self, _i: usize) -> bool {
        true
    }

    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]) {
        let (op, x) = (self.0, pass.input(0));
        y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| {
            y.iter_mut().zip(x).for_each(|(y, &x)| *y = value(op, f64::from(x)).unwrap_or(f64::NAN) as f32);
        });
    }

    fn backward(&mut self, pass: &mut Backward<'_>) {
        let op = self.0;
        pass.input_gradient(|pass, dy, dx, _| {
            let inputs = dy.par_chunks(CHUNK).zip(pass.input(0).par_chunks(CHUNK));
            dx.par_chunks_mut(CHUNK).zip(inputs).for_each(|(dx, (dy, x))| {
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
    fn erf_at_known_points() {
        // Abramowitz and Stegun, table 7.1, and the symmetry erf(-x) = -erf(x).
        let table = [
            (0.0, 0.0),
            (0.1, 0.112_462_916_018_284_9),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
        ];
        for (x, want) in table {
            assert!((erf(x) - want).abs() < 1e-14 && (erf(-x) + want).abs() < 1e-14, "{x}: {}", erf(x));
        }
        assert!((erf(2.5) - erf(2.499_999_999)).abs() < 1e-10, "the two forms meet");
        assert!(erf(f64::NAN).is_nan() && erf(f64::INFINITY) == 1.0);
    }

    #[test]
    fn slopes_are_those_of_central_differences() {
        let smooth = [
            UnaryOp::Erf,
            UnaryOp::Gelu,
            UnaryOp::GeluTanh,
            UnaryOp::Softplus,
            UnaryOp::Mish,
            UnaryOp::Swish { alpha: 1.3 },
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
