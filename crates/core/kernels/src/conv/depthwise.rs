//! Depthwise convolution (one input and one output channel to a group) as a filter over flattened planes.
//!
//! The padded plane is cut into one small plane for each phase of row and column modulo the stride. Then every pass is
//! a sum over taps of shifted copies of one long run, whatever the stride, and short rows cost little. Where vectors have masks,
//! the forward pass of common kernels reads planes as they are ([`direct`]).

#[cfg(target_arch = "x86_64")]
mod direct;
mod rows;

use rows::{LANES, Rows, rows_run};

use super::finish::Finish;
use super::geometry::ConvGeometry;
use crate::isa::{madd, multiversion};
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
use crate::simd::Simd128;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};
use crate::{Isa, Store};
use crate::{par, scratch};

pub(crate) struct Depthwise {
    g: ConvGeometry,
    isa: Isa,
    /// How the input is cut up, and where each tap begins in what results.
    input: Split,
    offsets: Vec<usize>,
    /// For the data gradient: how the output gradient is padded, and what each phase of the input sums.
    gradient: Split,
    phases: Vec<Phase>,
}

/// A plane, padded, cut into `step[0] * step[1]` small planes of `rows x cols`, one after the other.
#[derive(Clone, Copy, Debug)]
struct Split {
    size: [usize; 2],
    before: [usize; 2],
    step: [usize; 2],
    rows: usize,
    cols: usize,
}

/// The part of the data gradient that lies at one phase of the stride.
struct Phase {
    first: [usize; 2],
    grid: [usize; 2],
    /// Place in the padded output gradient, and in the weights.
    taps: Vec<(usize, usize)>,
}

impl Split {
    /// So many zeros before, and room for `need` rows and columns in all.
    fn new(size: [usize; 2], before: [usize; 2], step: [usize; 2], need: [usize; 2]) -> Self {
        let across = |i: usize| need[i].max(size[i] + before[i]).div_ceil(step[i]);
        Split { size, before, step, rows: across(0), cols: across(1) }
    }

    /// Elements, with room for a last vector that extends past the end.
    fn len(&self) -> usize {
        (self.step[0] * self.step[1] * self.rows * self.cols + LANES).next_multiple_of(LANES)
    }

    /// Where padded (row, column) lies.
    fn at(&self, row: usize, col: usize) -> usize {
        let plane = row % self.step[0] * self.step[1] + col % self.step[1];
        (plane * self.rows + row / self.step[0]) * self.cols + col / self.step[1]
    }
}

impl Depthwise {
    pub(crate) fn suits(g: &ConvGeometry) -> bool {
        g.groups > 1 && g.group_c() == 1 && g.group_out() == 1
    }

    pub(crate) fn new(g: &ConvGeometry, isa: Isa) -> Self {
        let (kernel, size, out) = ([g.kh, g.kw], [g.h, g.w], [g.out_h(), g.out_w()]);
        let reach = |i: usize| (kernel[i] - 1) * g.dilation[i] + 1 + (out[i].max(1) - 1) * g.stride[i];
        let input = Split::new(size, [g.pads[0], g.pads[1]], g.stride, [reach(0), reach(1)]);
        let tap = |t: usize| (t / g.kw * g.dilation[0], t % g.kw * g.dilation[1]);
        let offsets = (0..g.taps()).map(|t| input.at(tap(t).0, tap(t).1)).collect();
        // Input row r of phase p sums output rows q + shift, q = (r - p) / stride, for the taps that divide.
        let shift = |i: usize, phase: usize, k: usize| {
            let d = (phase + g.pads[i]) as isize - (k * g.dilation[i]) as isize;
            let stride = g.stride[i] as isize;
            (d.rem_euclid(stride) == 0).then(|| d.div_euclid(stride))
        };
        // The lowest shift is that of the last tap, the highest that of the first at the last phase.
        let before = [0, 1].map(|i| ((kernel[i] - 1) * g.dilation[i]).div_ceil(g.stride[i]));
        let need = [0, 1].map(|i| {
            let highest = g.pads[i].div_ceil(g.stride[i]);
            before[i] + highest + size[i].div_ceil(g.stride[i])
        });
        let gradient = Split::new(out, before, [1, 1], need);
        let mut phases = Vec::new();
        for py in 0..g.stride[0].min(g.h) {
            for px in 0..g.stride[1].min(g.w) {
                let mut taps = Vec::new();
                for t in 0..g.taps() {
                    if let (Some(y), Some(x)) = (shift(0, py, t / g.kw), shift(1, px, t % g.kw)) {
                        let place = |i: usize, s: isize| (s + before[i] as isize) as usize;
                        taps.push((gradient.at(place(0, y), place(1, x)), t));
                    }
                }
                let grid = [(g.h - py).div_ceil(g.stride[0]), (g.w - px).div_ceil(g.stride[1])];
                phases.push(Phase { first: [py, px], grid, taps });
            }
        }
        Depthwise { g: *g, isa, input, offsets, gradient, phases }
    }

