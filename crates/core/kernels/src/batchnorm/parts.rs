//! Statistics and sums of gradients of a part of a batch, for batches that several processes share.

use super::{BatchNormGeometry, Bounds, bounds, reduce_run, square_run, sum_run};
use crate::Isa;
use crate::conv::Post;
use crate::parallel::prelude::*;

/// Mean and biased variance of one channel.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Mean.
    pub mean: f64,
    /// Mean squared deviation from it.
    pub var: f64,
}

impl Moments {
    /// The moments of several parts together, each given with its number of elements, and all their elements. They are
    /// added in the order in which the parts come (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for
    /// computing sample variances", 1979): no large squares cancel, as they would in a mean of x^2.
    pub fn together(parts: impl Iterator<Item = (f64, Self)> + Clone) -> (f64, Self) {
        let count = parts.clone().map(|(n, _)| n).sum::<f64>().max(1.0);
        let mean = parts.clone().map(|(n, m)| n * m.mean).sum::<f64>() / count;
        let squares = parts.map(|(n, m)| n * (m.var + (m.mean - mean).powi(2))).sum::<f64>();
        (count, Self { mean, var: squares / count })
    }
}

/// The statistics of a batch of which a part is at hand.
#[derive(Clone, Copy, Debug)]
pub struct Whole<'a> {
    /// Of each channel.
    pub moments: &'a [Moments],
    /// Elements of each channel.
    pub count: f64,
}

/// Sums of g and of g (x - mean) over the elements of a channel, g being the gradient behind the fused activation.
///
/// A part's g is the gradient of its own mean loss. The loss of the whole batch is the mean of those of the parts, weighted
/// by their elements: a part's sums enter with the weight n / N, and dividing the total by N and then by n / N again, which
/// gives the gradient in units of this part's loss, is dividing it by n.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GradientSums {
    /// Sum of g.
    pub sum: f64,
    /// Sum of g (x - mean).
    pub dot: f64,
}

/// Mean and variance of each channel of `x`.
pub fn moments(isa: Isa, g: &BatchNormGeometry, x: &[f32], out: &mut [Moments]) {
    assert!(x.len() == g.len() && out.len() == g.c);
    let channels = out.par_chunks_mut(1).with_max_len(1).enumerate();
    channels.for_each(|(c, out)| out[0] = moments_of(isa, g, c, x));
}

pub(super) fn moments_of(isa: Isa, g: &BatchNormGeometry, c: usize, x: &[f32]) -> Moments {
    let count = g.count();
    // The first element as a shift keeps the sum small where the mean is far from zero.
    let shift = x.get(c * g.inner).copied().filter(|v| v.is_finite()).unwrap_or(0.0);
    let sum: f64 = g.planes(c).map(|at| sum_run(isa, &x[at], shift)).sum();
    let mean = shift as f64 + sum / count;
    let off = mean as f32 as f64 - mean;
    let squares: f64 = g.planes(c).map(|at| square_run(isa, &x[at], mean as f32)).sum();
    Moments { mean, var: (squares / count - off * off).max(0.0) }
}

/// The sums of the backward pass over each channel; `y`, `post` and `dy` as in [`backward`](super::backward).
#[allow(clippy::too_many_arguments)]
pub fn gradient_sums(
    isa: Isa,
    g: &BatchNormGeometry,
    x: &[f32],
    y: Option<&[f32]>,
    post: Post,
    dy: &[f32],
    mean: &[f32],
    out: &mut [GradientSums],
) {
    assert!(x.len() == g.len() && dy.len() == g.len());
    assert!([mean.len(), out.len()] == [g.c; 2]);
    let (y, t) = (gating(g, y, post), bounds(post));
    let channels = out.par_chunks_mut(1).with_max_len(1).enumerate();
    channels.for_each(|(c, out)| out[0] = sums_of(isa, g, c, (x, mean[c]), (dy, y, t)));
}

pub(super) fn sums_of(
    isa: Isa,
    g: &BatchNormGeometry,
    c: usize,
    (x, mean): (&[f32], f32),
    (dy, y, t): (&[f32], Option<&[f32]>, Bounds),
) -> GradientSums {
    let mut sums = GradientSums::default();
    for at in g.planes(c) {
        let y = y.map(|y| &y[at.clone()]);
        let (sum, dot) = reduce_run(isa, &x[at.clone()], mean, &dy[at], y, t);
        sums.sum += sum;
        sums.dot += dot;
    }
    sums
}

/// The output, where the gradient has to know what the activation clamped.
pub(super) fn gating<'a>(g: &BatchNormGeometry, y: Option<&'a [f32]>, post: Post) -> Option<&'a [f32]> {
    if post == Post::None {
        return None;
    }
    let y = y.expect("the gradient of an activation needs the output");
    assert_eq!(y.len(), g.len());
    Some(y)
}
