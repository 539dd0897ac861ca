//! Shape, statistics and sums of gradients of a batch or, where several processes share it, of a part of it.

use std::ops::Range;

use crate::Isa;
use crate::conv::Post;
use crate::isa::{madd, multiversion};
use crate::parallel::{chunks_mut, parts};

/// Shape of a batch normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchNormGeometry {
    /// Batch size.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Height times width.
    pub inner: usize,
}

impl BatchNormGeometry {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.n * self.c * self.inner
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of each channel.
    pub fn count(&self) -> f64 {
        (self.n * self.inner).max(1) as f64
    }

    /// Where channel `c` lies in each image.
    pub(super) fn planes(&self, c: usize) -> impl Iterator<Item = Range<usize>> {
        let Self { n, c: channels, inner } = *self;
        (0..n).map(move |n| (n * channels + c) * inner..(n * channels + c + 1) * inner)
    }
}

/// Bounds of the fused activation.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) lo: f32,
    pub(super) hi: f32,
}

pub(super) fn bounds(post: Post) -> Bounds {
    let (lo, hi) = post.bounds();
    Bounds { lo, hi }
}

/// Sum of `x - mean`, or of its square.
#[inline(always)]
fn lanes_sum<const FMA: bool, const SQUARE: bool>(x: &[f32], mean: f32) -> f64 {
    const LANES: usize = 64;
    let mut total = 0.0f64;
    // Short blocks of f32 lanes, added in f64: fast, and good to about 1e-7 relative.
    for block in x.chunks(64 * LANES) {
        let mut lanes = [0.0f32; LANES];
        let mut chunks = block.chunks_exact(LANES);
        for chunk in &mut chunks {
            for (lane, &v) in lanes.iter_mut().zip(chunk) {
                let d = v - mean;
                *lane = if SQUARE { madd::<FMA>(d, d, *lane) } else { *lane + d };
            }
        }
        total += lanes.iter().map(|&v| v as f64).sum::<f64>();
        for &v in chunks.remainder() {
            let d = (v - mean) as f64;
            total += if SQUARE { d * d } else { d };
        }
    }
    total
}

#[inline(always)]
fn sum_body<const FMA: bool>(x: &[f32], shift: f32) -> f64 {
    lanes_sum::<FMA, false>(x, shift)
}

#[inline(always)]
fn square_body<const FMA: bool>(x: &[f32], mean: f32) -> f64 {
    lanes_sum::<FMA, true>(x, mean)
}

#[inline(always)]
pub(super) fn gate(dy: f32, y: f32, t: Bounds) -> f32 {
    if (y > t.lo) & (y < t.hi) { dy } else { 0.0 }
}

/// Sums of `g` and `g (x - mean)`, where `g` is `dy` times the derivative of the fused activation.
#[inline(always)]
fn reduce_body<const FMA: bool>(
    x: &[f32],
    mean: f32,
    dy: &[f32],
    y: Option<&[f32]>,
    t: Bounds,
) -> (f64, f64) {
    const LANES: usize = 32;
    let (mut total, mut dot) = (0.0f64, 0.0f64);
    let mut at = 0;
    while at < x.len() {
        let end = (at + 64 * LANES).min(x.len());
        let whole = at + (end - at) / LANES * LANES;
        let (mut a, mut b) = ([0.0f32; LANES], [0.0f32; LANES]);
        match y {
            Some(y) => {
                for ((x, dy), y) in x[at..whole]
                    .chunks_exact(LANES)
                    .zip(dy[at..whole].chunks_exact(LANES))
                    .zip(y[at..whole].chunks_exact(LANES))
                {
                    for l in 0..LANES {
                        let g = gate(dy[l], y[l], t);
                        a[l] += g;
                        b[l] = madd::<FMA>(g, x[l] - mean, b[l]);
                    }
                }
            }
            None => {
                for (x, dy) in x[at..whole].chunks_exact(LANES).zip(dy[at..whole].chunks_exact(LANES)) {
                    for l in 0..LANES {
                        a[l] += dy[l];
                        b[l] = madd::<FMA>(dy[l], x[l] - mean, b[l]);
                    }
                }
            }
        }
        for i in whole..end {
            let g = y.map_or(dy[i], |y| gate(dy[i], y[i], t));
            a[i - whole] += g;
            b[i - whole] += g * (x[i] - mean);
        }
        total += a.iter().map(|&v| v as f64).sum::<f64>();
        dot += b.iter().map(|&v| v as f64).sum::<f64>();
        at = end;
    }
    (total, dot)
}

multiversion! {
    fn sum_run(x: &[f32], shift: f32) -> f64 = sum_body;
    fn square_run(x: &[f32], mean: f32) -> f64 = square_body;
    fn reduce_run(x: &[f32], mean: f32, dy: &[f32], y: Option<&[f32]>, t: Bounds) -> (f64, f64) = reduce_body;
}

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
    parts(chunks_mut(out, 1), 1, |c, out| out[0] = moments_of(isa, g, c, x));
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
    parts(chunks_mut(out, 1), 1, |c, out| out[0] = sums_of(isa, g, c, (x, mean[c]), (dy, y, t)));
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
