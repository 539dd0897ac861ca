//! Convolution as a product of packed weights with tiles of pixels that are gathered tap by tap ("implicit GEMM").
//!
//! It serves the forward pass of any geometry and the data gradient: see [`TapGeometry`].

use super::finish::Finish;
use super::gather::Place;
use super::geometry::ConvGeometry;
use super::straight::Straight;
use super::tap_geometry::TapGeometry;
use super::tile::Epilogue;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::{Isa, Store};
use crate::{par, scratch};

/// Depth of a block (channels times taps) whose panels stay in the first-level cache.
const DEPTH: usize = 384;
/// Tiles of a work item: enough to find its weights in cache after the first.
const HOLD: usize = 16;

/// Where weight (group, output row, channel, tap) lies: `group * g + row * m + channel * c + taps[t].2`.
#[derive(Clone, Copy, Debug)]
struct WeightStrides {
    g: usize,
    m: usize,
    c: usize,
}

/// A sum over taps on a grid of pixels.
pub(crate) struct TapConv {
    geometry: TapGeometry,
    strides: WeightStrides,
    /// Blocks of channels.
    blocks: usize,
    /// Set where tiles are read without gathering.
    straight: Option<Straight>,
}

impl TapConv {
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Self {
        let row = g.group_c() * g.taps();
        Self::new(TapGeometry::forward(g, isa), WeightStrides { g: g.group_out() * row, m: row, c: g.taps() })
    }

    /// The data gradient: one sum for each phase of the input pixel modulo the stride.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Vec<Self> {
        let row = g.group_c() * g.taps();
        let strides = WeightStrides { g: g.group_out() * row, m: g.taps(), c: row };
        TapGeometry::backward(g, isa).into_iter().map(|phase| Self::new(phase, strides)).collect()
    }

    fn new(geometry: TapGeometry, strides: WeightStrides) -> Self {
        let in_block = (DEPTH / geometry.taps.len().max(1)).max(1);
        let straight = Straight::of(&geometry);
        let blocks = if straight.is_some() { 1 } else { geometry.channels.div_ceil(in_block).max(1) };
        TapConv { geometry, strides, blocks, straight }
    }

    /// Bytes kept for the views of tiles.
    pub(crate) fn bytes(&self) -> usize {
        self.straight.as_ref().map_or(0, Straight::bytes)
    }

    /// Weights in the order of the micro-kernels: group, block of channels, panel, (channel, tap), row.
    fn pack_weights(&self, w: &[f32], to: &mut [f32]) {
        let geometry = &self.geometry;
        // A phase of the data gradient that no tap reaches has nothing to pack.
        if to.is_empty() {
            return;
        }
        let kernels = Kernels::of(geometry.isa);
        let (taps, rows, channels) = (geometry.taps.len(), geometry.rows, geometry.channels);
        let (blocks, strides) = (self.blocks, self.strides);
        let panels = kernels.panels(rows);
        let out = par::Shared::new(to);
        let groups_per_item = (par::CHUNK / (rows * channels * taps).max(1)).clamp(1, geometry.groups.max(1));
        let items = geometry.groups.div_ceil(groups_per_item) * panels;
        par::each(items, |item| {
            let (from, panel) = (item / panels * groups_per_item, item % panels);
            let (r0, r1) = (cut(rows, panels, panel), cut(rows, panels, panel + 1));
            for g in from..geometry.groups.min(from + groups_per_item) {
                for b in 0..blocks {
                    let (c0, c1) = (cut(channels, blocks, b), cut(channels, blocks, b + 1));
                    let start = (g * channels + c0) * taps * rows + (c1 - c0) * taps * r0;
                    // SAFETY: each item owns its panels.
                    let to = unsafe { out.slice(start, (c1 - c0) * taps * (r1 - r0)) };
                    for (c, to) in (c0..c1).zip(to.chunks_exact_mut(taps * (r1 - r0))) {
                        for (t, to) in geometry.taps.iter().zip(to.chunks_exact_mut(r1 - r0)) {
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

    /// The sums of `x` and weights `w`, stored in `y` as `finish` says.
    pub(crate) fn run(&self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        scratch::with(self.geometry.weight_len(), |packed| {
            self.pack_weights(w, packed);
            self.sums(packed, x, finish, y);
        });
    }

    fn sums(&self, packed: &[f32], x: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let geometry = &self.geometry;
        let cols = Kernels::of(geometry.isa).cols;
        let pixels = geometry.n * geometry.grid[0] * geometry.grid[1];
        let tiles = pixels.div_ceil(cols);
        let items = tiles.div_ceil(HOLD).max(16usize.div_ceil(geometry.groups)).min(tiles);
        let out = par::Shared::new(y);
        par::each(geometry.groups * items, |item| {
            let (g, item) = (item / items, item % items);
            let tiles = cut(tiles, items, item)..cut(tiles, items, item + 1);
            match &self.straight {
                Some(straight) => straight.run(geometry, (g, tiles), packed, x, finish, out),
                None => self.gathered(g, tiles, packed, x, finish, out),
            }
        });
    }

    /// Computes `tiles` of group `g` from gathered pixels, one block of channels after the other.
    fn gathered(
        &self,
        g: usize,
        tiles: std::ops::Range<usize>,
        packed: &[f32],
        x: &[f32],
        finish: Finish<'_>,
        out: par::Shared,
    ) {
        let geometry = &self.geometry;
        let kernels = Kernels::of(geometry.isa);
        let cols = kernels.cols;
        let (channels, rows, taps) = (geometry.channels, geometry.rows, geometry.taps.len());
        let pixels = geometry.n * geometry.grid[0] * geometry.grid[1];
        let panels = kernels.panels(rows);
        let mut place = Place::default();
        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
        scratch::with(channels.div_ceil(self.blocks) * taps * cols, |gathered| {
            for b in 0..self.blocks {
                let (c0, c1) = (cut(channels, self.blocks, b), cut(channels, self.blocks, b + 1));
                let depth = (c1 - c0) * taps;
                let gathered = &mut gathered[..depth * cols];
                let last = b + 1 == self.blocks;
                let (lo, hi) = if last { finish.bounds } else { (f32::NEG_INFINITY, f32::INFINITY) };
                let (bias, store) =
                    if b == 0 { (finish.bias, finish.store) } else { (None, Store::Accumulate) };
                for t in tiles.clone() {
                    place.find(geometry, t * cols, pixels.min((t + 1) * cols));
                    place.gather(geometry, [g, c0, c1], x, gathered, cols);
                    for p in 0..panels {
                        let (r0, r1) = (cut(rows, panels, p), cut(rows, panels, p + 1));
                        let start = (g * channels + c0) * taps * rows + depth * r0;
                        let a = &packed[start..start + depth * (r1 - r0)];
                        // SAFETY: `a` holds depth x rows, `gathered` depth x cols, the tile the largest kernel's.
                        unsafe {
                            let kernel = kernels.tiles[r1 - r0 - 1];
                            kernel(depth, a.as_ptr(), 1, r1 - r0, gathered.as_ptr(), tile.as_mut_ptr());
                        }
                        let ep = Epilogue { channel: g * rows + r0, rows: r1 - r0, cols, store, lo, hi };
                        place.write(geometry, ep, &tile, bias, out);
                    }
                }
            }
        });
    }
}
