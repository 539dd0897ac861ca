//! The weight gradient: sums over output pixels, with the taps as rows and the output channels as vector lanes.
//!
//! The output gradient is transposed once for each image, so that the channels of a pixel lie together; inputs are read
//! in place from a zero-padded copy, one broadcast for each tap. Images are cut into a number of chunks that depends on
//! the shape alone; each chunk has a partial sum, and the partial sums are added in order.

use super::geometry::ConvGeometry;
use crate::kernels::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, SumShape, cut};
use crate::kernels::gemm::pack;
use crate::kernels::isa::{Isa, multiversion};
use crate::kernels::scratch::Aligned;
use crate::kernels::{par, scratch};

/// Floats of partial sums at most, beyond two chunks.
const PARTIAL: usize = 1 << 20;

pub(crate) struct WeightGradient {
    g: ConvGeometry,
    isa: Isa,
    chunks: usize,
    /// Output channels of a group, rounded up to whole vectors.
    lanes: usize,
    /// Size of a padded input plane.
    padded: [usize; 2],
    /// Place of each row (channel, tap) in the padded planes of a group.
    offsets: Vec<usize>,
    partial: Aligned,
}

impl WeightGradient {
    pub(crate) fn new(g: &ConvGeometry, isa: Isa) -> Self {
        let kernels = Kernels::of(isa);
        let lanes = g.group_out().next_multiple_of(kernels.lanes);
        let rows = g.group_c() * g.taps();
        let padded = [g.h + g.pads[0] + g.pads[2], g.w + g.pads[1] + g.pads[3]];
        let offsets = (0..rows)
            .map(|r| {
                let (c, t) = (r / g.taps(), r % g.taps());
                (c * padded[0] + t / g.kw * g.dilation[0]) * padded[1] + t % g.kw * g.dilation[1]
            })
            .collect();
        let size = g.groups * rows * lanes;
        let chunks = (PARTIAL / size.max(1)).clamp(2, 16).min(g.n.max(1));
        WeightGradient {
            g: *g,
            isa,
            chunks,
            lanes,
            padded,
            offsets,
            partial: Aligned::with_len(chunks * size),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.partial.bytes()
    }

    pub(crate) fn run(&mut self, x: &[f32], dy: &[f32], dw: &mut [f32], accumulate: bool) {
        let g = self.g;
        let rows = self.offsets.len();
        let size = g.groups * rows * self.lanes;
        let len = self.chunks * size;
        let partial = par::Shared::new(self.partial.get(len));
        let this = &*self;
        par::each(this.chunks * g.groups, |item| {
            let (chunk, group) = (item / g.groups, item % g.groups);
            // SAFETY: each item owns its partial sums.
            let sums = unsafe { partial.slice(chunk * size + group * rows * this.lanes, rows * this.lanes) };
            this.chunk(chunk, group, x, dy, sums);
        });
        // SAFETY: all items are done; from here on the partial sums are only read.
        let sums: &[f32] = unsafe { partial.slice(0, len) };
        par::planes(dw, rows, |m, dw| {
            let (group, lane) = (m / g.group_out(), m % g.group_out());
            for (r, dw) in dw.iter_mut().enumerate() {
                let at = (group * rows + r) * this.lanes + lane;
                let mut sum = 0.0f32;
                for chunk in 0..this.chunks {
                    sum += sums[chunk * size + at];
                }
                *dw = if accumulate { *dw + sum } else { sum };
            }
        });
    }

    fn chunk(&self, chunk: usize, group: usize, x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let g = &self.g;
        let kernels = Kernels::of(self.isa);
        let (oh, ow) = (g.out_h(), g.out_w());
        let (n0, n1) = (cut(g.n, self.chunks, chunk), cut(g.n, self.chunks, chunk + 1));
        let plane = self.padded[0] * self.padded[1];
        let padded_len = g.group_c() * plane;
        let rows = self.offsets.len();
        let shape = SumShape { oh, ow, row: g.stride[0] * self.padded[1], col: g.stride[1], ldb: self.lanes };
        let panels = kernels.panels(rows);
        sums.fill(0.0);
        scratch::with(padded_len.next_multiple_of(16) + oh * ow * self.lanes, |buffer| {
            let (input, across) = buffer.split_at_mut(padded_len.next_multiple_of(16));
            for n in n0..n1 {
                let x = &x[(n * g.c + group * g.group_c()) * g.h * g.w..][..g.group_c() * g.h * g.w];
                pad_run(self.isa, g, self.padded, x, &mut input[..padded_len]);
                let from = (n * g.out_c + group * g.group_out()) * oh * ow;
                pack::columns(self.isa, dy, from, (1, oh * ow), oh * ow, g.group_out(), self.lanes, across);
                for p in 0..panels {
                    let (r0, r1) = (cut(rows, panels, p), cut(rows, panels, p + 1));
                    let offsets = &self.offsets[r0..r1];
                    let mut lane = 0;
                    while lane < self.lanes {
                        let vectors = ((self.lanes - lane) / kernels.lanes).min(2);
                        let width = vectors * kernels.lanes;
                        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
                        // SAFETY: the last place read is that of the last tap at the last pixel, which is inside the
                        // padded planes by the definition of the output size; `across` holds all pixels and lanes.
                        unsafe {
                            kernels.sums[vectors - 1][r1 - r0 - 1](
                                &shape,
                                input.as_ptr(),
                                offsets.as_ptr(),
                                across.as_ptr().add(lane),
                                tile.as_mut_ptr(),
                            );
                        }
                        for (r, tile) in tile.chunks_exact(width).take(r1 - r0).enumerate() {
                            let to = &mut sums[(r0 + r) * self.lanes + lane..][..width];
                            to.iter_mut().zip(tile).for_each(|(to, &t)| *to += t);
                        }
                        lane += width;
                    }
                }
            }
        });
    }
}

/// Copies planes into the middle of zero-padded ones.
#[inline(always)]
fn pad_body<const FMA: bool>(g: &ConvGeometry, padded: [usize; 2], x: &[f32], to: &mut [f32]) {
    let [top, left, _, right] = g.pads;
    for (x, to) in x.chunks_exact(g.h * g.w).zip(to.chunks_exact_mut(padded[0] * padded[1])) {
        to[..top * padded[1]].fill(0.0);
        to[(top + g.h) * padded[1]..].fill(0.0);
        for (x, to) in x.chunks_exact(g.w).zip(to[top * padded[1]..].chunks_exact_mut(padded[1])) {
            to[..left].fill(0.0);
            to[left..left + g.w].copy_from_slice(x);
            to[padded[1] - right..].fill(0.0);
        }
    }
}

/// Copies the middle of padded planes out, or adds it.
pub(crate) fn pad_inner(
    g: &ConvGeometry,
    padded: [usize; 2],
    from: &[f32],
    to: &mut [f32],
    accumulate: bool,
) {
    let [top, left, _, _] = g.pads;
    for (from, to) in from.chunks_exact(padded[0] * padded[1]).zip(to.chunks_exact_mut(g.h * g.w)) {
        for (from, to) in from[top * padded[1]..].chunks_exact(padded[1]).zip(to.chunks_exact_mut(g.w)) {
            let from = &from[left..left + g.w];
            if accumulate {
                to.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
            } else {
                to.copy_from_slice(from);
            }
        }
    }
}

/// Sum of each plane, in `f64`.
#[inline(always)]
fn sum_body<const FMA: bool>(x: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 16];
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += v as f64;
        }
    }
    lanes.iter().sum::<f64>() + chunks.remainder().iter().map(|&v| v as f64).sum::<f64>()
}

multiversion! {
    fn pad_run(g: &ConvGeometry, padded: [usize; 2], x: &[f32], to: &mut [f32]) = pad_body;
    fn sum_run(x: &[f32]) -> f64 = sum_body;
}

/// Gradient of the bias: the sum of `dy` over images and pixels.
pub(crate) fn bias_gradient(isa: Isa, g: &ConvGeometry, dy: &[f32], db: &mut [f32], accumulate: bool) {
    let plane = g.out_h() * g.out_w();
    let out = par::Shared::new(db);
    par::each(g.out_c, |c| {
        let sum: f64 = (0..g.n).map(|n| sum_run(isa, &dy[(n * g.out_c + c) * plane..][..plane])).sum();
        // SAFETY: each item owns element `c`.
        let db = unsafe { &mut out.slice(c, 1)[0] };
        *db = if accumulate { *db + sum as f32 } else { sum as f32 };
    });
}