    /// # Panics
    /// Where `finish` adds to the output, which this form cannot.
    pub(crate) fn forward(&self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        assert_eq!(finish.store, Store::Overwrite, "a depthwise convolution cannot add to its output");
        let g = &self.g;
        let (oh, ow, plane) = (g.out_h(), g.out_w(), g.h * g.w);
        let (lo, hi) = finish.bounds;
        let run = (oh - 1) * self.input.cols + ow;
        #[cfg(target_arch = "x86_64")]
        if let Some(plane_of) = direct::of(g, self.isa) {
            par::planes(y, oh * ow, |i, y| {
                let c = i % g.c;
                let last = direct::Last { bias: finish.bias.map_or(0.0, |b| b[c]), lo, hi };
                let (x, w) = (&x[i * plane..(i + 1) * plane], &w[c * g.taps()..(c + 1) * g.taps()]);
                // SAFETY: the instruction set is effective; planes and weights have the sizes of `g`.
                unsafe { plane_of(g, last, x, w, y) };
            });
            return;
        }
        par::planes(y, oh * ow, |i, y| {
            let c = i % g.c;
            let out =
                Rows { cols: self.input.cols, width: ow, bias: finish.bias.map_or(0.0, |b| b[c]), lo, hi };
            let w = &w[c * g.taps()..(c + 1) * g.taps()];
            scratch::with(self.input.len() + run.next_multiple_of(LANES), |buffer| {
                let (split, sums) = buffer.split_at_mut(self.input.len());
                split_run(self.isa, self.input, &x[i * plane..(i + 1) * plane], split);
                filter_run(self.isa, split, &self.offsets, w, &mut sums[..run]);
                rows_run(self.isa, out, sums, y);
            });
        });
    }

    pub(crate) fn backward_data(&self, w: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
        let g = &self.g;
        let plane = g.out_h() * g.out_w();
        let cols = self.gradient.cols;
        let longest = g.h.div_ceil(g.stride[0]) * cols;
        par::planes(dx, g.h * g.w, |i, dx| {
            let c = i % g.c;
            let w = &w[c * g.taps()..(c + 1) * g.taps()];
            let taps = g.taps().next_multiple_of(LANES);
            scratch::with(self.gradient.len() + longest.next_multiple_of(LANES) + taps, |buffer| {
                let (split, rest) = buffer.split_at_mut(self.gradient.len());
                let (sums, weights) = rest.split_at_mut(longest.next_multiple_of(LANES));
                split_run(self.isa, self.gradient, &dy[i * plane..(i + 1) * plane], split);
                let mut offsets = [0; 32];
                for phase in &self.phases {
                    let run = (phase.grid[0] - 1) * cols + phase.grid[1];
                    let sums = &mut sums[..run];
                    for (first, taps) in phase.taps.chunks(offsets.len()).enumerate() {
                        for ((o, v), &(at, t)) in offsets.iter_mut().zip(weights.iter_mut()).zip(taps) {
                            (*o, *v) = (at, w[t]);
                        }
                        let (offsets, weights) = (&offsets[..taps.len()], &weights[..taps.len()]);
                        if first == 0 {
                            filter_run(self.isa, split, offsets, weights, sums);
                        } else {
                            filter_more_run(self.isa, split, offsets, weights, sums);
                        }
                    }
                    if phase.taps.is_empty() {
                        sums.fill(0.0);
                    }
                    spread_run(self.isa, g, phase.first, phase.grid, cols, sums, dx, store);
                }
            });
        });
    }

    pub(crate) fn backward_weights(&self, x: &[f32], dy: &[f32], dw: &mut [f32], store: Store) {
        let g = &self.g;
        let (oh, ow) = (g.out_h(), g.out_w());
        let (plane, pixels) = (g.h * g.w, oh * ow);
        // From the first output pixel to the last, and zeros up to a whole vector.
        let run = ((oh.max(1) - 1) * self.input.cols + ow).next_multiple_of(LANES);
        let across = Split::new([oh, ow], [0, 0], [1, 1], [oh, self.input.cols]);
        par::each_chunk(dw, g.taps(), |c, dw| {
            let mut total = [0.0f64; 64];
            // Kernels of more than 64 taps go in pieces.
            for (piece, offsets) in self.offsets.chunks(total.len()).enumerate() {
                total.fill(0.0);
                scratch::with(self.input.len() + across.len().max(run), |buffer| {
                    let (split, gradient) = buffer.split_at_mut(self.input.len());
                    for n in 0..g.n {
                        let i = n * g.c + c;
                        split_run(self.isa, self.input, &x[i * plane..(i + 1) * plane], split);
                        split_run(self.isa, across, &dy[i * pixels..(i + 1) * pixels], gradient);
                        add_dots(self.isa, split, offsets, &gradient[..run], &mut total[..offsets.len()]);
                    }
                });
                for (dw, v) in dw[piece * total.len()..].iter_mut().zip(&total[..offsets.len()]) {
                    store.put(dw, *v as f32);
                }
            }
        });
    }
}

