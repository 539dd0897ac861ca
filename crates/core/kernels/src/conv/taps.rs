//! Convolution as a product of packed weights with tiles of pixels that are gathered tap by tap ("implicit GEMM").
//!
//! One form serves the forward pass of any geometry and the data gradient: a grid of output pixels, each the sum over
//! channels and taps of an input at a fixed offset. With a stride, the data gradient is one such sum for each phase of
//! the input pixel modulo the stride.

use super::gather::{Epilogue, Place};
use super::geometry::{ConvGeometry, Post};
use super::straight::{Finish, Straight};
use crate::Isa;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::scratch::Aligned;
use crate::{par, scratch};

/// Depth of a block (channels times taps) whose panels stay in the first-level cache.
const DEPTH: usize = 384;
/// Tiles of a work item: enough to find its weights in cache after the first.
const HOLD: usize = 16;

/// Where weight (group, output row, channel, tap) lies: `group * g + row * m + channel * c + taps[t].2`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WeightStrides {
    pub g: usize,
    pub m: usize,
    pub c: usize,
}

/// A sum over taps on a grid of pixels.
pub(crate) struct TapConv {
    pub(super) isa: Isa,
    pub(super) n: usize,
    pub(super) groups: usize,
    /// Channels of a group: read, written.
    pub(super) channels: usize,
    pub(super) rows: usize,
    /// Plane that is read, and the step over it from one grid pixel to the next.
    pub(super) source: [usize; 2],
    pub(super) step: [usize; 2],
    /// Offset down, offset right, place in the weights.
    pub(super) taps: Vec<(isize, isize, usize)>,
    pub(super) grid: [usize; 2],
    /// Plane that is written; grid pixel (y, x) goes to `first + y * spread`.
    pub(super) target: [usize; 2],
    pub(super) first: [usize; 2],
    pub(super) spread: [usize; 2],
    pub(super) strides: WeightStrides,
    pub(super) packed: Aligned,
    /// Blocks of channels.
    pub(super) blocks: usize,
    /// Set where tiles are read without gathering.
    pub(super) straight: Option<Straight>,
}

impl TapConv {
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Self {
        let g = g.flattened();
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
            straight: None,
        }
        .prepare()
    }

    /// The data gradient: one sum for each phase of the input pixel modulo the stride.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Vec<Self> {
        let g = g.flattened();
        let mut phases = Vec::new();
        let kernel = [g.kh, g.kw];
        let size = [g.h, g.w];
        // Taps that reach input pixels of this phase, as (kernel index, offset in the output).
        let reach = |axis: usize, phase: usize| -> Vec<(usize, isize)> {
            let stride = g.stride[axis] as isize;
            // Downwards, so that offsets rise: then a tile reads what it shares with the one before first.
            (0..kernel[axis])
                .rev()
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
                    straight: None,
                };
                phases.push(phase.prepare());
            }
        }
        phases
    }

    fn prepare(mut self) -> Self {
        let in_block = (DEPTH / self.taps.len().max(1)).max(1);
        self.straight = Straight::of(&self);
        self.blocks = if self.straight.is_some() { 1 } else { self.channels.div_ceil(in_block).max(1) };
        self.packed = Aligned::with_len(self.packed_len());
        self
    }

    fn packed_len(&self) -> usize {
        self.groups * self.rows * self.channels * self.taps.len()
    }

    /// Bytes kept for packed weights.
    pub(crate) fn bytes(&self) -> usize {
        self.packed.bytes() + self.straight.as_ref().map_or(0, Straight::bytes)
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

    /// `y = post(sums + bias)`, or `y = post(y + sums + bias)` when `accumulate`.
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
        let mut packed = std::mem::take(&mut self.packed);
        self.sums(packed.get(self.packed_len()), x, bias, post, y, accumulate);
        self.packed = packed;
    }

    fn sums(
        &self,
        packed: &[f32],
        x: &[f32],
        bias: Option<&[f32]>,
        post: Post,
        y: &mut [f32],
        accumulate: bool,
    ) {
        let kernels = Kernels::of(self.isa);
        let cols = kernels.cols;
        let pixels = self.n * self.grid[0] * self.grid[1];
        let tiles = pixels.div_ceil(cols);
        let taps = self.taps.len();
        let items = tiles.div_ceil(HOLD).max(16usize.div_ceil(self.groups)).min(tiles);
        let panels = kernels.panels(self.rows);
        let out = par::Shared::new(y);
        let (lo, hi) = post.bounds();
        par::each(self.groups * items, |item| {
            let (g, item) = (item / items, item % items);
            let (t0, t1) = (cut(tiles, items, item), cut(tiles, items, item + 1));
            if let Some(straight) = &self.straight {
                let finish = Finish { bias, add: accumulate, bounds: (lo, hi) };
                return straight.run(self, (g, t0..t1), packed, x, finish, out);
            }
            let mut place = Place::default();
            let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
            scratch::with(self.channels.div_ceil(self.blocks) * taps * cols, |gathered| {
                for b in 0..self.blocks {
                    let (c0, c1) =
                        (cut(self.channels, self.blocks, b), cut(self.channels, self.blocks, b + 1));
                    let depth = (c1 - c0) * taps;
                    let gathered = &mut gathered[..depth * cols];
                    let last = b + 1 == self.blocks;
                    for t in t0..t1 {
                        place.find(self, t * cols, pixels.min((t + 1) * cols));
                        place.gather(self, [g, c0, c1], x, gathered, cols);
                        for p in 0..panels {
                            let (r0, r1) = (cut(self.rows, panels, p), cut(self.rows, panels, p + 1));
                            let start = (g * self.channels + c0) * taps * self.rows + depth * r0;
                            let a = &packed[start..start + depth * (r1 - r0)];
                            let kernel = kernels.tiles[r1 - r0 - 1];
                            // SAFETY: `a` holds depth x rows, `gathered` depth x cols, the tile the largest kernel's.
                            unsafe {
                                kernel(depth, a.as_ptr(), 1, r1 - r0, gathered.as_ptr(), tile.as_mut_ptr());
                            }
                            let ep = Epilogue {
                                channel: g * self.rows + r0,
                                rows: r1 - r0,
                                cols,
                                add: accumulate || b > 0,
                                lo: if last { lo } else { f32::NEG_INFINITY },
                                hi: if last { hi } else { f32::INFINITY },
                            };
                            place.write(self, ep, &tile, if b == 0 { bias } else { None }, out);
                        }
                    }
                }
            });
        });
    }
}
