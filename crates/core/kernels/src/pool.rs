//! Pooling: maximum, average and global average, with gradients.

use crate::isa::multiversion;
use crate::par;
use crate::{Isa, Store};
use rayon::prelude::*;

/// Shape of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Batch size.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Window height and width.
    pub kernel: [usize; 2],
    /// Steps down and right.
    pub stride: [usize; 2],
    /// Padding: top, left, bottom, right.
    pub pads: [usize; 4],
    /// Distance between the rows and columns of a window.
    pub dilation: [usize; 2],
    /// Whether the output size is rounded up (`ceil_mode`): a last window may extend past the edge, provided it starts
    /// inside the input or its top or left padding.
    pub ceil: bool,
    /// Whether padding counts in the divisor of an average (what only `ceil` adds never does).
    pub count_include_pad: bool,
}

impl PoolGeometry {
    fn out(&self, axis: usize, size: usize) -> usize {
        let (before, after) = (self.pads[axis], self.pads[axis + 2]);
        let extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1;
        let padded = size + before + after;
        if padded < extent {
            return 0;
        }
        let room = padded - extent;
        let stride = self.stride[axis];
        if !self.ceil {
            return room / stride + 1;
        }
        let out = room.div_ceil(stride) + 1;
        if (out - 1) * stride >= size + before { out - 1 } else { out }
    }

    /// Output height. As in PyTorch and Caffe, a window of `ceil` that would start in the bottom padding is dropped.
    pub fn out_h(&self) -> usize {
        self.out(0, self.h)
    }

    /// Output width.
    pub fn out_w(&self) -> usize {
        self.out(1, self.w)
    }

    /// Elements of the input.
    pub fn in_len(&self) -> usize {
        self.n * self.c * self.h * self.w
    }

    /// Elements of the output.
    pub fn out_len(&self) -> usize {
        self.n * self.c * self.out_h() * self.out_w()
    }

    /// Rows (or columns) of window `o` inside the input: the first, their number, and the factor of the divisor.
    fn window(&self, axis: usize, size: usize, o: usize) -> Window {
        let start = (o * self.stride[axis]) as isize - self.pads[axis] as isize;
        let d = self.dilation[axis];
        let k = self.kernel[axis];
        let skip = if start < 0 { (-start as usize).div_ceil(d) } else { 0 };
        let first = (start + (skip * d) as isize) as usize;
        let inside = if first < size { (size - first).div_ceil(d) } else { 0 };
        let count = inside.min(k.saturating_sub(skip));
        let divisor = if self.count_include_pad {
            let end = size as isize + self.pads[axis + 2] as isize;
            ((end - start).max(0) as usize).div_ceil(d).min(k)
        } else {
            count
        };
        Window { first, count, divisor }
    }

    fn windows(&self, axis: usize, size: usize, out: usize) -> Vec<Window> {
        (0..out).map(|o| self.window(axis, size, o)).collect()
    }

