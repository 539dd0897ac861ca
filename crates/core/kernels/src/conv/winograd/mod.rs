//! Convolution with stride 1 by Winograd's minimal filtering: 36 products for 4 x 4 output pixels of a 3 x 3 kernel, where the
//! definition has 144, and 36 for 2 x 2 of a 5 x 5 kernel, where it has 100.
//!
//! Tiles of output pixels overlap in inputs of 6 x 6. A work item takes some lines of tiles; their input, turned so
//! that the channels of a pixel lie together, goes through the transform; then 36 matrix products (tiles x channels by
//! channels x output channels) are summed in registers and transformed back. The data gradient is the same with weights transposed
//! and turned, the weight gradient is in [`gradient`]; kernels of one row or column are in [`lines`]. The error is larger than that of direct sums (`docs/kernels.md`).

mod gradient;
mod lines;
mod transforms;

pub(crate) use gradient::WinogradWeights;
pub(crate) use lines::Lines;

use super::geometry::{ConvGeometry, Post};
use crate::Isa;
use crate::gemm::micro::{Kernels, SumShape, cut};
use crate::gemm::pack;
use crate::isa::multiversion;
use crate::{par, scratch};
use transforms::{MAX_LANES, MAX_TAPS, PRODUCTS, Transforms};

/// Floats of transformed input and output that a work item holds: about what the second-level cache does.
const HOLD: usize = 160 * 1024;
/// Work items wanted.
const ITEMS: usize = 8;
/// Floats between one product's matrix and the next beyond its size, so that the 36 do not fall on the same cache lines.
const APART: usize = 16;
/// Pixels that are turned back at once.
const TURN: usize = 64;

/// Lines of tiles: of which planes, and where they lie in the padded input.
#[derive(Clone, Copy, Debug)]
struct Grid {
    t: &'static Transforms,
    n: usize,
    /// Plane that is read, and the zeros above and left of it.
    source: [usize; 2],
    before: [usize; 2],
    /// Plane that is cut into tiles, and the number of tiles.
    target: [usize; 2],
    tiles: [usize; 2],
}

/// Consecutive lines of tiles of one image.
#[derive(Clone, Copy, Debug)]
struct Run {
    image: usize,
    first: usize,
    lines: usize,
    /// Tiles of the item before it.
    tile: usize,
}

impl Grid {
    fn new(
        t: &'static Transforms,
        n: usize,
        source: [usize; 2],
        before: [usize; 2],
        target: [usize; 2],
    ) -> Self {
        Grid { t, n, source, before, target, tiles: target.map(|v| v.div_ceil(t.out)) }
    }

    fn lines(&self) -> usize {
        self.n * self.tiles[0]
    }

    /// Lines `from..to` image by image.
    fn runs(self, from: usize, to: usize) -> impl Iterator<Item = Run> {
        let [down, across] = self.tiles;
        let mut next = from;
        std::iter::from_fn(move || {
            let (image, first) = (next / down, next % down);
            let lines = (down - first).min(to - next);
            let run = Run { image, first, lines, tile: (next - from) * across };
            next += lines;
            (lines > 0).then_some(run)
        })
    }

    /// Whether tiles are many enough to pay for transformed weights, and full enough.
    fn suits(&self) -> bool {
        let [h, w] = self.target;
        let tiles = self.tiles[0] * self.tiles[1];
        self.n * tiles >= 16 && 2 * h * w >= self.t.out * self.t.out * tiles
    }

    /// Lines for each item, with `channels` channels transformed in all.
    fn lines_of_item(&self, channels: usize) -> usize {
        let tiles = (HOLD / (PRODUCTS * channels)).clamp(24, 128);
        (tiles / self.tiles[1]).clamp(1, self.lines().div_ceil(ITEMS).max(1))
    }

