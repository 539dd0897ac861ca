//! Pooling: maximum, average and global average, with gradients.

use crate::isa::multiversion;
use crate::par;
use crate::parallel::{chunks_mut, parts};
use crate::{Isa, Store, scratch};

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

/// The first of two maxima and its index, without branches; see [`better`].
#[inline(always)]
fn pick(a: (f32, u32), b: (f32, u32)) -> (f32, u32) {
    let take = (b.0 > a.0) | (b.0.is_nan() & !a.0.is_nan());
    (if take { b.0 } else { a.0 }, if take { b.1 } else { a.1 })
}

/// `best` becomes the maximum of itself and of elements of `x` that are `STEP` apart (`step` for any other distance).
#[inline(always)]
fn raise<const STEP: usize>(best: &mut [f32], x: &[f32], step: usize) {
    let step = if STEP == 0 { step } else { STEP };
    let x = &x[..best.len().saturating_sub(1) * step + usize::from(!best.is_empty())];
    for (i, best) in best.iter_mut().enumerate() {
        *best = pick((*best, 0), (x[i * step], 0)).0;
    }
}

/// [`max_body`] without `argmax`: the maximum of each column of the window's rows, then of the columns.
#[inline(always)]
fn max_value_body<const FMA: bool>(p: &Plan, [kernel, stride]: [usize; 2], x: &[f32], y: &mut [f32]) {
    // Windows of all columns are neighbours in the middle; those at the edges have fewer.
    let whole = |c: &Window| c.count == kernel;
    let from = p.cols.iter().position(whole).unwrap_or(p.cols.len());
    let to = p.cols.iter().rposition(whole).map_or(from, |i| i + 1);
    scratch::with(2 * p.w + 1, |buffer| {
        let (column, halves) = buffer.split_at_mut(p.w);
        let (even, odd) = halves.split_at_mut(p.w.div_ceil(2));
        for (r, y) in p.rows.iter().zip(y.chunks_exact_mut(p.cols.len())) {
            y.fill(f32::NEG_INFINITY);
            if r.count == 0 {
                continue;
            }
            let row = |i: usize| &x[(r.first + i * p.dilation[0]) * p.w..][..p.w];
            column.copy_from_slice(row(0));
            (1..r.count).for_each(|i| raise::<1>(column, row(i), 1));
            for (y, c) in y.iter_mut().zip(&p.cols) {
                if c.count > 0 && !whole(c) {
                    *y = column[c.first];
                    let end = c.first + (c.count - 1) * p.dilation[1] + 1;
                    column[c.first..end]
                        .iter()
                        .step_by(p.dilation[1])
                        .for_each(|&v| *y = pick((*y, 0), (v, 0)).0);
                }
            }
            if stride == 2 {
                let pairs = column.chunks_exact(2);
                if let ([last], Some(even)) = (pairs.remainder(), even.last_mut()) {
                    *even = *last;
                }
                for ((pair, even), odd) in pairs.zip(even.iter_mut()).zip(odd.iter_mut()) {
                    (*even, *odd) = (pair[0], pair[1]);
                }
            }
            let middle = &mut y[from..to];
            for j in 0..if middle.is_empty() { 0 } else { kernel } {
                let at = p.cols[from].first + j * p.dilation[1];
                match stride {
                    1 => raise::<1>(middle, &column[at..], stride),
                    2 if at.is_multiple_of(2) => raise::<1>(middle, &even[at / 2..], 1),
                    2 => raise::<1>(middle, &odd[at / 2..], 1),
                    _ => raise::<0>(middle, &column[at..], stride),
                }
            }
        }
    });
}

/// Outputs of [`max2_body`] computed side by side: a loop over arrays of this size is what the compiler turns into vectors,
/// however the code around it is written.
const SIDE: usize = 4;

#[inline(always)]
fn max2_side(top: &[f32; 2 * SIDE], bottom: &[f32; 2 * SIDE]) -> [f32; SIDE] {
    std::array::from_fn(|i| {
        let first = pick((top[2 * i], 0), (top[2 * i + 1], 0));
        pick(pick(first, (bottom[2 * i], 0)), (bottom[2 * i + 1], 0)).0
    })
}

