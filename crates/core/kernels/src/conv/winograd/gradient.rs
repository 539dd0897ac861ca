//! The weight gradient in the transformed domain: for each of the 36 products, the sum over tiles of transformed input
//! times transformed output gradient; the sums are transformed back once.

use super::grid::{APART, Grid, block, inputs, transforms};
use super::transforms::{MAX_LANES, MAX_TAPS, PRODUCTS};
use crate::Buffer;
use crate::conv::geometry::ConvGeometry;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, SumShape, cut};
use crate::isa::multiversion;
use crate::{Isa, Store};
use crate::{par, scratch};

/// Floats of partial sums at most.
const PARTIAL: usize = 1 << 20;
/// Chunks of lines wanted, and the fewest with which threads still have something to share.
const CHUNKS: [usize; 2] = [16, 4];

pub(crate) struct WinogradWeights {
    isa: Isa,
    input: Grid,
    output: Grid,
    groups: usize,
    channels: usize,
    rows: usize,
    chunks: usize,
    /// Winograd1d that are transformed together.
    lines: usize,
    /// 0, 1, 2 …: channels lie side by side.
    offsets: Vec<usize>,
    /// For each chunk and group: product, block of output channels, channel, output channel.
    partial: Buffer,
}

impl WinogradWeights {
    /// The weight gradient, if it is of the right kind and its partial sums are small.
    pub(crate) fn new(g: &ConvGeometry, isa: Isa) -> Option<Self> {
        let target = [g.out_h(), g.out_w()];
        let t = transforms(g, isa)?;
        let input = Grid::new(t, g.n, [g.h, g.w], [g.pads[0], g.pads[1]], target);
        let (channels, rows) = (g.group_c(), g.group_out());
        let padded = rows.next_multiple_of(t.lanes);
        let size = g.groups * PRODUCTS * channels * padded;
        if !input.suits() || size * CHUNKS[1] > PARTIAL {
            return None;
        }
        let chunks = (PARTIAL / size).min(CHUNKS[0]).min(input.lines());
        let lines = input.lines_of_item(channels.next_multiple_of(t.lanes) + padded);
        Some(WinogradWeights {
            isa,
            input,
            output: Grid::new(t, g.n, target, [0; 2], target),
            groups: g.groups,
            channels,
            rows,
            chunks,
            lines,
            offsets: (0..channels).collect(),
            partial: Buffer::zeros(chunks * size),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.partial.bytes()
    }

    /// Partial sums of one group.
    fn size(&self) -> usize {
        PRODUCTS * self.channels * self.rows.next_multiple_of(self.input.t.lanes)
    }

    pub(crate) fn run(&mut self, x: &[f32], dy: &[f32], dw: &mut [f32], store: Store) {
        let mut partial = std::mem::take(&mut self.partial);
        let (chunk, lines) = (self.groups * self.size(), self.input.lines());
        let all = &mut partial[..self.chunks * chunk];
        par::each_chunk(all, self.size(), |item, sums| {
            let (part, group) = (item / self.groups, item % self.groups);
            let ends = [part, part + 1].map(|i| cut(lines, self.chunks, i));
            self.chunk(group, ends, x, dy, sums);
        });
        // Chunks are added in their order.
        let (total, rest) = all.split_at_mut(chunk);
        par::planes(total, par::CHUNK.min(chunk), |i, total| {
            for other in rest.chunks_exact(chunk) {
                add_run(self.isa, &other[i * par::CHUNK.min(chunk)..][..total.len()], total);
            }
        });
        self.transform(total, dw, store);
        self.partial = partial;
    }

    fn chunk(&self, group: usize, [from, to]: [usize; 2], x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let t = self.input.t;
        let (lanes, across) = (t.lanes, self.input.tiles[1]);
        let (depth, padded) = (self.channels.next_multiple_of(lanes), self.rows.next_multiple_of(lanes));
        let most = self.lines * across;
        let (v_step, d_step) = (most * depth + APART, most * padded + APART);
        let longest = self.lines.min(self.input.tiles[0]);
        let nhwc = (t.out * longest + t.kernel - 1) * (t.out * across + t.kernel - 1) * lanes;
        sums.fill(0.0);
        scratch::with(PRODUCTS * (v_step + d_step) + nhwc, |buffer| {
            let (v, rest) = buffer.split_at_mut(PRODUCTS * v_step);
            let (d, nhwc) = rest.split_at_mut(PRODUCTS * d_step);
            for first in (from..to).step_by(self.lines) {
                let last = to.min(first + self.lines);
                let tiles = (last - first) * across;
                for run in self.input.runs(first, last) {
                    for c in (0..self.channels).step_by(lanes) {
                        let base = ((run.image * self.groups + group) * self.channels + c)
                            * self.input.source[0]
                            * self.input.source[1];
                        let size = [t.out * run.lines + t.kernel - 1, t.out * across + t.kernel - 1];
                        let used = lanes.min(self.channels - c);
                        self.input.channels_last(self.isa, run, size, x, base, used, nhwc);
                        inputs(t, t.inputs, run, nhwc, [size[1], across], v, [depth, c], v_step);
                    }
                    for c in (0..self.rows).step_by(lanes) {
                        let base = ((run.image * self.groups + group) * self.rows + c)
                            * self.output.source[0]
                            * self.output.source[1];
                        let size = [t.out * run.lines, t.out * across];
                        self.output.channels_last(
                            self.isa,
                            run,
                            size,
                            dy,
                            base,
                            lanes.min(self.rows - c),
                            nhwc,
                        );
                        let (start, width, inner) = block(c / lanes, padded, lanes);
                        let at = [width, start * tiles + inner];
                        inputs(t, t.gradients, run, nhwc, [size[1], across], d, at, d_step);
                    }
                }
                self.products(tiles, v, v_step, d, d_step, sums);
            }
        });
    }

    /// Adds, for each of the 36 products, channels x tiles by tiles x output channels.
    fn products(&self, tiles: usize, v: &[f32], v_step: usize, d: &[f32], d_step: usize, sums: &mut [f32]) {
        let kernels = Kernels::of(self.isa);
        let lanes = kernels.lanes;
        let (depth, padded) = (self.channels.next_multiple_of(lanes), self.rows.next_multiple_of(lanes));
        let panels = kernels.panels(self.channels);
        for (p, sums) in sums.chunks_exact_mut(self.channels * padded).enumerate() {
            let v = &v[p * v_step..][..tiles * depth];
            for start in (0..padded).step_by(2 * lanes) {
                let width = (2 * lanes).min(padded - start);
                let shape =
                    SumShape { images: 1, image: 0, oh: 1, ow: tiles, row: 0, col: depth, ldb: width };
                let d = &d[p * d_step + start * tiles..][..tiles * width];
                for panel in 0..panels {
                    let (c0, c1) = (cut(self.channels, panels, panel), cut(self.channels, panels, panel + 1));
                    let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
                    // SAFETY: channel `c` of every tile lies in `v`, `width` floats for each tile in `d`.
                    unsafe {
                        kernels.sums[width / lanes - 1][c1 - c0 - 1](
                            &shape,
                            v.as_ptr(),
                            self.offsets[c0..c1].as_ptr(),
                            d.as_ptr(),
                            tile.as_mut_ptr(),
                        );
                    }
                    let to = &mut sums[start * self.channels + c0 * width..][..(c1 - c0) * width];
                    add_run(self.isa, &tile[..to.len()], to);
                }
            }
        }
    }

    /// From sums of products to weights.
    fn transform(&self, total: &[f32], dw: &mut [f32], store: Store) {
        let t = self.input.t;
        let (lanes, taps) = (t.lanes, t.taps());
        let padded = self.rows.next_multiple_of(lanes);
        let (vectors, step) = (padded / lanes, self.channels * padded);
        let out = par::Shared::new(dw);
        par::each(self.groups * vectors, |item| {
            let (group, vector) = (item / vectors, item % vectors);
            let (start, width, inner) = block(vector, padded, lanes);
            let used = lanes.min(self.rows - vector * lanes);
            let sums = &total[group * self.size()..][..self.size()];
            // SAFETY: each item owns its output channels.
            let dw = unsafe {
                let one = self.channels * taps;
                out.slice((group * self.rows + vector * lanes) * one, used * one)
            };
            let mut kernel = [0.0f32; MAX_TAPS * MAX_LANES];
            for c in 0..self.channels {
                let at = start * self.channels + c * width + inner;
                assert!(at + (PRODUCTS - 1) * step + lanes <= sums.len());
                // SAFETY: 36 vectors are inside by the assertion; `kernel` holds the largest of the longest.
                unsafe { (t.weight_gradient)(sums.as_ptr().add(at), step, kernel.as_mut_ptr()) };
                for l in 0..used {
                    let to = &mut dw[(l * self.channels + c) * taps..][..taps];
                    for (k, to) in to.iter_mut().enumerate() {
                        let v = kernel[k * lanes + l];
                        store.put(to, v);
                    }
                }
            }
        });
    }
}

#[inline(always)]
fn add_body<const FMA: bool>(from: &[f32], to: &mut [f32]) {
    to.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
}

multiversion! {
    fn add_run(from: &[f32], to: &mut [f32]) = add_body;
}
