//! Batch normalisation over the channels of `[n, c, inner]`, fused with a residual addition and an activation.

mod parts;

use crate::conv::Post;
use crate::isa::{madd, multiversion};
use crate::par;
use crate::{Isa, Store};
pub use parts::{BatchNormGeometry, GradientSums, Moments, Whole, gradient_sums, moments};
use parts::{Bounds, bounds, gate, gating, moments_of, sums_of};

/// Running statistics and how a training pass updates them.
#[derive(Debug)]
pub struct Running<'a> {
    /// Running mean, one for each channel.
    pub mean: &'a mut [f32],
    /// Running variance, one for each channel.
    pub var: &'a mut [f32],
    /// Share of the new value: `running += share (batch - running)`. PyTorch's `momentum`; one minus ONNX's.
    pub share: f32,
    /// Whether the batch variance is multiplied by m/(m-1) first (PyTorch does; ONNX from opset 14 does not).
    pub unbiased: bool,
}

#[inline(always)]
fn clamp(v: f32, t: Bounds) -> f32 {
    let v = if v < t.lo { t.lo } else { v };
    if v > t.hi { t.hi } else { v }
}

#[inline(always)]
fn apply_body<const FMA: bool>(
    scale: f32,
    shift: f32,
    t: Bounds,
    x: &[f32],
    add: Option<&[f32]>,
    y: &mut [f32],
) {
    match add {
        None => {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = clamp(madd::<FMA>(scale, x, shift), t);
            }
        }
        Some(add) => {
            for ((y, &x), &a) in y.iter_mut().zip(x).zip(add) {
                *y = clamp(madd::<FMA>(scale, x, shift) + a, t);
            }
        }
    }
}

/// `dx = scale g + slope x + shift`.
#[inline(always)]
fn dx_body<const FMA: bool>(
    coefficients: [f32; 3],
    x: &[f32],
    dy: &[f32],
    y: Option<&[f32]>,
    t: Bounds,
    dx: &mut [f32],
    store: Store,
) {
    let [scale, slope, shift] = coefficients;
    let value = |g: f32, x: f32| madd::<FMA>(scale, g, madd::<FMA>(slope, x, shift));
    match (y, store.accumulates()) {
        (Some(y), false) => {
            for (((dx, &x), &dy), &y) in dx.iter_mut().zip(x).zip(dy).zip(y) {
                *dx = value(gate(dy, y, t), x);
            }
        }
        (None, false) => {
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx = value(dy, x);
            }
        }
        (Some(y), true) => {
            for (((dx, &x), &dy), &y) in dx.iter_mut().zip(x).zip(dy).zip(y) {
                *dx += value(gate(dy, y, t), x);
            }
        }
        (None, true) => {
            for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
                *dx += value(dy, x);
            }
        }
    }
}

#[inline(always)]
fn gate_body<const FMA: bool>(dy: &[f32], y: Option<&[f32]>, t: Bounds, out: &mut [f32], store: Store) {
    for (i, out) in out.iter_mut().enumerate() {
        let g = match y {
            Some(y) => gate(dy[i], y[i], t),
            None => dy[i],
        };
        store.put(out, g);
    }
}

multiversion! {
    fn apply_run(scale: f32, shift: f32, t: Bounds, x: &[f32], add: Option<&[f32]>, y: &mut [f32]) = apply_body;
    fn dx_run(k: [f32; 3], x: &[f32], dy: &[f32], y: Option<&[f32]>, t: Bounds, dx: &mut [f32], store: Store) = dx_body;
    fn gate_run(dy: &[f32], y: Option<&[f32]>, t: Bounds, out: &mut [f32], store: Store) = gate_body;
}

