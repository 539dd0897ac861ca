//! The forward pass and the data gradient with square kernels.

use std::ops::Range;

use super::grid::{APART, Grid, block, inputs, transforms};
use super::transforms::PRODUCTS;
use crate::Isa;
use crate::conv::finish::Finish;
use crate::conv::geometry::{ConvGeometry, Pass};
use crate::gemm::micro::{Kernels, SumShape, cut};
use crate::gemm::pack;
use crate::isa::multiversion;
use crate::{par, scratch};

/// Input channels whose kernels are brought into the order of the transform at once.
const CHANNELS: usize = 16;
/// Pixels that are transposed back to planes at once.
const SQUARE: usize = 64;

/// The forward pass, or the data gradient.
pub(crate) struct Winograd {
    isa: Isa,
    grid: Grid,
    groups: usize,
    /// Channels of a group: read, written.
    channels: usize,
    rows: usize,
    pass: Pass,
    /// Where the inputs of each tile of an item begin.
    offsets: Vec<usize>,
    lines: usize,
}

impl Winograd {
    /// The forward pass, if it is of the right kind and size.
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let t = transforms(g, isa)?;
        let grid = Grid::new(t, g.n, [g.h, g.w], [g.pads[0], g.pads[1]], [g.out_h(), g.out_w()]);
        grid.suits().then(|| Self::new(g, isa, grid, Pass::Forward))
    }

    /// The data gradient, if it is of the right kind and size.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let t = transforms(g, isa)?;
        let before = [t.kernel - 1 - g.pads[0], t.kernel - 1 - g.pads[1]];
        let grid = Grid::new(t, g.n, [g.out_h(), g.out_w()], before, [g.h, g.w]);
        grid.suits().then(|| Self::new(g, isa, grid, Pass::DataGradient))
    }

    fn new(g: &ConvGeometry, isa: Isa, grid: Grid, pass: Pass) -> Self {
        let lanes = grid.t.lanes;
        let (channels, rows) = pass.channels(g);
        let depth = channels.next_multiple_of(lanes);
        let lines = grid.lines_of_item(depth + rows.next_multiple_of(lanes));
        let offsets = (0..lines * grid.tiles[1]).map(|t| t * depth).collect();
        Winograd { isa, grid, groups: g.groups, channels, rows, pass, offsets, lines }
    }

    /// Floats from one product of the transformed weights to the next.
    fn weight_step(&self) -> usize {
        self.channels * self.rows.next_multiple_of(self.grid.t.lanes) + APART
    }

    /// Transformed weights: group, product, block of output channels, channel, output channel.
    fn transform_weights(&self, w: &[f32], to: &mut [f32]) {
        let t = self.grid.t;
        let (lanes, taps) = (t.lanes, t.taps());
        let (channels, rows, step) = (self.channels, self.rows, self.weight_step());
        let vectors = rows.div_ceil(lanes);
        let out = par::Shared::new(to);
        par::each(self.groups * vectors, |item| {
            let (group, vector) = (item / vectors, item % vectors);
            let (start, width, inner) = block(vector, vectors * lanes, lanes);
            let used = lanes.min(rows - vector * lanes);
            let at = group * PRODUCTS * step + start * channels + inner;
            scratch::with(CHANNELS * taps * lanes, |kernels| {
                for c0 in (0..channels).step_by(CHANNELS) {
                    let block = c0..channels.min(c0 + CHANNELS);
                    let kernels = &mut kernels[..block.len() * taps * lanes];
                    self.kernels(w, group, vector * lanes..vector * lanes + used, block.clone(), kernels);
                    for (c, kernel) in block.zip(kernels.chunks_exact(taps * lanes)) {
                        let at = at + c * width;
                        // SAFETY: the last of 36 vectors ends within the group's weights; items write vectors of their own.
                        unsafe {
                            out.slice(at + (PRODUCTS - 1) * step, lanes);
                            (t.weights)(kernel.as_ptr(), out.ptr().add(at), step);
                        }
                    }
                }
            });
        });
    }

    /// The kernels of some output and input channels of a group: `to[(channel, tap)][output channel]`.
    fn kernels(&self, w: &[f32], group: usize, rows: Range<usize>, channels: Range<usize>, to: &mut [f32]) {
        let (taps, lanes) = (self.grid.t.taps(), self.grid.t.lanes);
        if self.pass == Pass::Forward {
            let row = self.channels * taps;
            let start = (group * self.rows + rows.start) * row + channels.start * taps;
            pack::columns(self.isa, w, start, (1, row), channels.len() * taps, rows.len(), lanes, to);
            return;
        }
        // Rotated by 180 degrees.
        to.fill(0.0);
        for (c, kernel) in channels.zip(to.chunks_exact_mut(taps * lanes)) {
            for (l, m) in rows.clone().enumerate() {
                let from = &w[((group * self.channels + c) * self.rows + m) * taps..][..taps];
                for (k, &v) in from.iter().enumerate() {
                    kernel[(taps - 1 - k) * lanes + l] = v;
                }
            }
        }
    }

    /// The sums of `x` and weights `w`, stored in `y` as `finish` says.
    pub(crate) fn run(&self, x: &[f32], w: &[f32], finish: Finish<'_>, y: &mut [f32]) {
        let lines = self.grid.lines();
        let parts = lines.div_ceil(self.lines);
        let out = par::Shared::new(y);
        scratch::with(self.groups * PRODUCTS * self.weight_step(), |u| {
            self.transform_weights(w, u);
            let u: &[f32] = u;
            par::each(self.groups * parts, |item| {
                let (group, part) = (item / parts, item % parts);
                let (from, to) = (cut(lines, parts, part), cut(lines, parts, part + 1));
                let u = &u[group * PRODUCTS * self.weight_step()..][..PRODUCTS * self.weight_step()];
                let finish = finish.of(group * self.rows..(group + 1) * self.rows);
                self.item(group, [from, to], x, u, finish, out);
            });
        });
    }

    fn item(
        &self,
        group: usize,
        [from, to]: [usize; 2],
        x: &[f32],
        u: &[f32],
        finish: Finish<'_>,
        out: par::Shared,
    ) {
        let grid = &self.grid;
        let t = grid.t;
        let (lanes, across) = (t.lanes, grid.tiles[1]);
        let (depth, padded) = (self.channels.next_multiple_of(lanes), self.rows.next_multiple_of(lanes));
        let tiles = (to - from) * across;
        let (v_step, m_step) = (tiles * depth + APART, tiles * padded + APART);
        let (width, plane) = (t.out * across + t.kernel - 1, grid.target[0] * grid.target[1]);
        let longest = (to - from).min(grid.tiles[0]);
        let nhwc = ((t.out * longest + t.kernel - 1) * width * lanes).next_multiple_of(16);
        scratch::with(PRODUCTS * (v_step + m_step) + nhwc + lanes * SQUARE, |buffer| {
            let (v, rest) = buffer.split_at_mut(PRODUCTS * v_step);
            let (m, rest) = rest.split_at_mut(PRODUCTS * m_step);
            let (nhwc, square) = rest.split_at_mut(nhwc);
            for run in grid.runs(from, to) {
                for c in (0..self.channels).step_by(lanes) {
                    let base = ((run.image * self.groups + group) * self.channels + c)
                        * grid.source[0]
                        * grid.source[1];
                    let size = [t.out * run.lines + t.kernel - 1, width];
                    grid.channels_last(self.isa, run, size, x, base, lanes.min(self.channels - c), nhwc);
                    inputs(t, t.inputs, run, nhwc, [width, across], v, [depth, c], v_step);
                }
            }
            self.products(tiles, v, v_step, u, m, m_step);
            for run in grid.runs(from, to) {
                for c in (0..self.rows).step_by(lanes) {
                    let (start, wide, inner) = block(c / lanes, padded, lanes);
                    for line in 0..run.lines {
                        let at = start * tiles + (run.tile + line * across) * wide + inner;
                        let height = t.out.min(grid.target[0] - t.out * (run.first + line));
                        let row = grid.target[1] * lanes;
                        let to = &mut nhwc[t.out * line * row..][..height * row];
                        assert!(at + (across - 1) * wide + (PRODUCTS - 1) * m_step + lanes <= m.len());
                        // SAFETY: products are inside by the assertion; `to` has `height` rows of whole pixels.
                        unsafe {
                            (t.outputs)(
                                across,
                                m.as_ptr().add(at),
                                wide,
                                m_step,
                                to.as_mut_ptr(),
                                row,
                                height,
                                grid.target[1],
                            );
                        }
                    }
                    let first = t.out * run.first * grid.target[1];
                    let pixels = (t.out * run.lines * grid.target[1]).min(plane - first);
                    let at = ((run.image * self.groups + group) * self.rows + c) * plane + first;
                    let used = lanes.min(self.rows - c);
                    let finish = finish.of(c..c + used);
                    for p in (0..pixels).step_by(SQUARE) {
                        let count = SQUARE.min(pixels - p);
                        pack::columns(self.isa, nhwc, p * lanes, (1, lanes), lanes, count, SQUARE, square);
                        finish_run(self.isa, square, used, count, finish, out, at + p, plane);
                    }
                }
            }
        });
    }

    /// For each of the 36 products: tiles x channels by channels x output channels.
    fn products(&self, tiles: usize, v: &[f32], v_step: usize, u: &[f32], m: &mut [f32], m_step: usize) {
        let kernels = Kernels::of(self.isa);
        let lanes = kernels.lanes;
        let padded = self.rows.next_multiple_of(lanes);
        let panels = kernels.panels(tiles);
        assert!(tiles <= self.offsets.len());
        for p in 0..PRODUCTS {
            let v = &v[p * v_step..][..v_step];
            for start in (0..padded).step_by(2 * lanes) {
                let width = (2 * lanes).min(padded - start);
                let shape =
                    SumShape { images: 1, image: 0, oh: 1, ow: self.channels, row: 0, col: 1, ldb: width };
                let u = &u[p * self.weight_step() + start * self.channels..][..width * self.channels];
                for panel in 0..panels {
                    let (t0, t1) = (cut(tiles, panels, panel), cut(tiles, panels, panel + 1));
                    let to = &mut m[p * m_step + start * tiles + t0 * width..][..(t1 - t0) * width];
                    // SAFETY: tile `t` reads `channels` floats at `offsets[t]`, inside `v`; `u` has `width` for each.
                    unsafe {
                        kernels.sums[width / lanes - 1][t1 - t0 - 1](
                            &shape,
                            v.as_ptr(),
                            self.offsets[t0..t1].as_ptr(),
                            u.as_ptr(),
                            to.as_mut_ptr(),
                        );
                    }
                }
            }
        }
    }
}

