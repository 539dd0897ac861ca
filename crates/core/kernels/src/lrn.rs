//! Local response normalisation (Krizhevsky et al. 2012, section 3.3), across channels and within a channel.

use crate::isa::{madd, multiversion};
use crate::{Isa, Store};
use crate::{par, scratch};

/// Settings: `y = x / (bias + alpha / count * sum of squares)^beta`, where `count` is the number of places in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Factor on the mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// What is added (`bias` in ONNX, `k` in Caffe; 1 by default in both).
    pub bias: f32,
    /// Channels in the window, or its side when it is within a channel.
    pub size: usize,
}

/// Pixels handled together; a block of all channels stays in cache.
const BLOCK: usize = 64;

#[inline(always)]
fn power<const FMA: bool>(s: f32, beta: f32) -> f32 {
    // The usual exponent without a logarithm: s^-3/4 = 1 / (sqrt(s) sqrt(sqrt(s))).
    if beta == 0.75 {
        let root = s.sqrt();
        1.0 / (root * root.sqrt())
    } else {
        s.powf(-beta)
    }
}

/// Works on one image `[c, hw]` and pixels `at..end`: writes the denominators (and outputs).
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn forward_body<const FMA: bool>(
    l: Lrn,
    c: usize,
    hw: usize,
    at: usize,
    end: usize,
    x: &[f32],
    y: par::Shared,
    scale: Option<par::Shared>,
) {
    let (before, after) = ((l.size - 1) / 2, l.size / 2);
    let factor = l.alpha / l.size as f32;
    let len = end - at;
    for ch in 0..c {
        let mut sum = [0.0f32; BLOCK];
        for k in ch.saturating_sub(before)..(ch + after + 1).min(c) {
            let row = &x[k * hw + at..k * hw + end];
            for (s, &v) in sum.iter_mut().zip(row) {
                *s = madd::<FMA>(v, v, *s);
            }
        }
        // SAFETY: each work item owns its image and pixels.
        let y = unsafe { y.slice(ch * hw + at, len) };
        for s in &mut sum[..len] {
            *s = madd::<FMA>(factor, *s, l.bias);
        }
        let row = &x[ch * hw + at..ch * hw + end];
        if l.beta == 0.75 {
            for ((y, &x), &s) in y.iter_mut().zip(row).zip(&sum) {
                *y = x * power::<FMA>(s, 0.75);
            }
        } else {
            for ((y, &x), &s) in y.iter_mut().zip(row).zip(&sum) {
                *y = x * power::<FMA>(s, l.beta);
            }
        }
        if let Some(scale) = scale {
            // SAFETY: as above.
            unsafe { scale.slice(ch * hw + at, len) }.copy_from_slice(&sum[..len]);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn backward_body<const FMA: bool>(
    l: Lrn,
    c: usize,
    hw: usize,
    span: [usize; 2],
    x: &[f32],
    scale: &[f32],
    dy: &[f32],
    dx: par::Shared,
    store: Store,
    ratio: &mut [f32],
) {
    let [at, end] = span;
    let len = end - at;
    // Output c reads inputs c - b ..= c + a, so input c is read by outputs c - a ..= c + b.
    let (before, after) = (l.size / 2, (l.size - 1) / 2);
    let factor = -2.0 * l.alpha * l.beta / l.size as f32;
    for ch in 0..c {
        let row = ch * hw + at..ch * hw + end;
        let out = &mut ratio[ch * BLOCK..][..len];
        for (((r, &x), &s), &d) in out.iter_mut().zip(&x[row.clone()]).zip(&scale[row.clone()]).zip(&dy[row])
        {
            *r = d * x * power::<FMA>(s, l.beta) / s;
        }
    }
    for ch in 0..c {
        let mut sum = [0.0f32; BLOCK];
        for k in ch.saturating_sub(before)..(ch + after + 1).min(c) {
            for (s, &r) in sum.iter_mut().zip(&ratio[k * BLOCK..][..len]) {
                *s += r;
            }
        }
        let row = ch * hw + at..ch * hw + end;
        // SAFETY: each work item owns its image and pixels.
        let dx = unsafe { dx.slice(row.start, len) };
        for ((((dx, &x), &s), &d), &sum) in
            dx.iter_mut().zip(&x[row.clone()]).zip(&scale[row.clone()]).zip(&dy[row]).zip(&sum)
        {
            let g = madd::<FMA>(factor * x, sum, d * power::<FMA>(s, l.beta));
            store.put(dx, g);
        }
    }
}

multiversion! {
    fn forward_run(l: Lrn, c: usize, hw: usize, at: usize, end: usize, x: &[f32], y: par::Shared, scale: Option<par::Shared>) = forward_body;
    fn backward_run(l: Lrn, c: usize, hw: usize, span: [usize; 2], x: &[f32], scale: &[f32], dy: &[f32], dx: par::Shared, store: Store, ratio: &mut [f32]) = backward_body;
}

/// Across channels: the window of channel `c` is `c - floor((size-1)/2) ..= c + ceil((size-1)/2)`, clipped, while the
/// divisor of alpha stays `size` (ONNX and Caffe). `x` is `[n, c, hw]`; `scale` receives the denominators before the
/// power, which [`backward`] reads.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    isa: Isa,
    l: Lrn,
    n: usize,
    c: usize,
    hw: usize,
    x: &[f32],
    y: &mut [f32],
    scale: Option<&mut [f32]>,
) {
    let image = c * hw;
    assert!(x.len() == n * image && y.len() == x.len() && l.size > 0);
    let y = par::Shared::new(y);
    let scale = scale.map(|s| {
        assert_eq!(s.len(), x.len());
        par::Shared::new(s)
    });
    let blocks = hw.div_ceil(BLOCK);
    par::each(n * blocks, |i| {
        let (image_at, at) = (i / blocks * image, i % blocks * BLOCK);
        let x = &x[image_at..image_at + image];
        let scale = scale.map(|s| s.offset(image_at));
        forward_run(isa, l, c, hw, at, hw.min(at + BLOCK), x, y.offset(image_at), scale);
    });
}

/// Gradient of [`forward`].
#[allow(clippy::too_many_arguments)]
pub fn backward(
    isa: Isa,
    l: Lrn,
    n: usize,
    c: usize,
    hw: usize,
    x: &[f32],
    scale: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    store: Store,
) {
    let image = c * hw;
    assert!([x.len(), scale.len(), dy.len(), dx.len()] == [n * image; 4] && l.size > 0);
    let dx = par::Shared::new(dx);
    let blocks = hw.div_ceil(BLOCK);
    par::each(n * blocks, |i| {
        let (start, at) = (i / blocks * image, i % blocks * BLOCK);
        let part = start..start + image;
        scratch::with(c * BLOCK, |ratio| {
            let span = [at, hw.min(at + BLOCK)];
            let (x, scale, dy) = (&x[part.clone()], &scale[part.clone()], &dy[part.clone()]);
            backward_run(isa, l, c, hw, span, x, scale, dy, dx.offset(start), store, ratio);
        });
    });
}

/// Sums over a square window of side `size` that starts `before` rows and columns before each pixel.
fn box_sum(h: usize, w: usize, size: usize, before: usize, x: &[f32], out: &mut [f32], rows: &mut [f32]) {
    let span = |i: usize, n: usize| i.saturating_sub(before)..(i + size - before).min(n);
    for y in 0..h {
        for c in 0..w {
            rows[y * w + c] = x[y * w..(y + 1) * w][span(c, w)].iter().sum();
        }
    }
    for y in 0..h {
        let out = &mut out[y * w..(y + 1) * w];
        out.fill(0.0);
        for r in span(y, h) {
            for (o, &v) in out.iter_mut().zip(&rows[r * w..(r + 1) * w]) {
                *o += v;
            }
        }
    }
}

/// Within each channel (Caffe's `WITHIN_CHANNEL`): the window is a square of side `size` around the pixel, and the
/// divisor of alpha is `size * size` also at the edges. `planes` planes of `h x w`.
#[allow(clippy::too_many_arguments)]
pub fn within_forward(_isa: Isa, l: Lrn, h: usize, w: usize, x: &[f32], y: &mut [f32], scale: &mut [f32]) {
    let hw = h * w;
    assert!(x.len() == y.len() && x.len() == scale.len() && l.size > 0);
    let y = par::Shared::new(y);
    let factor = l.alpha / (l.size * l.size) as f32;
    par::planes(scale, hw, |i, scale| {
        let x = &x[i * hw..(i + 1) * hw];
        scratch::with(2 * hw, |buffer| {
            let (squares, rows) = buffer.split_at_mut(hw);
            squares.iter_mut().zip(x).for_each(|(s, &x)| *s = x * x);
            box_sum(h, w, l.size, (l.size - 1) / 2, squares, scale, rows);
        });
        // SAFETY: each work item owns its plane.
        let y = unsafe { y.slice(i * hw, hw) };
        for ((y, s), &x) in y.iter_mut().zip(scale).zip(x) {
            *s = factor * *s + l.bias;
            *y = x * power::<false>(*s, l.beta);
        }
    });
}

/// Gradient of [`within_forward`].
#[allow(clippy::too_many_arguments)]
pub fn within_backward(
    _isa: Isa,
    l: Lrn,
    h: usize,
    w: usize,
    x: &[f32],
    scale: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    store: Store,
) {
    let hw = h * w;
    assert!([x.len(), scale.len(), dy.len()] == [dx.len(); 3] && l.size > 0);
    let factor = -2.0 * l.alpha * l.beta / (l.size * l.size) as f32;
    par::planes(dx, hw, |i, dx| {
        let at = i * hw..(i + 1) * hw;
        let (x, scale, dy) = (&x[at.clone()], &scale[at.clone()], &dy[at]);
        scratch::with(3 * hw, |buffer| {
            let (ratio, rest) = buffer.split_at_mut(hw);
            let (sum, rows) = rest.split_at_mut(hw);
            for (((r, &x), &s), &d) in ratio.iter_mut().zip(x).zip(scale).zip(dy) {
                *r = d * x * power::<false>(s, l.beta) / s;
            }
            box_sum(h, w, l.size, l.size / 2, ratio, sum, rows);
            for ((((dx, &x), &s), &d), &sum) in dx.iter_mut().zip(x).zip(scale).zip(dy).zip(sum.iter()) {
                let g = d * power::<false>(s, l.beta) + factor * x * sum;
                store.put(dx, g);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    fn across(l: Lrn, c: usize, hw: usize, x: &[f64]) -> Vec<f64> {
        let (before, after) = ((l.size - 1) / 2, l.size / 2);
        (0..x.len())
            .map(|i| {
                let (image, ch, p) = (i / (c * hw), i / hw % c, i % hw);
                let window = ch.saturating_sub(before)..(ch + after + 1).min(c);
                let sum: f64 = window.map(|k| x[(image * c + k) * hw + p].powi(2)).sum();
                x[i] / (l.bias as f64 + l.alpha as f64 / l.size as f64 * sum).powf(l.beta as f64)
            })
            .collect()
    }

    fn within(l: Lrn, h: usize, w: usize, x: &[f64]) -> Vec<f64> {
        let before = (l.size - 1) / 2;
        let span = |i: usize, n: usize| i.saturating_sub(before)..(i + l.size - before).min(n);
        (0..x.len())
            .map(|i| {
                let (plane, r, c) = (i / (h * w) * h * w, i / w % h, i % w);
                let mut sum = 0.0;
                for y in span(r, h) {
                    for z in span(c, w) {
                        sum += x[plane + y * w + z].powi(2);
                    }
                }
                x[i] / (l.bias as f64 + l.alpha as f64 / (l.size * l.size) as f64 * sum).powf(l.beta as f64)
            })
            .collect()
    }

    #[test]
    fn values_and_gradients() {
        let (n, c, h, w) = (2, 7, 3, 23);
        let hw = h * w;
        let x: Vec<f32> = values(n * c * hw, 1).iter().map(|v| v * 3.0).collect();
        let dy = values(x.len(), 2);
        let dot = |y: Vec<f64>| -> f64 { y.iter().zip(&dy).map(|(a, &b)| a * b as f64).sum() };
        for (size, beta, bias) in [(5, 0.75, 1.0), (4, 0.75, 2.0), (3, 0.6, 1.0), (1, 1.0, 0.5)] {
            let l = Lrn { alpha: 0.3, beta, bias, size };
            let x64 = wide(&x);
            let cases = [
                (across(l, c, hw, &x64), differences(&x, |x| dot(across(l, c, hw, x)))),
                (within(l, h, w, &x64), differences(&x, |x| dot(within(l, h, w, x)))),
            ];
            for (isa, got) in on_all(|isa| {
                let mut out = Vec::new();
                let (mut y, mut s, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()], vec![0.0; x.len()]);
                forward(isa, l, n, c, hw, &x, &mut y, Some(&mut s));
                backward(isa, l, n, c, hw, &x, &s, &dy, &mut dx, Store::Overwrite);
                out.extend_from_slice(&y);
                out.extend_from_slice(&dx);
                within_forward(isa, l, h, w, &x, &mut y, &mut s);
                dx.fill(1.0);
                within_backward(isa, l, h, w, &x, &s, &dy, &mut dx, Store::Accumulate);
                out.extend_from_slice(&y);
                out.extend(dx.iter().map(|v| v - 1.0));
                out
            }) {
                for (k, (y, dx)) in cases.iter().enumerate() {
                    let at = 2 * k * x.len();
                    assert_close(&got[at..at + x.len()], y, 2e-6, &format!("{l:?} {k} {isa}"));
                    assert_close(
                        &got[at + x.len()..at + 2 * x.len()],
                        dx,
                        5e-6,
                        &format!("gradient {l:?} {k} {isa}"),
                    );
                }
            }
        }
    }
}