/// Normalises by the statistics of the batch: `y = post(gamma (x - mean) / sqrt(var + eps) + beta + add)`.
///
/// `mean` and `inv_std` (one for each channel) are written for the backward pass; the variance is the biased one, taken
/// in two passes (Ioffe and Szegedy 2015, algorithm 1). `running` is updated when given. `add`, of the shape of `x`, is a
/// residual branch. Where `x` is a part of a batch, `whole` has the statistics of all of it.
#[allow(clippy::too_many_arguments)]
pub fn train_forward(
    isa: Isa,
    g: &BatchNormGeometry,
    x: &[f32],
    whole: Option<Whole<'_>>,
    gamma: &[f32],
    beta: &[f32],
    eps: f32,
    add: Option<&[f32]>,
    post: Post,
    y: &mut [f32],
    mean: &mut [f32],
    inv_std: &mut [f32],
    running: Option<Running<'_>>,
) {
    assert!(x.len() == g.len() && y.len() == g.len() && add.is_none_or(|a| a.len() == g.len()));
    assert!([gamma.len(), beta.len(), mean.len(), inv_std.len()] == [g.c; 4]);
    assert!(whole.is_none_or(|w| w.moments.len() == g.c));
    let t = bounds(post);
    let count = whole.map_or(g.count(), |w| w.count);
    let out = par::Shared::new(y);
    let means = par::Shared::new(mean);
    let invs = par::Shared::new(inv_std);
    par::each(g.c, |c| {
        let Moments { mean: m64, var } = whole.map_or_else(|| moments_of(isa, g, c, x), |w| w.moments[c]);
        let inv = 1.0 / (var + eps as f64).sqrt();
        // SAFETY: each item owns element `c`.
        unsafe {
            means.slice(c, 1)[0] = m64 as f32;
            invs.slice(c, 1)[0] = inv as f32;
        }
        let scale = (gamma[c] as f64 * inv) as f32;
        let bias = (beta[c] as f64 - gamma[c] as f64 * inv * m64) as f32;
        for at in g.planes(c) {
            // SAFETY: planes of different channels do not overlap.
            let y = unsafe { out.slice(at.start, g.inner) };
            apply_run(isa, scale, bias, t, &x[at.clone()], add.map(|a| &a[at]), y);
        }
    });
    if let Some(r) = running {
        assert!(r.mean.len() == g.c && r.var.len() == g.c);
        let correction = if r.unbiased { count / (count - 1.0).max(1.0) } else { 1.0 };
        for c in 0..g.c {
            let inv = inv_std[c] as f64;
            let var = ((1.0 / (inv * inv) - eps as f64).max(0.0) * correction) as f32;
            r.mean[c] += r.share * (mean[c] - r.mean[c]);
            r.var[c] += r.share * (var - r.var[c]);
        }
    }
}

/// Normalises by given statistics: `y = post(gamma (x - mean) inv_std + beta + add)`.
#[allow(clippy::too_many_arguments)]
pub fn frozen_forward(
    isa: Isa,
    g: &BatchNormGeometry,
    x: &[f32],
    gamma: &[f32],
    beta: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    add: Option<&[f32]>,
    post: Post,
    y: &mut [f32],
) {
    assert!(x.len() == g.len() && y.len() == g.len() && add.is_none_or(|a| a.len() == g.len()));
    assert!([gamma.len(), beta.len(), mean.len(), inv_std.len()] == [g.c; 4]);
    let t = bounds(post);
    par::planes(y, g.inner, |i, y| {
        let c = i % g.c;
        let at = i * g.inner..(i + 1) * g.inner;
        let scale = gamma[c] as f64 * inv_std[c] as f64;
        let shift = (beta[c] as f64 - scale * mean[c] as f64) as f32;
        apply_run(isa, scale as f32, shift, t, &x[at.clone()], add.map(|a| &a[at]), y);
    });
}

/// `1 / sqrt(var + eps)`, element by element: what [`frozen_forward`] takes.
pub fn inverse_std(var: &[f32], eps: f32, out: &mut [f32]) {
    assert_eq!(var.len(), out.len());
    for (out, &v) in out.iter_mut().zip(var) {
        *out = (1.0 / (v as f64 + eps as f64).sqrt()) as f32;
    }
}

/// Which statistics the forward pass used.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistics<'a> {
    /// Those of the batch; they have a gradient.
    Batch,
    /// Those of a batch of which this is a part.
    Part {
        /// What [`gradient_sums`] found in this part.
        own: &'a [GradientSums],
        /// The sums over all parts, each divided by the elements of a channel in the whole batch, in units of this part's
        /// loss: see [`GradientSums`].
        mean: &'a [GradientSums],
    },
    /// The running ones, which are constants.
    Frozen,
}

