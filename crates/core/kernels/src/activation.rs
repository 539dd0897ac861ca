//! Pointwise non-linearities and their gradients.

use crate::isa::{madd, multiversion};
use crate::{Isa, Store};
use crate::{math, par};

/// A pointwise function without trainable parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `x` above zero, `slope * x` below.
    LeakyRelu {
        /// Factor below zero.
        slope: f32,
    },
    /// `min(max(x, lo), hi)`; ReLU6 is `lo = 0, hi = 6`.
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `min(max(alpha x + beta, 0), 1)` (ONNX `HardSigmoid`).
    HardSigmoid {
        /// Slope of the middle part.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// `x min(max(x / 6 + 1/2, 0), 1)` (ONNX `HardSwish`).
    HardSwish,
    /// `x` above zero, `alpha (e^x - 1)` below.
    Elu {
        /// Limit at minus infinity, negated.
        alpha: f32,
    },
    /// `x Phi(x)` with the normal distribution function Phi (ONNX `Gelu`).
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2` (ONNX `Gelu` with `approximate = "tanh"`).
    GeluTanh,
    /// `x / (1 + e^(-alpha x))`; SiLU is `alpha = 1` (ONNX `Swish`).
    Swish {
        /// Factor in the exponent.
        alpha: f32,
    },
    /// `x tanh(ln(1 + e^x))` (ONNX `Mish`).
    Mish,
    /// The error function (ONNX `Erf`).
    Erf,
}

/// What the gradient of an [`Activation`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// The input of the forward pass.
    Input,
    /// The output of the forward pass.
    Output,
}

impl Activation {
    /// Whether [`backward`] wants the input or the output of the forward pass as `saved`.
    pub fn saved(self) -> Saved {
        match self {
            Activation::LeakyRelu { .. } | Activation::HardSwish => Saved::Input,
            Activation::Gelu | Activation::GeluTanh | Activation::Swish { .. } => Saved::Input,
            Activation::Mish | Activation::Erf => Saved::Input,
            Activation::Elu { alpha } if alpha < 0.0 => Saved::Input,
            _ => Saved::Output,
        }
    }

    #[inline(always)]
    fn value<const FMA: bool>(self, x: f32) -> f32 {
        match self {
            // `x < 0` and not `max`: NaN must come out as NaN.
            Activation::Relu => {
                if x < 0.0 {
                    0.0
                } else {
                    x
                }
            }
            Activation::LeakyRelu { slope } => {
                if x < 0.0 {
                    slope * x
                } else {
                    x
                }
            }
            Activation::Clip { lo, hi } => {
                let y = if x < lo { lo } else { x };
                if y > hi { hi } else { y }
            }
            Activation::Sigmoid => math::sigmoid::<FMA>(x),
            Activation::Tanh => math::tanh::<FMA>(x),
            Activation::HardSigmoid { alpha, beta } => {
                let y = madd::<FMA>(alpha, x, beta);
                let y = if y < 0.0 { 0.0 } else { y };
                if y > 1.0 { 1.0 } else { y }
            }
            Activation::HardSwish => {
                let y = madd::<FMA>(1.0 / 6.0, x, 0.5);
                let y = if y < 0.0 { 0.0 } else { y };
                x * if y > 1.0 { 1.0 } else { y }
            }
            Activation::Elu { alpha } => {
                if x < 0.0 {
                    alpha * (math::exp::<FMA>(x) - 1.0)
                } else {
                    x
                }
            }
            Activation::Gelu => x * math::normal::<FMA>(x).0,
            Activation::GeluTanh => x * gelu_sigmoid::<FMA>(x).0,
            Activation::Swish { alpha } => x * math::sigmoid::<FMA>(alpha * x),
            Activation::Mish => x * math::tanh_softplus::<FMA>(x).0,
            Activation::Erf => math::erf::<FMA>(x),
        }
    }

    #[inline(always)]
    fn slope<const FMA: bool>(self, s: f32) -> f32 {
        let step = |on: bool, value: f32| if on { value } else { 0.0 };
        match self {
            Activation::Relu => step(s > 0.0, 1.0),
            Activation::LeakyRelu { slope } => {
                if s > 0.0 {
                    1.0
                } else {
                    slope
                }
            }
            Activation::Clip { lo, hi } => step((s > lo) & (s < hi), 1.0),
            Activation::Sigmoid => s * (1.0 - s),
            Activation::Tanh => 1.0 - s * s,
            Activation::HardSigmoid { alpha, .. } => step((s > 0.0) & (s < 1.0), alpha),
            Activation::HardSwish => {
                let middle = madd::<FMA>(1.0 / 3.0, s, 0.5);
                if s < -3.0 {
                    0.0
                } else if s > 3.0 {
                    1.0
                } else {
                    middle
                }
            }
            Activation::Elu { alpha } => {
                let below = if alpha < 0.0 { alpha * math::exp::<FMA>(s) } else { s + alpha };
                if s > 0.0 { 1.0 } else { below }
            }
            Activation::Gelu => {
                let (below, density) = math::normal::<FMA>(s);
                madd::<FMA>(s, density, below)
            }
            Activation::GeluTanh => {
                let (share, rise) = gelu_sigmoid::<FMA>(s);
                madd::<FMA>(s * rise, share * (1.0 - share), share)
            }
            Activation::Swish { alpha } => {
                let share = math::sigmoid::<FMA>(alpha * s);
                madd::<FMA>(alpha * s, share * (1.0 - share), share)
            }
            Activation::Mish => {
                let (factor, rise) = math::tanh_softplus::<FMA>(s);
                madd::<FMA>(s, rise, factor)
            }
            Activation::Erf => std::f32::consts::FRAC_2_SQRT_PI * math::exp::<FMA>(-s * s),
        }
    }
}

/// `(1 + tanh(u)) / 2 = 1 / (1 + e^(-2u))` with the `u` of [`Activation::GeluTanh`], and the derivative of `2u`.
#[inline(always)]
fn gelu_sigmoid<const FMA: bool>(x: f32) -> (f32, f32) {
    const TWICE: f32 = 1.595_769;
    const CUBIC: f32 = 0.044_715;
    let x2 = x * x;
    let argument = TWICE * x * madd::<FMA>(CUBIC, x2, 1.0);
    (math::sigmoid::<FMA>(argument), TWICE * madd::<FMA>(3.0 * CUBIC, x2, 1.0))
}

// One loop for each function: the match is outside, so that each loop vectorises.
macro_rules! for_each_kind {
    ($act:expr, $a:ident => $body:expr) => {
        for_each_kind!($act, $a => $body; Relu, LeakyRelu { slope }, Clip { lo, hi }, Sigmoid, Tanh,
            HardSigmoid { alpha, beta }, HardSwish, Elu { alpha }, Gelu, GeluTanh, Swish { alpha }, Mish, Erf)
    };
    ($act:expr, $a:ident => $body:expr; $($kind:ident $({ $($field:ident),+ })?),+) => {
        match $act {
            $(Activation::$kind $({ $($field),+ })? => {
                let $a = Activation::$kind $({ $($field),+ })?;
                $body
            })+
        }
    };
}

#[inline(always)]
fn forward_body<const FMA: bool>(act: Activation, x: &[f32], y: &mut [f32]) {
    for_each_kind!(act, a => for (y, &x) in y.iter_mut().zip(x) { *y = a.value::<FMA>(x) })
}

#[inline(always)]
fn forward_in_place_body<const FMA: bool>(act: Activation, y: &mut [f32]) {
    for_each_kind!(act, a => for y in y.iter_mut() { *y = a.value::<FMA>(*y) })
}

#[inline(always)]
fn backward_body<const FMA: bool>(act: Activation, s: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    if store.accumulates() {
        for_each_kind!(act, a => for ((dx, &s), &dy) in dx.iter_mut().zip(s).zip(dy) {
            *dx = madd::<FMA>(a.slope::<FMA>(s), dy, *dx)
        })
    } else {
        for_each_kind!(act, a => for ((dx, &s), &dy) in dx.iter_mut().zip(s).zip(dy) {
            *dx = a.slope::<FMA>(s) * dy
        })
    }
}

#[inline(always)]
fn backward_in_place_body<const FMA: bool>(act: Activation, s: &[f32], d: &mut [f32]) {
    for_each_kind!(act, a => for (d, &s) in d.iter_mut().zip(s) { *d *= a.slope::<FMA>(s) })
}

#[inline(always)]
fn prelu_body<const FMA: bool>(slope: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = if x < 0.0 { slope * x } else { x };
    }
}

#[inline(always)]
fn prelu_back_body<const FMA: bool>(slope: f32, x: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
        let d = if x > 0.0 { dy } else { slope * dy };
        store.put(dx, d);
    }
}

multiversion! {
    fn forward_run(act: Activation, x: &[f32], y: &mut [f32]) = forward_body;
    fn forward_in_place_run(act: Activation, y: &mut [f32]) = forward_in_place_body;
    fn backward_run(act: Activation, s: &[f32], dy: &[f32], dx: &mut [f32], store: Store) = backward_body;
    fn backward_in_place_run(act: Activation, s: &[f32], d: &mut [f32]) = backward_in_place_body;
    fn prelu_run(slope: f32, x: &[f32], y: &mut [f32]) = prelu_body;
    fn prelu_back_run(slope: f32, x: &[f32], dy: &[f32], dx: &mut [f32], store: Store) = prelu_back_body;
}

/// `y = act(x)`, element by element; NaN stays NaN.
pub fn forward(isa: Isa, act: Activation, x: &[f32], y: &mut [f32]) {
    par::map1(x, y, |x, y| forward_run(isa, act, x, y));
}

/// `y = act(y)`.
pub fn forward_in_place(isa: Isa, act: Activation, y: &mut [f32]) {
    par::planes(y, par::CHUNK, |_, y| forward_in_place_run(isa, act, y));
}

/// `dx = act'(x) dy`, stored as `store` says; `saved` is what [`Activation::saved`] names.
///
/// At a kink the derivative from the side of the constant part is taken (that of zero for ReLU), as PyTorch does.
pub fn backward(isa: Isa, act: Activation, saved: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
    par::map2(saved, dy, dx, |s, dy, dx| backward_run(isa, act, s, dy, dx, store));
}

/// `d = act'(x) d`; `saved` is what [`Activation::saved`] names.
pub fn backward_in_place(isa: Isa, act: Activation, saved: &[f32], d: &mut [f32]) {
    par::map1(saved, d, |s, d| backward_in_place_run(isa, act, s, d));
}

fn slope_of(slope: &[f32], plane: usize) -> f32 {
    slope[plane % slope.len()]
}

/// Parametric ReLU over `[n, slope.len(), inner]` (one slope for each channel), or over everything when there is one.
pub fn prelu_forward(isa: Isa, slope: &[f32], inner: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    par::planes(y, inner, |i, y| prelu_run(isa, slope_of(slope, i), &x[i * inner..][..y.len()], y));
}

/// Gradients of [`prelu_forward`] with respect to the input (when `dx` is given) and the slopes (when `dslope` is);
/// both are stored as `store` says.
#[allow(clippy::too_many_arguments)]
pub fn prelu_backward(
    isa: Isa,
    slope: &[f32],
    inner: usize,
    x: &[f32],
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dslope: Option<&mut [f32]>,
    store: Store,
) {
    assert_eq!(x.len(), dy.len());
    if let Some(dx) = dx {
        par::planes(dx, inner, |i, dx| {
            let at = i * inner..i * inner + dx.len();
            prelu_back_run(isa, slope_of(slope, i), &x[at.clone()], &dy[at], dx, store)
        });
    }
    if let Some(dslope) = dslope {
        let channels = dslope.len();
        let planes = x.len().checked_div(inner).unwrap_or(0);
        par::planes(dslope, 1, |c, out| {
            let mut sum = 0.0f64;
            for plane in (c..planes).step_by(channels) {
                let at = plane * inner..(plane + 1) * inner;
                for (&x, &dy) in x[at.clone()].iter().zip(&dy[at]) {
                    sum += if x > 0.0 { 0.0 } else { x as f64 * dy as f64 };
                }
            }
            store.put(&mut out[0], sum as f32);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    const ALL: [Activation; 15] = [
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.1 },
        Activation::Clip { lo: -0.5, hi: 0.75 },
        Activation::Sigmoid,
        Activation::Tanh,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
        Activation::Elu { alpha: 1.3 },
        Activation::Elu { alpha: -0.5 },
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Swish { alpha: 1.0 },
        Activation::Swish { alpha: -1.7 },
        Activation::Mish,
        Activation::Erf,
    ];

    fn reference(act: Activation, x: f64) -> f64 {
        match act {
            Activation::Relu => x.max(0.0),
            Activation::LeakyRelu { slope } => {
                if x < 0.0 {
                    slope as f64 * x
                } else {
                    x
                }
            }
            Activation::Clip { lo, hi } => x.clamp(lo as f64, hi as f64),
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::HardSigmoid { alpha, beta } => (alpha as f64 * x + beta as f64).clamp(0.0, 1.0),
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::Elu { alpha } => {
                if x < 0.0 {
                    alpha as f64 * x.exp_m1()
                } else {
                    x
                }
            }
            Activation::Gelu => 0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2)),
            Activation::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
            }
            Activation::Swish { alpha } => x / (1.0 + (-alpha as f64 * x).exp()),
            Activation::Mish => x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh(),
            Activation::Erf => erf(x),
        }
    }

    /// The power series of erf, which is exact enough where the tests look.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum, mut k) = (x, x, 1.0);
        while f64::abs(term) > f64::abs(sum) * 1e-17 {
            term *= 2.0 * x * x / (2.0 * k + 1.0);
            sum += term;
            k += 1.0;
        }
        std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
    }

    #[test]
    fn values_and_slopes() {
        let x: Vec<f32> = values(20_001, 3).iter().map(|v| v * 5.0 + 0.013).collect();
        let dy = values(x.len(), 4);
        for act in ALL {
            let want: Vec<f64> = x.iter().map(|&v| reference(act, v as f64)).collect();
            let slope: Vec<f64> = x
                .iter()
                .zip(&dy)
                .map(|(&v, &d)| {
                    let (v, h) = (v as f64, 1e-6);
                    d as f64 * (reference(act, v + h) - reference(act, v - h)) / (2.0 * h)
                })
                .collect();
            for (isa, y) in on_all(|isa| {
                let mut y = vec![0.0; x.len()];
                forward(isa, act, &x, &mut y);
                y
            }) {
                assert_close(&y, &want, 1e-6, &format!("{act:?} {isa}"));
                let mut same = x.clone();
                forward_in_place(isa, act, &mut same);
                assert_eq!(same, y);
                let saved = if act.saved() == Saved::Input { &x } else { &y };
                let mut dx = vec![1.0; x.len()];
                backward(isa, act, saved, &dy, &mut dx, Store::Overwrite);
                assert_close(&dx, &slope, 3e-6, &format!("{act:?} slope {isa}"));
                let mut in_place = dy.clone();
                backward_in_place(isa, act, saved, &mut in_place);
                assert_eq!(in_place, dx);
                backward(isa, act, saved, &dy, &mut dx, Store::Accumulate);
                let twice: Vec<f64> = slope.iter().map(|v| 2.0 * v).collect();
                assert_close(&dx, &twice, 6e-6, &format!("{act:?} accumulated {isa}"));
            }
        }
    }

    #[test]
    fn nan_stays_nan() {
        for isa in Isa::supported() {
            for act in ALL {
                let mut y = [0.0];
                forward(isa, act, &[f32::NAN], &mut y);
                assert!(y[0].is_nan(), "{act:?}");
            }
        }
    }

    #[test]
    fn prelu_gradients() {
        let (n, c, inner) = (2, 3, 7);
        let x = values(n * c * inner, 5);
        let dy = values(x.len(), 6);
        let slope = [0.25, -0.5, 1.5];
        let f = |x: &[f64], s: &[f64]| -> f64 {
            (0..x.len())
                .map(|i| dy[i] as f64 * if x[i] < 0.0 { s[i / inner % s.len()] * x[i] } else { x[i] })
                .sum()
        };
        for (slopes, name) in [(&slope[..], "channels"), (&slope[..1], "shared")] {
            let s64 = wide(slopes);
            let want_dx = differences(&x, |x| f(x, &s64));
            let x64 = wide(&x);
            let want_ds = differences(slopes, |s| f(&x64, s));
            for (_, got) in on_all(|isa| {
                let mut y = vec![0.0; x.len()];
                prelu_forward(isa, slopes, inner, &x, &mut y);
                let total: f64 = y.iter().zip(&dy).map(|(&a, &b)| a as f64 * b as f64).sum();
                assert!((total - f(&x64, &s64)).abs() < 1e-5);
                let (mut dx, mut ds) = (vec![0.0; x.len()], vec![0.0; slopes.len()]);
                prelu_backward(isa, slopes, inner, &x, &dy, Some(&mut dx), Some(&mut ds), Store::Overwrite);
                dx.extend(ds);
                dx
            }) {
                assert_close(&got[..x.len()], &want_dx, 1e-5, name);
                assert_close(&got[x.len()..], &want_ds, 1e-5, name);
            }
        }
    }
}