    /// Copies `size` pixels of each line of tiles of a run, from `used` planes of `x` at `base` on, so that the channels of
    /// a pixel lie together; zeros outside the plane.
    #[allow(clippy::too_many_arguments)]
    fn turn(
        &self,
        isa: Isa,
        run: Run,
        size: [usize; 2],
        x: &[f32],
        base: usize,
        used: usize,
        to: &mut [f32],
    ) {
        let lanes = self.t.lanes;
        let [h, w] = self.source;
        let left = self.before[1] * lanes;
        for (r, to) in to.chunks_exact_mut(size[1] * lanes).take(size[0]).enumerate() {
            let y = (self.t.out * run.first + r).checked_sub(self.before[0]).filter(|&y| y < h);
            let Some(y) = y else {
                to.fill(0.0);
                continue;
            };
            let (zeros, rest) = to.split_at_mut(left);
            let (line, after) = rest.split_at_mut(w * lanes);
            zeros.fill(0.0);
            pack::columns(isa, x, base + y * w, (1, h * w), w, used, lanes, line);
            after.fill(0.0);
        }
    }
}

/// Vectors of output channels in blocks of two: (start of the block, its width, place of the vector in it).
fn block(vector: usize, padded: usize, lanes: usize) -> (usize, usize, usize) {
    let start = vector / 2 * 2 * lanes;
    (start, (2 * lanes).min(padded - start), vector % 2 * lanes)
}

/// The forward pass, or the data gradient.
pub(crate) struct Winograd {
    isa: Isa,
    grid: Grid,
    groups: usize,
    /// Channels of a group: read, written.
    channels: usize,
    rows: usize,
    /// Whether this is the data gradient: weights are transposed and turned.
    turned: bool,
    /// Where the inputs of each tile of an item begin.
    offsets: Vec<usize>,
    lines: usize,
}

