//! Convolution as a product of packed weights with tiles of pixels that are gathered tap by tap ("implicit GEMM").
//!
//! One form serves the forward pass of any geometry and the data gradient: a grid of output pixels, each the sum over
//! channels and taps of an input at a fixed offset. With a stride, the data gradient is one such sum for each phase of
//! the input pixel modulo the stride.

use super::geometry::{ConvGeometry, Post};
use crate::kernels::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::kernels::isa::{Isa, multiversion};
use crate::kernels::scratch::Aligned;
use crate::kernels::{par, scratch};

/// Depth of a block (channels times taps) whose panels stay in the first-level cache.
const DEPTH: usize = 384;
/// Bytes of gathered pixels that a work item holds at once.
const HOLD: usize = 256 * 1024;

/// Where weight (group, output row, channel, tap) lies: `group * g + row * m + channel * c + taps[t].2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightStrides {
    pub g: usize,
    pub m: usize,
    pub c: usize,
}

/// A sum over taps on a grid of pixels.
pub(crate) struct TapConv {
    isa: Isa,
    n: usize,
    groups: usize,
    /// Channels of a group: read, written.
    channels: usize,
    rows: usize,
    /// Plane that is read, and the step over it from one grid pixel to the next.
    source: [usize; 2],
    step: [usize; 2],
    /// Offset down, offset right, place in the weights.
    taps: Vec<(isize, isize, usize)>,
    grid: [usize; 2],
    /// Plane that is written; grid pixel (y, x) goes to `first + y * spread`.
    target: [usize; 2],
    first: [usize; 2],
    spread: [usize; 2],
    strides: WeightStrides,
    packed: Aligned,
    /// Blocks of channels.
    blocks: usize,
}

/// Pixels of one tile that lie in one row of the grid.
#[derive(Clone, Copy, Default)]
struct Run {
    lane: usize,
    len: usize,
    image: usize,
    y: usize,
    x: usize,
}

impl TapConv {
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Self {
        let taps = (0..g.taps())
            .map(|t| {
                let (ky, kx) = (t / g.kw, t % g.kw);
                let dy = (ky * g.dilation[0]) as isize - g.pads[0] as isize;
                let dx = (kx * g.dilation[1]) as isize - g.pads[1] as isize;
                (dy, dx, t)
            })
            .collect();
        let strides = WeightStrides {
            g: g.group_out() * g.group_c() * g.taps(),
            m: g.group_c() * g.taps(),
            c: g.taps(),
        };
        Self {
            isa,
            n: g.n,
            groups: g.groups,
            channels: g.group_c(),
            rows: g.group_out(),
            source: [g.h, g.w],
            step: g.stride,
            taps,
            grid: [g.out_h(), g.out_w()],
            target: [g.out_h(), g.out_w()],
            first: [0; 2],
            spread: [1; 2],
            strides,
            packed: Aligned::default(),
            blocks: 0,
        }
        .prepare()
    }