/// Writes rows of `count` pixels, `SQUARE` apart, to the planes of `channels` channels.
#[inline(always)]
fn finish_body<const FMA: bool>(
    square: &[f32],
    channels: usize,
    count: usize,
    f: Finish<'_>,
    out: par::Shared,
    at: usize,
    plane: usize,
) {
    let (lo, hi) = f.bounds;
    let plain = f.bias.is_none() && lo == f32::NEG_INFINITY && hi == f32::INFINITY;
    for (c, from) in square.chunks_exact(SQUARE).enumerate().take(channels) {
        // SAFETY: items write to channels and pixels of their own.
        let to = unsafe { out.slice(at + c * plane, count) };
        let b = f.bias.map_or(0.0, |b| b[c]);
        let clamp = |v: f32| {
            let v = if v < lo { lo } else { v };
            if v > hi { hi } else { v }
        };
        match (f.store.accumulates(), plain) {
            (false, true) => to.copy_from_slice(&from[..count]),
            (true, true) => to.iter_mut().zip(from).for_each(|(to, &v)| *to += v),
            (false, false) => to.iter_mut().zip(from).for_each(|(to, &v)| *to = clamp(v + b)),
            (true, false) => to.iter_mut().zip(from).for_each(|(to, &v)| *to = clamp(*to + (v + b))),
        }
    }
}

multiversion! {
    fn finish_run(square: &[f32], channels: usize, count: usize, f: Finish<'_>, out: par::Shared, at: usize, plane: usize) = finish_body;
}