impl Winograd {
    /// The transforms for a convolution of the right kind.
    fn transforms(g: &ConvGeometry, isa: Isa) -> Option<&'static Transforms> {
        let shape = g.kh == g.kw && g.stride == [1; 2] && g.dilation == [1; 2];
        let fits = shape && g.pads.iter().all(|&p| p < g.kh) && g.group_c().min(g.group_out()) >= 12;
        Transforms::of(isa, g.kh).filter(|_| fits && g.out_len() > 0)
    }

    /// The forward pass, if it is of the right kind and size.
    pub(crate) fn forward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let t = Self::transforms(g, isa)?;
        let grid = Grid::new(t, g.n, [g.h, g.w], [g.pads[0], g.pads[1]], [g.out_h(), g.out_w()]);
        grid.suits().then(|| Self::new(g, isa, grid, false))
    }

    /// The data gradient, if it is of the right kind and size.
    pub(crate) fn backward(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let t = Self::transforms(g, isa)?;
        let before = [t.kernel - 1 - g.pads[0], t.kernel - 1 - g.pads[1]];
        let grid = Grid::new(t, g.n, [g.out_h(), g.out_w()], before, [g.h, g.w]);
        grid.suits().then(|| Self::new(g, isa, grid, true))
    }

    fn new(g: &ConvGeometry, isa: Isa, grid: Grid, turned: bool) -> Self {
        let lanes = grid.t.lanes;
        let (channels, rows) =
            if turned { (g.group_out(), g.group_c()) } else { (g.group_c(), g.group_out()) };
        let depth = channels.next_multiple_of(lanes);
        let lines = grid.lines_of_item(depth + rows.next_multiple_of(lanes));
        let offsets = (0..lines * grid.tiles[1]).map(|t| t * depth).collect();
        Winograd { isa, grid, groups: g.groups, channels, rows, turned, offsets, lines }
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
            let mut kernel = [0.0f32; MAX_TAPS * MAX_LANES];
            for c in 0..channels {
                for l in 0..used {
                    let m = vector * lanes + l;
                    let pair = if self.turned {
                        (group * channels + c) * rows + m
                    } else {
                        (group * rows + m) * channels + c
                    };
                    for (k, &v) in w[pair * taps..][..taps].iter().enumerate() {
                        kernel[if self.turned { taps - 1 - k } else { k } * lanes + l] = v;
                    }
                }
                let at = group * PRODUCTS * step + start * channels + c * width + inner;
                // SAFETY: the last of 36 vectors ends within the group's weights; items write vectors of their own.
                unsafe {
                    out.slice(at + (PRODUCTS - 1) * step, lanes);
                    (t.weights)(kernel.as_ptr(), out.ptr().add(at), step);
                }
            }
        });
    }

    /// `y = post(sums + bias)`, or `y = post(y + sums + bias)` when `accumulate`.
    pub(crate) fn run(
        &self,
        x: &[f32],
        w: &[f32],
        bias: Option<&[f32]>,
        post: Post,
        y: &mut [f32],
        accumulate: bool,
    ) {
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
                let bias = bias.map(|b| &b[group * self.rows..][..self.rows]);
                self.item(group, [from, to], x, u, Finish { bias, bounds: post.bounds(), accumulate }, out);
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
        let turned = ((t.out * longest + t.kernel - 1) * width * lanes).next_multiple_of(16);
        scratch::with(PRODUCTS * (v_step + m_step) + turned + lanes * TURN, |buffer| {
            let (v, rest) = buffer.split_at_mut(PRODUCTS * v_step);
            let (m, rest) = rest.split_at_mut(PRODUCTS * m_step);
            let (turned, square) = rest.split_at_mut(turned);
            for run in grid.runs(from, to) {
                for c in (0..self.channels).step_by(lanes) {
                    let base = ((run.image * self.groups + group) * self.channels + c)
                        * grid.source[0]
                        * grid.source[1];
                    let size = [t.out * run.lines + t.kernel - 1, width];
                    grid.turn(self.isa, run, size, x, base, lanes.min(self.channels - c), turned);
                    inputs(t, t.inputs, run, turned, [width, across], v, [depth, c], v_step);
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
                        let to = &mut turned[t.out * line * row..][..height * row];
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
                    let finish = Finish { bias: finish.bias.map(|b| &b[c..c + used]), ..finish };
                    for p in (0..pixels).step_by(TURN) {
                        let count = TURN.min(pixels - p);
                        pack::columns(self.isa, turned, p * lanes, (1, lanes), lanes, count, TURN, square);
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

/// Transforms the lines of a run by `transform`; `turned` holds them at `width` pixels a row. The vector goes to channel
/// `at` of tiles of `depth` channels.
#[allow(clippy::too_many_arguments)]
fn inputs(
    t: &Transforms,
    transform: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    run: Run,
    turned: &[f32],
    [width, across]: [usize; 2],
    to: &mut [f32],
    [depth, at]: [usize; 2],
    step: usize,
) {
    let row = width * t.lanes;
    // A tile of inputs reads as many more rows than columns as it overlaps with the next.
    let rows = t.out * run.lines + (width - t.out * across);
    assert!(rows * row <= turned.len());
    for line in 0..run.lines {
        let at = (run.tile + line * across) * depth + at;
        assert!(at + (across - 1) * depth + (PRODUCTS - 1) * step + t.lanes <= to.len());
        // SAFETY: the line's rows and its tiles' products are inside by the assertions.
        unsafe {
            transform(
                across,
                turned.as_ptr().add(t.out * line * row),
                row,
                to.as_mut_ptr().add(at),
                depth,
                step,
            );
        }
    }
}

/// What happens to the sums.
#[derive(Clone, Copy)]
struct Finish<'a> {
    bias: Option<&'a [f32]>,
    bounds: (f32, f32),
    accumulate: bool,
}

/// Writes rows of `count` pixels, `TURN` apart, to the planes of `channels` channels.
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
    for (c, from) in square.chunks_exact(TURN).enumerate().take(channels) {
        // SAFETY: items write to channels and pixels of their own.
        let to = unsafe { out.slice(at + c * plane, count) };
        let b = f.bias.map_or(0.0, |b| b[c]);
        let clamp = |v: f32| {
            let v = if v < lo { lo } else { v };
            if v > hi { hi } else { v }
        };
        match (f.accumulate, plain) {
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