    /// The data gradient: one sum for each phase of the input pixel modulo the stride.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Vec<Self> {
        let mut phases = Vec::new();
        let kernel = [g.kh, g.kw];
        let size = [g.h, g.w];
        // Taps that reach input pixels of this phase, as (kernel index, offset in the output).
        let reach = |axis: usize, phase: usize| -> Vec<(usize, isize)> {
            let stride = g.stride[axis] as isize;
            (0..kernel[axis])
                .filter_map(|k| {
                    let d = (phase + g.pads[axis]) as isize - (k * g.dilation[axis]) as isize;
                    (d.rem_euclid(stride) == 0).then(|| (k, d.div_euclid(stride)))
                })
                .collect()
        };
        for py in 0..g.stride[0].min(size[0]) {
            for px in 0..g.stride[1].min(size[1]) {
                let across = reach(1, px);
                let taps = reach(0, py)
                    .iter()
                    .flat_map(|&(ky, dy)| across.iter().map(move |&(kx, dx)| (dy, dx, ky * g.kw + kx)))
                    .collect();
                let phase = Self {
                    isa,
                    n: g.n,
                    groups: g.groups,
                    channels: g.group_out(),
                    rows: g.group_c(),
                    source: [g.out_h(), g.out_w()],
                    step: [1; 2],
                    taps,
                    grid: [(g.h - py).div_ceil(g.stride[0]), (g.w - px).div_ceil(g.stride[1])],
                    target: size,
                    first: [py, px],
                    spread: g.stride,
                    strides: WeightStrides {
                        g: g.group_out() * g.group_c() * g.taps(),
                        m: g.taps(),
                        c: g.group_c() * g.taps(),
                    },
                    packed: Aligned::default(),
                    blocks: 0,
                };
                phases.push(phase.prepare());
            }
        }
        phases
    }

    fn prepare(mut self) -> Self {
        let in_block = (DEPTH / self.taps.len().max(1)).max(1);
        self.blocks = self.channels.div_ceil(in_block).max(1);
        self.packed = Aligned::with_len(self.packed_len());
        self
    }

    fn packed_len(&self) -> usize {
        self.groups * self.rows * self.channels * self.taps.len()
    }

    /// Bytes kept for packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Weights in the order of the micro-kernels: group, block of channels, panel, (channel, tap), row.
    fn pack_weights(&mut self, w: &[f32]) {
        // A phase of the data gradient that no tap reaches has nothing to pack.
        if self.packed_len() == 0 {
            return;
        }
        let kernels = Kernels::of(self.isa);
        let (taps, rows, channels, blocks) = (self.taps.len(), self.rows, self.channels, self.blocks);
        let panels = kernels.panels(rows);
        let len = self.packed_len();
        let strides = self.strides;
        let tap_at: &[_] = &self.taps;
        let out = par::Shared::new(self.packed.get(len));
        let groups_per_item = (par::CHUNK / (rows * channels * taps).max(1)).clamp(1, self.groups.max(1));
        let items = self.groups.div_ceil(groups_per_item) * panels;
        par::each(items, |item| {
            let (from, panel) = (item / panels * groups_per_item, item % panels);
            let (r0, r1) = (cut(rows, panels, panel), cut(rows, panels, panel + 1));
            for g in from..self.groups.min(from + groups_per_item) {
                for b in 0..blocks {
                    let (c0, c1) = (cut(channels, blocks, b), cut(channels, blocks, b + 1));
                    let start = (g * channels + c0) * taps * rows + (c1 - c0) * taps * r0;
                    // SAFETY: each item owns its panels.
                    let to = unsafe { out.slice(start, (c1 - c0) * taps * (r1 - r0)) };
                    for (c, to) in (c0..c1).zip(to.chunks_exact_mut(taps * (r1 - r0))) {
                        for (t, to) in tap_at.iter().zip(to.chunks_exact_mut(r1 - r0)) {
                            let at = g * strides.g + c * strides.c + t.2;
                            for (r, to) in (r0..r1).zip(to) {
                                *to = w[at + r * strides.m];
                            }
                        }
                    }
                }
            }
        });
    }

    /// `y = post(sums + bias)`, or `y += sums` when `accumulate` (then without bias and post).
    pub(crate) fn run(
        &mut self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        post: Post,
        y: &mut [f32],
        accumulate: bool,
    ) {
        self.pack_weights(w);
        let kernels = Kernels::of(self.isa);
        let packed_len = self.packed_len();
        let packed: &[f32] = {
            // Reborrowed shared below: the packed weights are only read from here on.
            let p = self.packed.get(packed_len);
            // SAFETY: the buffer lives as long as `self` and is not touched until the end of this function.
            unsafe { std::slice::from_raw_parts(p.as_ptr(), p.len()) }
        };
        let this = &*self;
        let cols = kernels.cols;
        let pixels = this.n * this.grid[0] * this.grid[1];
        let tiles = pixels.div_ceil(cols);
        let taps = this.taps.len();
        let block_channels = this.channels.div_ceil(this.blocks);
        let depth = block_channels * taps;
        let hold = (HOLD / (4 * cols * depth.max(1))).clamp(1, 32);
        // At least sixteen items for each pass where there are tiles enough.
        let hold = hold.min(tiles.div_ceil(16).max(2));
        let items = tiles.div_ceil(hold);
        let panels = kernels.panels(this.rows);
        let out = par::Shared::new(y);
        let (lo, hi) = post.bounds();
        par::each(this.groups * items, |item| {
            let (g, item) = (item / items, item % items);
            let (t0, t1) = (cut(tiles, items, item), cut(tiles, items, item + 1));
            let mut runs = [Run::default(); MAX_COLS];
            scratch::with((t1 - t0) * depth * cols, |gathered| {
                for b in 0..this.blocks {
                    let (c0, c1) =
                        (cut(this.channels, this.blocks, b), cut(this.channels, this.blocks, b + 1));
                    let depth = (c1 - c0) * taps;
                    for t in t0..t1 {
                        let count = this.runs(t * cols, pixels.min((t + 1) * cols), &mut runs);
                        let to = &mut gathered[(t - t0) * depth * cols..][..depth * cols];
                        gather_run(this.isa, this, g, c0, c1, &runs[..count], x, to, cols);
                    }
                    for p in 0..panels {
                        let (r0, r1) = (cut(this.rows, panels, p), cut(this.rows, panels, p + 1));
                        let start = (g * this.channels + c0) * taps * this.rows + depth * r0;
                        let a = &packed[start..start + depth * (r1 - r0)];
                        for t in t0..t1 {
                            let from = &gathered[(t - t0) * depth * cols..][..depth * cols];
                            let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
                            // SAFETY: `a` holds depth x rows, `from` depth x cols, the tile the largest kernel's.
                            unsafe {
                                kernels.tiles[r1 - r0 - 1](
                                    depth,
                                    a.as_ptr(),
                                    1,
                                    r1 - r0,
                                    from.as_ptr(),
                                    tile.as_mut_ptr(),
                                );
                            }
                            let count = this.runs(t * cols, pixels.min((t + 1) * cols), &mut runs);
                            let last = b + 1 == this.blocks;
                            let ep = Epilogue {
                                channel: g * this.rows + r0,
                                rows: r1 - r0,
                                cols,
                                add: accumulate || b > 0,
                                lo: if last { lo } else { f32::NEG_INFINITY },
                                hi: if last { hi } else { f32::INFINITY },
                            };
                            let bias = if b == 0 { bias } else { None };
                            write_run(this.isa, this, ep, &runs[..count], &tile, bias, out);
                        }
                    }
                }
            });
        });
    }

    /// Cuts pixels `from..to` (over all images) into runs.
    #[inline(always)]
    fn runs(&self, from: usize, to: usize, runs: &mut [Run; MAX_COLS]) -> usize {
        let plane = self.grid[0] * self.grid[1];
        let (mut at, mut count) = (from, 0);
        let mut image = at / plane;
        let mut y = at % plane / self.grid[1];
        let mut x = at % self.grid[1];
        while at < to {
            let len = (self.grid[1] - x).min(to - at);
            runs[count] = Run { lane: at - from, len, image, y, x };
            count += 1;
            at += len;
            x = 0;
            y += 1;
            if y == self.grid[0] {
                y = 0;
                image += 1;
            }
        }
        count
    }
}