#[inline(always)]
fn split_body<const FMA: bool>(s: Split, x: &[f32], to: &mut [f32]) {
    to.fill(0.0);
    let width = s.size[1];
    let keep = std::array::from_fn(|i| if i < width % LANES { u32::MAX } else { 0 });
    // In the order in which rows lie in `to`: see `copy_row`.
    let [down, before] = [s.step[0], s.before[0]];
    let firsts = (0..down).map(|phase| (phase + down - before % down) % down);
    for r in firsts.flat_map(|first| (first..s.size[0]).step_by(down)) {
        let x = &x[r * width..];
        let at = |phase: usize| s.at(r + s.before[0], s.before[1] + phase);
        match s.step[1] {
            1 => copy_row(x, width, &keep, &mut to[at(0)..]),
            2 => {
                let x = &x[..width];
                let (first, second) = (at(0), at(1));
                let (low, high) = to.split_at_mut(first.max(second));
                let (even, odd) =
                    if first < second { (&mut low[first..], high) } else { (high, &mut low[second..]) };
                for ((even, odd), pair) in even.iter_mut().zip(odd).zip(x.chunks_exact(2)) {
                    (*even, *odd) = (pair[0], pair[1]);
                }
                if width % 2 == 1 {
                    to[first + width / 2] = x[width - 1];
                }
            }
            step => {
                for phase in 0..step.min(width) {
                    let to = to[at(phase)..].iter_mut();
                    to.zip(x[phase..width].iter().step_by(step)).for_each(|(to, &v)| *to = v);
                }
            }
        }
    }
}

/// Copies the first `width` values in whole vectors. The last one may extend past them: its other lanes become zero,
/// where padding lies or a later row is still to be copied. `keep` has all bits set for the lanes of the last vector that are copied.
#[inline(always)]
fn copy_row(x: &[f32], width: usize, keep: &[u32; LANES], to: &mut [f32]) {
    let whole = width / LANES * LANES;
    for (to, x) in to[..whole].chunks_exact_mut(LANES).zip(x[..whole].chunks_exact(LANES)) {
        to.copy_from_slice(x);
    }
    let (x, to) = (&x[whole..], &mut to[whole..]);
    if let (Some(x), Some(to)) = (x.first_chunk::<LANES>(), to.first_chunk_mut::<LANES>()) {
        for ((to, x), keep) in to.iter_mut().zip(x).zip(keep) {
            *to = f32::from_bits(x.to_bits() & keep);
        }
    } else {
        to[..width - whole].copy_from_slice(&x[..width - whole]);
    }
}

#[inline(always)]
fn filter_fixed<const FMA: bool, const TAPS: usize>(
    from: &[f32],
    offsets: &[usize],
    w: &[f32],
    out: &mut [f32],
) {
    let len = out.len();
    let rows: [&[f32]; TAPS] = std::array::from_fn(|t| &from[offsets[t]..][..len]);
    let w: [f32; TAPS] = std::array::from_fn(|t| w[t]);
    for i in 0..len {
        let mut sum = w[0] * rows[0][i];
        for t in 1..TAPS {
            sum = madd::<FMA>(w[t], rows[t][i], sum);
        }
        out[i] = sum;
    }
}

#[inline(always)]
fn filter_body<const FMA: bool>(from: &[f32], offsets: &[usize], w: &[f32], out: &mut [f32]) {
    match offsets.len() {
        1 => filter_fixed::<FMA, 1>(from, offsets, w, out),
        2 => filter_fixed::<FMA, 2>(from, offsets, w, out),
        4 => filter_fixed::<FMA, 4>(from, offsets, w, out),
        9 => filter_fixed::<FMA, 9>(from, offsets, w, out),
        _ => {
            out.fill(0.0);
            filter_more_body::<FMA>(from, offsets, w, out);
        }
    }
}