/// Where gradients of [`backward`] go; what is `None` is not computed.
#[derive(Debug, Default)]
pub struct BatchNormGradients<'a> {
    /// Gradient of the input and how it is stored.
    pub dx: Option<(&'a mut [f32], Store)>,
    /// Gradient of the fused residual branch and how it is stored.
    pub dadd: Option<(&'a mut [f32], Store)>,
    /// Gradient of gamma and how it is stored.
    pub dgamma: Option<(&'a mut [f32], Store)>,
    /// Gradient of beta and how it is stored.
    pub dbeta: Option<(&'a mut [f32], Store)>,
}

fn put(out: &Option<(par::Shared, Store)>, c: usize, value: f32) {
    if let Some((out, store)) = out {
        // SAFETY: each item owns element `c`.
        let out = unsafe { &mut out.slice(c, 1)[0] };
        store.put(out, value);
    }
}

/// Gradients of [`train_forward`] or [`frozen_forward`].
///
/// `y` is the output of the forward pass; it is read only when `post` is not [`Post::None`], to know where the activation
/// clamped it and the gradient is 0.
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    g: &BatchNormGeometry,
    statistics: Statistics<'_>,
    x: &[f32],
    y: Option<&[f32]>,
    post: Post,
    dy: &[f32],
    gamma: &[f32],
    mean: &[f32],
    inv_std: &[f32],
    out: BatchNormGradients<'_>,
) {
    assert!(x.len() == g.len() && dy.len() == g.len());
    assert!([gamma.len(), mean.len(), inv_std.len()] == [g.c; 3]);
    if let Statistics::Part { own, mean } = statistics {
        assert!([own.len(), mean.len()] == [g.c; 2]);
    }
    let y = gating(g, y, post);
    let t = bounds(post);
    let count = g.count();
    let share = |o: Option<(&mut [f32], Store)>, len: usize| {
        o.map(|(o, store)| {
            assert_eq!(o.len(), len);
            (par::Shared::new(o), store)
        })
    };
    let dx = share(out.dx, g.len());
    let dadd = share(out.dadd, g.len());
    let dgamma = share(out.dgamma, g.c);
    let dbeta = share(out.dbeta, g.c);
    par::each(g.c, |c| {
        let (m, inv) = (mean[c], inv_std[c] as f64);
        let reads = dgamma.is_some() || dbeta.is_some() || (dx.is_some() && statistics == Statistics::Batch);
        let GradientSums { sum, dot } = match statistics {
            Statistics::Part { own, .. } => own[c],
            _ if reads => sums_of(isa, g, c, (x, m), (dy, y, t)),
            _ => GradientSums::default(),
        };
        put(&dgamma, c, (dot * inv) as f32);
        put(&dbeta, c, sum as f32);
        let scale = gamma[c] as f64 * inv;
        let by_batch = |sum: f64, dot: f64, count: f64| {
            let slope = -scale * inv * inv * dot / count;
            [scale as f32, slope as f32, (-scale * sum / count - slope * m as f64) as f32]
        };
        let coefficients = match statistics {
            Statistics::Frozen => [scale as f32, 0.0, 0.0],
            Statistics::Batch => by_batch(sum, dot, count),
            Statistics::Part { mean, .. } => by_batch(mean[c].sum, mean[c].dot, 1.0),
        };
        for at in g.planes(c) {
            let y = y.map(|y| &y[at.clone()]);
            if let Some((dx, store)) = dx {
                // SAFETY: planes of different channels do not overlap.
                let dx = unsafe { dx.slice(at.start, g.inner) };
                dx_run(isa, coefficients, &x[at.clone()], &dy[at.clone()], y, t, dx, store);
            }
            if let Some((dadd, store)) = dadd {
                // SAFETY: as above.
                let dadd = unsafe { dadd.slice(at.start, g.inner) };
                gate_run(isa, &dy[at], y, t, dadd, store);
            }
        }
    });
}

#[cfg(test)]
#[path = "batchnorm_tests.rs"]
mod tests;
