//! The weights of a sum over taps in the order in which tiles read them.

use std::ops::Range;

use super::tap_geometry::TapGeometry;
use crate::gemm::micro::{Kernels, cut};
use crate::par;

/// Where weight (group, output row, channel, tap) lies: `g * group + m * row + c * channel + taps[t].2`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Strides {
    pub g: usize,
    pub m: usize,
    pub c: usize,
}

/// How weights are ordered, for blocks of channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    strides: Strides,
    /// Blocks of channels.
    pub blocks: usize,
    /// Channels and taps of a row follow each other, so that rows can be read where they are.
    in_place: bool,
    rows: usize,
    channels: usize,
    taps: usize,
}

/// Weights that are ready to be read.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    order: Order,
    from: &'a [f32],
}

/// Some rows of a block of channels: weight `p` (channel and tap) of row `r` is `a[r * rs + p * cs]`.
#[derive(Clone, Copy)]
pub(super) struct Panel<'a> {
    pub a: &'a [f32],
    pub rows: usize,
    pub rs: usize,
    pub cs: usize,
}

impl Order {
    pub(super) fn new(c: &TapGeometry, strides: Strides, blocks: usize) -> Self {
        let taps = c.taps.len();
        let in_place = strides.c == taps && c.taps.iter().enumerate().all(|(i, tap)| tap.2 == i);
        Order { strides, blocks, in_place, rows: c.rows, channels: c.channels, taps }
    }

    /// Floats of the copy that [`Order::ready`] needs.
    pub(super) fn copied(&self, c: &TapGeometry) -> usize {
        if self.in_place { 0 } else { c.weight_len() }
    }

    /// The weights `w`, copied to `to` if they cannot be read in place.
    pub(super) fn ready<'a>(&self, c: &TapGeometry, w: &'a [f32], to: &'a mut [f32]) -> Weights<'a> {
        if self.in_place {
            return Weights { order: *self, from: w };
        }
        self.copy(c, w, to);
        Weights { order: *self, from: to }
    }

    /// To group, block of channels, panel, (channel, tap), row.
    fn copy(&self, c: &TapGeometry, w: &[f32], to: &mut [f32]) {
        // A phase of the data gradient that no tap reaches has nothing to copy.
        if to.is_empty() {
            return;
        }
        let (taps, rows, channels) = (self.taps, self.rows, self.channels);
        let (blocks, strides) = (self.blocks, self.strides);
        let panels = Kernels::of(c.isa).panels(rows);
        let out = par::Shared::new(to);
        let groups_per_item = (par::CHUNK / (rows * channels * taps).max(1)).clamp(1, c.groups.max(1));
        let items = c.groups.div_ceil(groups_per_item) * panels;
        par::each(items, |item| {
            let (from, panel) = (item / panels * groups_per_item, item % panels);
            let (r0, r1) = (cut(rows, panels, panel), cut(rows, panels, panel + 1));
            for g in from..c.groups.min(from + groups_per_item) {
                for b in 0..blocks {
                    let (c0, c1) = (cut(channels, blocks, b), cut(channels, blocks, b + 1));
                    let start = (g * channels + c0) * taps * rows + (c1 - c0) * taps * r0;
                    // SAFETY: each item owns its panels.
                    let to = unsafe { out.slice(start, (c1 - c0) * taps * (r1 - r0)) };
                    for (ch, to) in (c0..c1).zip(to.chunks_exact_mut(taps * (r1 - r0))) {
                        for (t, to) in c.taps.iter().zip(to.chunks_exact_mut(r1 - r0)) {
                            let at = g * strides.g + ch * strides.c + t.2;
                            for (r, to) in (r0..r1).zip(to) {
                                *to = w[at + r * strides.m];
                            }
                        }
                    }
                }
            }
        });
    }
}

impl<'a> Weights<'a> {
    /// The panels of group `g` with their first rows; `block` is a whole block of channels.
    pub(super) fn panels(&self, kernels: &Kernels, g: usize, block: Range<usize>) -> Vec<(usize, Panel<'a>)> {
        let Order { rows, .. } = self.order;
        let panels = kernels.panels(rows);
        let first = |p| cut(rows, panels, p);
        (0..panels).map(|p| (first(p), self.panel(g, block.clone(), first(p)..first(p + 1)))).collect()
    }

    fn panel(&self, g: usize, block: Range<usize>, rows: Range<usize>) -> Panel<'a> {
        let Order { strides, taps, in_place, .. } = self.order;
        let depth = block.len() * taps;
        if in_place {
            let start = g * strides.g + rows.start * strides.m + block.start * strides.c;
            let a = &self.from[start..][..(rows.len() - 1) * strides.m + depth];
            return Panel { a, rows: rows.len(), rs: strides.m, cs: 1 };
        }
        let start = (g * self.order.channels + block.start) * taps * self.order.rows + depth * rows.start;
        Panel { a: &self.from[start..][..depth * rows.len()], rows: rows.len(), rs: 1, cs: rows.len() }
    }
}