#[inline(always)]
fn filter_more_body<const FMA: bool>(from: &[f32], offsets: &[usize], w: &[f32], out: &mut [f32]) {
    for (&at, &w) in offsets.iter().zip(w) {
        for (out, &v) in out.iter_mut().zip(&from[at..]) {
            *out = madd::<FMA>(w, v, *out);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn spread_body<const FMA: bool>(
    g: &ConvGeometry,
    first: [usize; 2],
    grid: [usize; 2],
    cols: usize,
    sums: &[f32],
    dx: &mut [f32],
    store: Store,
) {
    for (r, sums) in sums.chunks(cols).enumerate().take(grid[0]) {
        let row = &mut dx[(first[0] + r * g.stride[0]) * g.w..][..g.w][first[1]..];
        let sums = &sums[..grid[1]];
        match (g.stride[1], store) {
            (1, Store::Overwrite) => row.copy_from_slice(sums),
            (_, Store::Overwrite) => {
                row.iter_mut().step_by(g.stride[1]).zip(sums).for_each(|(to, &v)| *to = v)
            }
            (_, Store::Accumulate) => {
                row.iter_mut().step_by(g.stride[1]).zip(sums).for_each(|(to, &v)| *to += v)
            }
        }
    }
}

/// Adds `len` products of `dy` with each of `TAPS` shifted copies of `from`, lane by lane; `len` is a multiple of the
/// lanes. Explicit vectors keep the sums in registers, which the compiler does not do for
/// plain loops.
///
/// # Safety
/// The processor has the instruction set; `dy` is readable at `len` places, `from` at `len` from each offset on, `sums` writable at
/// `TAPS` vectors.
#[inline(always)]
unsafe fn dots_body<S: Simd, const TAPS: usize>(
    from: *const f32,
    offsets: *const usize,
    dy: *const f32,
    len: usize,
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let rows: [*const f32; TAPS] = std::array::from_fn(|t| from.add(*offsets.add(t)));
        let mut total = [S::zero(); TAPS];
        for i in (0..len).step_by(S::LANES) {
            let d = S::load(dy.add(i));
            for (total, row) in total.iter_mut().zip(&rows) {
                *total = S::fma(d, S::load(row.add(i)), *total);
            }
        }
        for (t, total) in total.iter().enumerate() {
            S::store(sums.add(t * S::LANES), *total);
        }
    }
}

type Dots = unsafe fn(*const f32, *const usize, *const f32, usize, *mut f32);

/// The same for nine taps and for one, by instruction set.
struct DotsTable {
    lanes: usize,
    nine: Dots,
    one: Dots,
}

macro_rules! dots {
    ($table:ident, $simd:ty, $(#[$feature:meta])?) => {
        static $table: DotsTable = {
            $(#[$feature])?
            unsafe fn dots<const TAPS: usize>(from: *const f32, offsets: *const usize, dy: *const f32, len: usize, sums: *mut f32) {
                // SAFETY: passed on.
                unsafe { dots_body::<$simd, TAPS>(from, offsets, dy, len, sums) }
            }
            DotsTable { lanes: <$simd as Simd>::LANES, nine: dots::<9>, one: dots::<1> }
        };
    };
}

dots!(PLAIN, Plain,);
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
dots!(SIMD128, Simd128,);
#[cfg(target_arch = "x86_64")]
dots!(AVX2, Avx2, #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
dots!(AVX512, Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]);

/// Adds to `total` the product of `dy` (whole vectors, zero past the end) with `from` shifted by each offset.
fn add_dots(isa: Isa, from: &[f32], offsets: &[usize], dy: &[f32], total: &mut [f64]) {
    let table = match isa.effective() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &AVX2,
        #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
        Isa::Simd128 => &SIMD128,
        _ => &PLAIN,
    };
    assert!(dy.len().is_multiple_of(table.lanes) && offsets.iter().all(|at| at + dy.len() <= from.len()));
    let mut sums = [0.0f32; 9 * LANES];
    let mut first = 0;
    while first < offsets.len() {
        let (taps, dots) = if offsets.len() - first >= 9 { (9, table.nine) } else { (1, table.one) };
        // SAFETY: offsets and lengths are checked above; `sums` holds nine of the longest vectors.
        unsafe {
            dots(from.as_ptr(), offsets[first..].as_ptr(), dy.as_ptr(), dy.len(), sums.as_mut_ptr());
        }
        for (total, sums) in total[first..first + taps].iter_mut().zip(sums.chunks_exact(table.lanes)) {
            *total += sums.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        first += taps;
    }
}

multiversion! {
    fn split_run(s: Split, x: &[f32], to: &mut [f32]) = split_body;
    fn filter_run(from: &[f32], offsets: &[usize], w: &[f32], out: &mut [f32]) = filter_body;
    fn filter_more_run(from: &[f32], offsets: &[usize], w: &[f32], out: &mut [f32]) = filter_more_body;
    fn spread_run(g: &ConvGeometry, first: [usize; 2], grid: [usize; 2], cols: usize, sums: &[f32], dx: &mut [f32], store: Store) = spread_body;
}