/// Fills `to[(channel, tap)][lane]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn gather_body<const FMA: bool>(
    c: &TapConv,
    g: usize,
    c0: usize,
    c1: usize,
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
    cols: usize,
) {
    let plane = c.source[0] * c.source[1];
    let taps = c.taps.len();
    let covered = runs.last().map_or(0, |r| r.lane + r.len);
    for (t, &(dy, dx, _)) in c.taps.iter().enumerate() {
        for r in runs {
            let iy = (r.y * c.step[0]) as isize + dy;
            // Lanes lo..hi of the run are inside the row.
            let start = (r.x * c.step[1]) as isize + dx;
            let step = c.step[1] as isize;
            let width = c.source[1] as isize;
            let (mut lo, mut hi) = (0isize, r.len as isize);
            if iy < 0 || iy >= c.source[0] as isize || start >= width {
                hi = 0;
            } else {
                if start < 0 {
                    lo = (-start + step - 1) / step;
                }
                hi = hi.min((width - start + step - 1) / step).max(0);
            }
            let (lo, hi) = (lo.min(hi) as usize, hi as usize);
            let base = ((r.image * c.groups + g) * c.channels) * plane;
            let first = if hi > lo { (iy * width + start + lo as isize * step) as usize } else { 0 };
            for ch in c0..c1 {
                let to = &mut to[((ch - c0) * taps + t) * cols + r.lane..][..r.len];
                to[..lo].fill(0.0);
                to[hi..].fill(0.0);
                if hi > lo {
                    let from = &x[base + ch * plane + first..];
                    let to = &mut to[lo..hi];
                    if step == 1 {
                        to.copy_from_slice(&from[..to.len()]);
                    } else {
                        for (to, &v) in to.iter_mut().zip(from.iter().step_by(c.step[1])) {
                            *to = v;
                        }
                    }
                }
            }
        }
    }
    if covered < cols {
        to.chunks_exact_mut(cols).for_each(|to| to[covered..].fill(0.0));
    }
}

#[derive(Clone, Copy)]
struct Epilogue {
    channel: usize,
    rows: usize,
    cols: usize,
    add: bool,
    lo: f32,
    hi: f32,
}

#[inline(always)]
fn write_body<const FMA: bool>(
    c: &TapConv,
    e: Epilogue,
    runs: &[Run],
    tile: &[f32],
    bias: Option<&[f32]>,
    out: par::Shared,
) {
    let plane = c.target[0] * c.target[1];
    let finish = |v: f32| {
        let v = if v < e.lo { e.lo } else { v };
        if v > e.hi { e.hi } else { v }
    };
    for r in 0..e.rows {
        let b = bias.map_or(0.0, |b| b[e.channel + r]);
        let row = &tile[r * e.cols..][..e.cols];
        for run in runs {
            let t = &row[run.lane..run.lane + run.len];
            let y = c.first[0] + run.y * c.spread[0];
            let x = c.first[1] + run.x * c.spread[1];
            let at = (run.image * c.groups * c.rows + e.channel + r) * plane + y * c.target[1] + x;
            // SAFETY: tiles of different items hold different pixels or channels.
            let to = unsafe { out.slice(at, (run.len - 1) * c.spread[1] + 1) };
            if c.spread[1] == 1 {
                if e.add {
                    to.iter_mut().zip(t).for_each(|(to, &t)| *to = finish(*to + (t + b)));
                } else {
                    to.iter_mut().zip(t).for_each(|(to, &t)| *to = finish(t + b));
                }
            } else {
                for (to, &t) in to.iter_mut().step_by(c.spread[1]).zip(t) {
                    *to = finish(if e.add { *to + (t + b) } else { t + b });
                }
            }
        }
    }
}

multiversion! {
    fn gather_run(c: &TapConv, g: usize, c0: usize, c1: usize, runs: &[Run], x: &[f32], to: &mut [f32], cols: usize) = gather_body;
    fn write_run(c: &TapConv, e: Epilogue, runs: &[Run], tile: &[f32], bias: Option<&[f32]>, out: par::Shared) = write_body;
}