    fn plain(&self, k: usize, s: usize) -> bool {
        self.kernel == [k; 2]
            && self.stride == [s; 2]
            && self.pads == [0; 4]
            && self.dilation == [1; 2]
            && (self.out_h() - 1) * s + k <= self.h
            && (self.out_w() - 1) * s + k <= self.w
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    first: usize,
    count: usize,
    divisor: usize,
}

struct Plan {
    rows: Vec<Window>,
    cols: Vec<Window>,
    w: usize,
    dilation: [usize; 2],
}

impl Plan {
    fn new(g: &PoolGeometry) -> Self {
        Plan {
            rows: g.windows(0, g.h, g.out_h()),
            cols: g.windows(1, g.w, g.out_w()),
            w: g.w,
            dilation: g.dilation,
        }
    }
}

/// The argmax of a window of padding alone; its maximum is minus infinity and it has no gradient.
const NOWHERE: u32 = u32::MAX;

#[inline(always)]
fn better(v: f32, best: f32) -> bool {
    // The first of equals wins; the first NaN wins over everything.
    v > best || (v.is_nan() && !best.is_nan())
}

#[inline(always)]
fn max_body<const FMA: bool>(p: &Plan, x: &[f32], y: &mut [f32], mut argmax: Option<&mut [u32]>) {
    let out_w = p.cols.len();
    for (oy, r) in p.rows.iter().enumerate() {
        for (ox, c) in p.cols.iter().enumerate() {
            let (mut best, mut at) = (f32::NEG_INFINITY, NOWHERE);
            for i in 0..r.count {
                let row = (r.first + i * p.dilation[0]) * p.w;
                for j in 0..c.count {
                    let index = row + c.first + j * p.dilation[1];
                    let v = x[index];
                    if at == NOWHERE || better(v, best) {
                        best = v;
                        at = index as u32;
                    }
                }
            }
            y[oy * out_w + ox] = best;
            if let Some(a) = &mut argmax {
                a[oy * out_w + ox] = at;
            }
        }
    }
}

/// Windows of 2 x 2 with stride 2, without branches.
#[inline(always)]
fn max2_body<const FMA: bool>(w: usize, out_w: usize, x: &[f32], y: &mut [f32], argmax: Option<&mut [u32]>) {
    let out_h = y.len() / out_w;
    let pick = |a: (f32, u32), b: (f32, u32)| {
        let take = (b.0 > a.0) | (b.0.is_nan() & !a.0.is_nan());
        (if take { b.0 } else { a.0 }, if take { b.1 } else { a.1 })
    };
    match argmax {
        Some(argmax) => {
            for oy in 0..out_h {
                let top = &x[2 * oy * w..][..2 * out_w];
                let bottom = &x[(2 * oy + 1) * w..][..2 * out_w];
                let y = &mut y[oy * out_w..][..out_w];
                let a = &mut argmax[oy * out_w..][..out_w];
                let base = (2 * oy * w) as u32;
                for ox in 0..out_w {
                    let at = base + 2 * ox as u32;
                    let below = at + w as u32;
                    let first = pick((top[2 * ox], at), (top[2 * ox + 1], at + 1));
                    let best = pick(pick(first, (bottom[2 * ox], below)), (bottom[2 * ox + 1], below + 1));
                    (y[ox], a[ox]) = best;
                }
            }
        }
        None => {
            for oy in 0..out_h {
                let top = &x[2 * oy * w..][..2 * out_w];
                let bottom = &x[(2 * oy + 1) * w..][..2 * out_w];
                let y = &mut y[oy * out_w..][..out_w];
                for ox in 0..out_w {
                    let first = pick((top[2 * ox], 0), (top[2 * ox + 1], 0));
                    y[ox] = pick(pick(first, (bottom[2 * ox], 0)), (bottom[2 * ox + 1], 0)).0;
                }
            }
        }
    }
}

#[inline(always)]
fn avg_body<const FMA: bool>(p: &Plan, x: &[f32], y: &mut [f32]) {
    let out_w = p.cols.len();
    for (oy, r) in p.rows.iter().enumerate() {
        for (ox, c) in p.cols.iter().enumerate() {
            let mut sum = 0.0f32;
            for i in 0..r.count {
                let row = (r.first + i * p.dilation[0]) * p.w + c.first;
                for j in 0..c.count {
                    sum += x[row + j * p.dilation[1]];
                }
            }
            y[oy * out_w + ox] = sum / (r.divisor * c.divisor).max(1) as f32;
        }
    }
}

#[inline(always)]
fn avg_back_body<const FMA: bool>(p: &Plan, dy: &[f32], dx: &mut [f32]) {
    let out_w = p.cols.len();
    for (oy, r) in p.rows.iter().enumerate() {
        for (ox, c) in p.cols.iter().enumerate() {
            let d = dy[oy * out_w + ox] / (r.divisor * c.divisor).max(1) as f32;
            for i in 0..r.count {
                let row = (r.first + i * p.dilation[0]) * p.w + c.first;
                for j in 0..c.count {
                    dx[row + j * p.dilation[1]] += d;
                }
            }
        }
    }
}

#[inline(always)]
fn sum_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v as f64;
        }
    }
    lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|&v| v as f64).sum::<f64>()
}

multiversion! {
    fn max_run(p: &Plan, x: &[f32], y: &mut [f32], argmax: Option<&mut [u32]>) = max_body;
    fn max2_run(w: usize, out_w: usize, x: &[f32], y: &mut [f32], argmax: Option<&mut [u32]>) = max2_body;
    fn avg_run(p: &Plan, x: &[f32], y: &mut [f32]) = avg_body;
    fn avg_back_run(p: &Plan, dy: &[f32], dx: &mut [f32]) = avg_back_body;
    fn sum_run(x: &[f32]) -> f64 = sum_body;
}

