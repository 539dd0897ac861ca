//! Convolution as a product of packed weights with tiles of pixels that are gathered tap by tap ("implicit GEMM").
//!
//! It serves the forward pass of any geometry and the data gradient: see [`TapGeometry`].

use super::finish::Finish;
use super::gather::{Place, gather_all};
use super::geometry::ConvGeometry;
use super::panels::{Order, Panel, Strides, Weights};
#[cfg(target_arch = "x86_64")]
use super::product;
use super::straight::Straight;
use super::tap_geometry::TapGeometry;
use super::tile::Epilogue;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::{Isa, Store};
use crate::{par, parallel, scratch};

/// Depth of a block (channels times taps) whose panels stay in the first-level cache.
const DEPTH: usize = 384;
/// Tiles of a work item: enough to find its weights in cache after the first.
const HOLD: usize = 16;
/// Work items for each thread, at least, where there are tiles for them.
const ITEMS: usize = 4;
/// Neighbouring tiles that are gathered before any is multiplied: planes are pages apart, so that a page is better read and
/// written a few lines at a time.
const TOGETHER: usize = 8;
/// Floats of such tiles, which the second-level cache holds beside the weights.
const GATHERED: usize = 1 << 14;

/// A sum over taps on a grid of pixels.
pub(crate) struct TapConv {
    geometry: TapGeometry,
    order: Order,
    /// Set where tiles are read without gathering.
    straight: Option<Straight>,
}

impl TapConv {
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Self {
        let row = g.group_c() * g.taps();
        Self::new(TapGeometry::forward(g, isa), Strides { g: g.group_out() * row, m: row, c: g.taps() })
    }

    /// The data gradient: one sum for each phase of the input pixel modulo the stride.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Vec<Self> {
        let row = g.group_c() * g.taps();
        let strides = Strides { g: g.group_out() * row, m: g.taps(), c: row };
        TapGeometry::backward(g, isa).into_iter().map(|phase| Self::new(phase, strides)).collect()
    }

    fn new(geometry: TapGeometry, strides: Strides) -> Self {
        let in_block = (DEPTH / geometry.taps.len().max(1)).max(1);
        let straight = Straight::of(&geometry);
        let blocks = if straight.is_some() { 1 } else { geometry.channels.div_ceil(in_block).max(1) };
        TapConv { order: Order::new(&geometry, strides, blocks), geometry, straight }
    }

    /// Bytes kept for the views of tiles.
    pub(crate) fn bytes(&self) -> usize {
        self.straight.as_ref().map_or(0, Straight::bytes)
    }

    /// The sums of `x` and weights `w`, stored in `y` as `finish` says.
    pub(crate) fn run(&self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        scratch::with(self.order.copied(&self.geometry), |copy| {
            self.sums(self.order.ready(&self.geometry, w, copy), x, finish, y);
        });
    }

    fn sums(&self, weights: Weights<'_>, x: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let geometry = &self.geometry;
        let cols = Kernels::of(geometry.isa).cols;
        let pixels = geometry.n * geometry.grid[0] * geometry.grid[1];
        let tiles = pixels.div_ceil(cols);
        // A tile's sums do not depend on the item that computes it, nor do they on the number of threads.
        let wanted = (ITEMS * parallel::current_num_threads()).div_ceil(geometry.groups);
        let items = tiles.div_ceil(HOLD).max(wanted).min(tiles);
        let out = par::Shared::new(y);
        par::each(geometry.groups * items, |item| {
            let (g, item) = (item / items, item % items);
            let tiles = cut(tiles, items, item)..cut(tiles, items, item + 1);
            match &self.straight {
                Some(straight) => straight.run(geometry, (g, tiles), weights, x, finish, out),
                None => self.gathered(g, tiles, weights, x, finish, out),
            }
        });
    }

    /// Computes `tiles` of group `g` from gathered pixels, one block of channels after the other.
    fn gathered(
        &self,
        g: usize,
        tiles: std::ops::Range<usize>,
        weights: Weights<'_>,
        x: &[f32],
        finish: Finish<'_>,
        out: par::Shared,
    ) {
        let geometry = &self.geometry;
        let kernels = Kernels::of(geometry.isa);
        let cols = kernels.cols;
        let (channels, taps) = (geometry.channels, geometry.taps.len());
        let pixels = geometry.n * geometry.grid[0] * geometry.grid[1];
        let plane = geometry.target[0] * geometry.target[1];
        #[cfg(target_arch = "x86_64")]
        let products = product::of(geometry.isa);
        let deepest = channels.div_ceil(self.order.blocks) * taps * cols;
        let together = (GATHERED / deepest.max(1)).clamp(1, TOGETHER).min(tiles.len());
        let mut places: [Place; TOGETHER] = Default::default();
        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
        scratch::with(deepest * together, |gathered| {
            for b in 0..self.order.blocks {
                let (c0, c1) = (cut(channels, self.order.blocks, b), cut(channels, self.order.blocks, b + 1));
                let depth = (c1 - c0) * taps;
                let last = b + 1 == self.order.blocks;
                let bounds = if last { finish.bounds } else { (f32::NEG_INFINITY, f32::INFINITY) };
                let (bias, store) =
                    if b == 0 { (finish.bias, finish.store) } else { (None, Store::Accumulate) };
                let panels = weights.panels(kernels, g, c0..c1);
                for first in tiles.clone().step_by(together) {
                    let places = &mut places[..together.min(tiles.end - first)];
                    for (t, place) in places.iter_mut().enumerate() {
                        let from = (first + t) * cols;
                        place.find(geometry, from, pixels.min(from + cols), cols);
                    }
                    let gathered = &mut gathered[..places.len() * depth * cols];
                    gather_all(geometry, [g, c0, c1], places, x, gathered, cols);
                    for &(first, panel) in &panels {
                        let channel = g * geometry.rows + first;
                        let Panel { a, rows, rs, cs } = panel;
                        for (t, place) in places.iter().enumerate() {
                            let gathered = &gathered[t * depth * cols..][..depth * cols];
                            #[cfg(target_arch = "x86_64")]
                            if let (Some(start), Some(run)) = (place.start(geometry), products.get(rows - 1))
                            {
                                let finish = Finish { bias, bounds, store }.of(channel..channel + rows);
                                let y = out.at(start + channel * plane, (rows - 1) * plane + cols);
                                // SAFETY: the instruction set is supported; the panel has `depth` weights of each row,
                                // `gathered` depth x cols; tiles of different items hold different pixels.
                                unsafe { run(depth, panel, gathered.as_ptr(), finish, (y, plane)) };
                                continue;
                            }
                            // SAFETY: as above, and the tile is the largest kernel's.
                            unsafe {
                                let kernel = kernels.tiles[rows - 1];
                                kernel(depth, a.as_ptr(), rs, cs, gathered.as_ptr(), tile.as_mut_ptr());
                            }
                            let (lo, hi) = bounds;
                            let ep = Epilogue { channel, rows, cols, store, lo, hi };
                            place.write(geometry, ep, &tile, bias, out);
                        }
                    }
                }
            }
        });
    }
}
