//! Convolution as a product of packed weights with tiles of pixels that are gathered tap by tap ("implicit GEMM").
//!
//! It serves the forward pass of any geometry and the data gradient: see [`TapGeometry`].

use std::ops::Range;

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

/// Floats of expanded weights of an item: half a megabyte.
const EXPANDED: usize = 1 << 17;

/// A sum over taps on a grid of pixels.
#[derive(Debug)]
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
        let tiles = self.tiles();
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
        tiles: Range<usize>,
        weights: Weights<'_>,
        x: &[f32],
        finish: Finish<'_>,
        out: par::Shared,
    ) {
        let geometry = &self.geometry;
        let kernels = Kernels::of(geometry.isa);
        let cols = kernels.cols;
        let deepest = geometry.channels.div_ceil(self.order.blocks) * geometry.taps.len() * cols;
        let together = (GATHERED / deepest.max(1)).clamp(1, TOGETHER).min(tiles.len());
        let mut places: [Place; TOGETHER] = Default::default();
        scratch::with(deepest * together, |gathered| {
            for b in 0..self.order.blocks {
                let (block, part) = (self.block(b), self.part(b, finish));
                let len = block.len() * geometry.taps.len() * cols;
                let panels = weights.panels(kernels, g, block.clone());
                for first in tiles.clone().step_by(together) {
                    let places = &mut places[..together.min(tiles.end - first)];
                    self.find(places, first);
                    let gathered = &mut gathered[..places.len() * len];
                    gather_all(geometry, [g, block.start, block.end], places, x, gathered, cols);
                    for &(first, panel) in &panels {
                        let panel = (g * geometry.rows + first, panel);
                        for (t, place) in places.iter().enumerate() {
                            self.multiply(place, panel, &gathered[t * len..][..len], part, out);
                        }
                    }
                }
            }
        });
    }

    /// Floats that [`TapConv::by_rows`] gathers, where it can serve.
    pub(crate) fn all_gathered(&self) -> Option<usize> {
        let geometry = &self.geometry;
        let lanes = self.tiles() * Kernels::of(geometry.isa).cols;
        let inputs = geometry.groups * geometry.channels * geometry.taps.len();
        self.straight.is_none().then(|| inputs.saturating_mul(lanes))
    }

    /// The sums with weights that are made a panel of rows at a time: `weights(rows, to)` writes those of some output channels.
    /// All tiles are gathered first. Bits are those of [`TapConv::run`].
    pub(crate) fn by_rows(
        &self,
        weights: &(impl Fn(Range<usize>, &mut [f32]) + Sync),
        x: &[f32],
        finish: Finish<'_>,
        y: &mut [f32],
    ) {
        let geometry = &self.geometry;
        let kernels = Kernels::of(geometry.isa);
        let (cols, taps, tiles) = (kernels.cols, geometry.taps.len(), self.tiles());
        let (groups, blocks, depth) = (geometry.groups, self.order.blocks, geometry.channels * taps);
        let out = par::Shared::new(y);
        scratch::with(self.all_gathered().unwrap_or(0), |gathered| {
            let shared = par::Shared::new(gathered);
            // Where the tiles from `first` on of a block begin.
            let start = |g: usize, block: &Range<usize>, first: usize| {
                ((g * geometry.channels + block.start) * tiles + block.len() * first) * taps * cols
            };
            let runs = tiles.div_ceil(TOGETHER);
            par::each(groups * blocks * runs, |item| {
                let (g, block, first) =
                    (item / runs / blocks, self.block(item / runs % blocks), item % runs * TOGETHER);
                let mut places: [Place; TOGETHER] = Default::default();
                let places = &mut places[..TOGETHER.min(tiles - first)];
                self.find(places, first);
                let len = places.len() * block.len() * taps * cols;
                // SAFETY: each item owns its tiles of its block.
                let to = unsafe { shared.slice(start(g, &block, first), len) };
                gather_all(geometry, [g, block.start, block.end], places, x, to, cols);
            });
            let gathered: &[f32] = gathered;
            let panels = kernels.panels(geometry.rows);
            // Panels that share what they read of a block, while the second-level cache holds it beside their weights.
            let most = panels.div_ceil(ITEMS * parallel::current_num_threads());
            let gang = (EXPANDED / (kernels.rows * depth).max(1)).clamp(1, most.max(1));
            let gangs = panels.div_ceil(gang);
            par::each(groups * gangs, |item| {
                let (g, first) = (item / gangs, item % gangs * gang);
                let start_of = |p| cut(geometry.rows, panels, p);
                let rows = start_of(first)..start_of(panels.min(first + gang));
                let channel = g * geometry.rows + rows.start;
                let mut place = [Place::default()];
                scratch::with(rows.len() * depth, |w| {
                    weights(channel..channel + rows.len(), w);
                    for b in 0..blocks {
                        let (block, part) = (self.block(b), self.part(b, finish));
                        let len = block.len() * taps * cols;
                        for p in first..panels.min(first + gang) {
                            let rows = start_of(p) - rows.start..start_of(p + 1) - rows.start;
                            let a = &w[rows.start * depth + block.start * taps..];
                            let panel =
                                (channel + rows.start, Panel { a, rows: rows.len(), rs: depth, cs: 1 });
                            for t in 0..tiles {
                                self.find(&mut place, t);
                                let gathered = &gathered[start(g, &block, t)..][..len];
                                self.multiply(&place[0], panel, gathered, part, out);
                            }
                        }
                    }
                });
            });
        });
    }

    fn tiles(&self) -> usize {
        let geometry = &self.geometry;
        (geometry.n * geometry.grid[0] * geometry.grid[1]).div_ceil(Kernels::of(geometry.isa).cols)
    }

    /// The channels of a block.
    fn block(&self, b: usize) -> Range<usize> {
        let (channels, blocks) = (self.geometry.channels, self.order.blocks);
        cut(channels, blocks, b)..cut(channels, blocks, b + 1)
    }

    /// How the sums of a block are stored: the bias belongs to the first, bounds to the last.
    fn part<'a>(&self, b: usize, finish: Finish<'a>) -> Finish<'a> {
        let (bias, store) = if b == 0 { (finish.bias, finish.store) } else { (None, Store::Accumulate) };
        let last = b + 1 == self.order.blocks;
        let bounds = if last { finish.bounds } else { (f32::NEG_INFINITY, f32::INFINITY) };
        Finish { bias, bounds, store }
    }

    /// Where the tiles from `first` on lie.
    fn find(&self, places: &mut [Place], first: usize) {
        let geometry = &self.geometry;
        let cols = Kernels::of(geometry.isa).cols;
        let pixels = geometry.n * geometry.grid[0] * geometry.grid[1];
        for (t, place) in places.iter_mut().enumerate() {
            let from = (first + t) * cols;
            place.find(geometry, from, pixels.min(from + cols), cols);
        }
    }

    /// Multiplies one gathered tile with a panel, whose first row is the output channel before it (over all groups).
    #[inline]
    fn multiply(
        &self,
        place: &Place,
        (channel, panel): (usize, Panel<'_>),
        gathered: &[f32],
        part: Finish<'_>,
        out: par::Shared,
    ) {
        let geometry = &self.geometry;
        let kernels = Kernels::of(geometry.isa);
        let Panel { a, rows, rs, cs } = panel;
        let depth = gathered.len() / kernels.cols;
        #[cfg(target_arch = "x86_64")]
        if let (Some(start), Some(run)) = (place.start(geometry), product::of(geometry.isa).get(rows - 1)) {
            let plane = geometry.target[0] * geometry.target[1];
            let y = out.at(start + channel * plane, (rows - 1) * plane + kernels.cols);
            // SAFETY: the instruction set is supported; the panel has `depth` weights of each row, `gathered` depth x cols;
            // tiles of different items hold different pixels or channels.
            unsafe { run(depth, panel, gathered.as_ptr(), part.of(channel..channel + rows), (y, plane)) };
            return;
        }
        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
        // SAFETY: as above, and the tile is the largest kernel's.
        unsafe { kernels.tiles[rows - 1](depth, a.as_ptr(), rs, cs, gathered.as_ptr(), tile.as_mut_ptr()) };
        let (lo, hi) = part.bounds;
        let ep = Epilogue { channel, rows, cols: kernels.cols, store: part.store, lo, hi };
        place.write(geometry, ep, &tile, part.bias, out);
    }
}