/// Maximum of each window. `argmax` receives, for each output, the index inside its input plane (`row * w + column`) of
/// the first maximum; NaN counts as the largest value. The maximum over nothing but padding is minus infinity.
pub fn max_forward(isa: Isa, g: &PoolGeometry, x: &[f32], y: &mut [f32], argmax: Option<&mut [u32]>) {
    assert!(x.len() == g.in_len() && y.len() == g.out_len());
    let (plane, out) = (g.h * g.w, g.out_h() * g.out_w());
    if g.out_len() == 0 {
        return;
    }
    let plan = Plan::new(g);
    let two = g.plain(2, 2);
    let run = |i: usize, y: &mut [f32], a: Option<&mut [u32]>| {
        let x = &x[i * plane..(i + 1) * plane];
        if two { max2_run(isa, g.w, g.out_w(), x, y, a) } else { max_run(isa, &plan, x, y, a) }
    };
    match argmax {
        None => par::planes(y, out, |i, y| run(i, y, None)),
        Some(a) => {
            assert_eq!(a.len(), y.len());
            y.par_chunks_mut(out)
                .zip(a.par_chunks_mut(out))
                .with_min_len((par::CHUNK / plane.max(1)).max(1))
                .enumerate()
                .for_each(|(i, (y, a))| run(i, y, Some(a)));
        }
    }
}

/// Gradient of [`max_forward`]: each output's gradient goes to its `argmax`.
pub fn max_backward(_isa: Isa, g: &PoolGeometry, dy: &[f32], argmax: &[u32], dx: &mut [f32], store: Store) {
    assert!(dx.len() == g.in_len() && dy.len() == g.out_len() && argmax.len() == dy.len());
    let out = g.out_h() * g.out_w();
    par::planes(dx, g.h * g.w, |i, dx| {
        if store == Store::Overwrite {
            dx.fill(0.0);
        }
        let at = i * out..(i + 1) * out;
        for (&d, &a) in dy[at.clone()].iter().zip(&argmax[at]) {
            if a != NOWHERE {
                dx[a as usize] += d;
            }
        }
    });
}

/// Mean of each window; the divisor is that of `count_include_pad`.
pub fn avg_forward(isa: Isa, g: &PoolGeometry, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == g.in_len() && y.len() == g.out_len());
    let plan = Plan::new(g);
    let plane = g.h * g.w;
    par::planes(y, g.out_h() * g.out_w(), |i, y| avg_run(isa, &plan, &x[i * plane..(i + 1) * plane], y));
}

/// Gradient of [`avg_forward`].
pub fn avg_backward(isa: Isa, g: &PoolGeometry, dy: &[f32], dx: &mut [f32], store: Store) {
    assert!(dx.len() == g.in_len() && dy.len() == g.out_len());
    let plan = Plan::new(g);
    let out = g.out_h() * g.out_w();
    par::planes(dx, g.h * g.w, |i, dx| {
        if store == Store::Overwrite {
            dx.fill(0.0);
        }
        avg_back_run(isa, &plan, &dy[i * out..(i + 1) * out], dx);
    });
}

/// Mean of each plane of `plane` elements: `y` has one element for each.
pub fn global_avg_forward(isa: Isa, plane: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len() * plane);
    par::planes(y, 16, |i, y| {
        for (j, y) in y.iter_mut().enumerate() {
            let at = (i * 16 + j) * plane;
            *y = (sum_run(isa, &x[at..at + plane]) / plane.max(1) as f64) as f32;
        }
    });
}

/// Gradient of [`global_avg_forward`].
pub fn global_avg_backward(_isa: Isa, plane: usize, dy: &[f32], dx: &mut [f32], store: Store) {
    assert_eq!(dx.len(), dy.len() * plane);
    par::planes(dx, plane, |i, dx| {
        let d = dy[i] / plane as f32;
        if store.accumulates() {
            dx.iter_mut().for_each(|v| *v += d);
        } else {
            dx.fill(d);
        }
    });
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