/// As [`max2_side`]; `at` is the index of the first element of `top`, `below` that of `bottom`.
#[inline(always)]
fn argmax2_side(
    top: &[f32; 2 * SIDE],
    bottom: &[f32; 2 * SIDE],
    at: u32,
    below: u32,
) -> ([f32; SIDE], [u32; SIDE]) {
    let (mut best, mut index) = ([0.0; SIDE], [0; SIDE]);
    for i in 0..SIDE {
        let j = 2 * i as u32;
        let first = pick((top[2 * i], at + j), (top[2 * i + 1], at + j + 1));
        (best[i], index[i]) =
            pick(pick(first, (bottom[2 * i], below + j)), (bottom[2 * i + 1], below + j + 1));
    }
    (best, index)
}

/// Windows of 2 x 2 with stride 2, without branches.
#[inline(always)]
fn max2_body<const FMA: bool>(
    w: usize,
    out_w: usize,
    x: &[f32],
    y: &mut [f32],
    mut argmax: Option<&mut [u32]>,
) {
    for (oy, y) in y.chunks_exact_mut(out_w).enumerate() {
        let (at, below) = (2 * oy * w, (2 * oy + 1) * w);
        let (top, top_rest) = x[at..][..2 * out_w].as_chunks::<{ 2 * SIDE }>();
        let (bottom, bottom_rest) = x[below..][..2 * out_w].as_chunks::<{ 2 * SIDE }>();
        let whole = top.len() * SIDE;
        // The last outputs of a row, fewer than `SIDE`, lie in arrays whose other elements are not used.
        let (mut top_end, mut bottom_end) = ([0.0; 2 * SIDE], [0.0; 2 * SIDE]);
        top_end[..top_rest.len()].copy_from_slice(top_rest);
        bottom_end[..bottom_rest.len()].copy_from_slice(bottom_rest);
        let (y, y_end) = y.split_at_mut(whole);
        match &mut argmax {
            None => {
                for ((y, t), b) in y.as_chunks_mut::<SIDE>().0.iter_mut().zip(top).zip(bottom) {
                    *y = max2_side(t, b);
                }
                if !y_end.is_empty() {
                    let end = max2_side(&top_end, &bottom_end);
                    y_end.copy_from_slice(&end[..y_end.len()]);
                }
            }
            Some(argmax) => {
                let (a, a_end) = argmax[oy * out_w..][..out_w].split_at_mut(whole);
                let outputs = y.as_chunks_mut::<SIDE>().0.iter_mut().zip(a.as_chunks_mut::<SIDE>().0);
                for (i, ((y, a), (t, b))) in outputs.zip(top.iter().zip(bottom)).enumerate() {
                    let step = (2 * SIDE * i) as u32;
                    (*y, *a) = argmax2_side(t, b, at as u32 + step, below as u32 + step);
                }
                if !y_end.is_empty() {
                    let step = (2 * whole) as u32;
                    let (end, index) =
                        argmax2_side(&top_end, &bottom_end, at as u32 + step, below as u32 + step);
                    y_end.copy_from_slice(&end[..y_end.len()]);
                    a_end.copy_from_slice(&index[..a_end.len()]);
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
    fn max_value_run(p: &Plan, window: [usize; 2], x: &[f32], y: &mut [f32]) = max_value_body;
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
        match a {
            a if two => max2_run(isa, g.w, g.out_w(), x, y, a),
            None => max_value_run(isa, &plan, [g.kernel[1], g.stride[1]], x, y),
            a => max_run(isa, &plan, x, y, a),
        }
    };
    match argmax {
        None => par::planes(y, out, |i, y| run(i, y, None)),
        Some(a) => {
            assert_eq!(a.len(), y.len());
            let pair = (chunks_mut(y, out), chunks_mut(a, out));
            parts(pair, par::CHUNK / plane.max(1), |i, (y, a)| run(i, y, Some(a)));
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
