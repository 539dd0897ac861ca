//! The weight gradient: sums over output pixels, with the taps as rows and the output channels as vector lanes.
//!
//! The output gradient is transposed once for each image, so that the channels of a pixel are contiguous; inputs are read
//! in place from a zero-padded copy, one broadcast for each tap. Images are cut into a number of chunks that depends on
//! the shape alone; each chunk has a partial sum, and the partial sums are added in order.

use super::geometry::ConvGeometry;
use crate::Buffer;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, SumShape, cut};
use crate::gemm::pack;
use crate::isa::multiversion;
use crate::reduce::sum_run;
use crate::{Isa, Store};
use crate::{par, scratch};

/// Floats of partial sums at most, beyond one chunk.
const PARTIAL: usize = 1 << 20;
/// Work items wanted.
const ITEMS: usize = 16;
/// Floats of inputs and output gradients that are worked on together.
const HOLD: usize = 160 * 1024;

pub(crate) struct DirectWeights {
    g: ConvGeometry,
    isa: Isa,
    chunks: usize,
    /// Output channels of a group, rounded up to whole vectors.
    lanes: usize,
    /// Parts into which the blocks of lanes are cut.
    parts: usize,
    /// Images that are summed up in registers before the partial sum is touched.
    images: usize,
    /// Size of a padded input plane.
    padded: [usize; 2],
    /// Place of each row (channel, tap) in the padded planes of a group.
    offsets: Vec<usize>,
    /// For each chunk, group and block of lanes: rows, then lanes.
    partial: Buffer,
}

impl DirectWeights {
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
        let chunks = (PARTIAL / size.max(1)).clamp(1, ITEMS).min(g.n.max(1));
        let parts = ITEMS.div_ceil(chunks * g.groups).min(lanes.div_ceil(kernels.cols));
        let image = g.group_c() * padded[0] * padded[1] + g.out_h() * g.out_w() * lanes.div_ceil(parts);
        DirectWeights {
            g: *g,
            isa,
            chunks,
            lanes,
            parts,
            images: (HOLD / image.max(1)).clamp(1, g.n.div_ceil(chunks).max(1)),
            padded,
            offsets,
            partial: Buffer::zeros(chunks * size),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.partial.bytes()
    }

    pub(crate) fn run(&mut self, x: &[f32], dy: &[f32], dw: &mut [f32], store: Store) {
        let mut partial = std::mem::take(&mut self.partial);
        let len = self.chunks * self.g.groups * self.offsets.len() * self.lanes;
        self.sums(x, dy, dw, store, &mut partial[..len]);
        self.partial = partial;
    }

    fn sums(&self, x: &[f32], dy: &[f32], dw: &mut [f32], store: Store, partial: &mut [f32]) {
        let (g, rows) = (&self.g, self.offsets.len());
        let cols = Kernels::of(self.isa).cols;
        let group_size = rows * self.lanes;
        let blocks = self.lanes.div_ceil(cols);
        let shared = par::Shared::new(partial);
        par::each(self.chunks * g.groups * self.parts, |item| {
            let (group, part) = (item / self.parts, item % self.parts);
            let lane = |i| (cut(blocks, self.parts, i) * cols).min(self.lanes);
            let (l0, l1) = (lane(part), lane(part + 1));
            // SAFETY: each item owns its partial sums.
            let sums = unsafe { shared.slice(group * group_size + rows * l0, rows * (l1 - l0)) };
            self.chunk(group / g.groups, group % g.groups, [l0, l1], x, dy, sums);
        });
        let partial: &[f32] = partial;
        let out = par::Shared::new(dw);
        // Partial sums are added in the order of their chunks, and transposed to the layout of the weights.
        const STEP: usize = 64;
        let steps = rows.div_ceil(STEP);
        par::each(g.groups * blocks * steps, |item| {
            let (group, block, step) = (item / steps / blocks, item / steps % blocks, item % steps);
            let (l0, r0) = (block * cols, step * STEP);
            let (width, height) = (cols.min(self.lanes - l0), STEP.min(rows - r0));
            scratch::with(STEP * cols, |sum| {
                let sum = &mut sum[..height * width];
                for chunk in 0..self.chunks {
                    let at = (chunk * g.groups + group) * group_size + rows * l0 + r0 * width;
                    let from = &partial[at..at + sum.len()];
                    if chunk == 0 {
                        sum.copy_from_slice(from);
                    } else {
                        sum.iter_mut().zip(from).for_each(|(s, &v)| *s += v);
                    }
                }
                for l in 0..width.min(g.group_out() - l0) {
                    // SAFETY: each item owns its rows of its output channels.
                    let dw = unsafe { out.slice((group * g.group_out() + l0 + l) * rows + r0, height) };
                    for (dw, s) in dw.iter_mut().zip(sum[l..].iter().step_by(width)) {
                        store.put(dw, *s);
                    }
                }
            });
        });
    }

    /// Sums of one chunk of images for lanes `l0..l1` of a group.
    fn chunk(
        &self,
        chunk: usize,
        group: usize,
        [l0, l1]: [usize; 2],
        x: &[f32],
        dy: &[f32],
        sums: &mut [f32],
    ) {
        let g = &self.g;
        let kernels = Kernels::of(self.isa);
        let pixels = g.out_h() * g.out_w();
        let (n0, n1) = (cut(g.n, self.chunks, chunk), cut(g.n, self.chunks, chunk + 1));
        let planes = g.group_c() * self.padded[0] * self.padded[1];
        let rows = self.offsets.len();
        let panels = kernels.panels(rows);
        sums.fill(0.0);
        let input_len = (self.images * planes).next_multiple_of(16);
        scratch::with(input_len + self.images * pixels * (l1 - l0), |buffer| {
            let (input, across) = buffer.split_at_mut(input_len);
            for first in (n0..n1).step_by(self.images) {
                let images = self.images.min(n1 - first);
                for i in 0..images {
                    let from = ((first + i) * g.c + group * g.group_c()) * g.h * g.w;
                    let x = &x[from..from + g.group_c() * g.h * g.w];
                    pad_run(self.isa, g, self.padded, x, &mut input[i * planes..(i + 1) * planes]);
                }
                for lane in (l0..l1).step_by(kernels.cols) {
                    let width = kernels.cols.min(l1 - lane);
                    // Pixels of all images one after the other, the channels of a pixel together.
                    let across = &mut across[(lane - l0) * images * pixels..][..width * images * pixels];
                    let used = width.min(g.group_out() - lane);
                    for (i, to) in across.chunks_exact_mut((pixels * width).max(1)).enumerate() {
                        let from = ((first + i) * g.out_c + group * g.group_out() + lane) * pixels;
                        pack::columns(self.isa, dy, from, (1, pixels), pixels, used, width, to);
                    }
                    let shape = SumShape {
                        images,
                        image: planes,
                        oh: g.out_h(),
                        ow: g.out_w(),
                        row: g.stride[0] * self.padded[1],
                        col: g.stride[1],
                        ldb: width,
                    };
                    let kernel = &kernels.sums[width / kernels.lanes - 1];
                    let sums = &mut sums[rows * (lane - l0)..][..rows * width];
                    for p in 0..panels {
                        let (r0, r1) = (cut(rows, panels, p), cut(rows, panels, p + 1));
                        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
                        // SAFETY: the last place read is that of the last tap at the last pixel of the last image,
                        // inside the padded planes by the definition of the output size; `across` holds all pixels.
                        unsafe {
                            kernel[r1 - r0 - 1](
                                &shape,
                                input.as_ptr(),
                                self.offsets[r0..r1].as_ptr(),
                                across.as_ptr(),
                                tile.as_mut_ptr(),
                            );
                        }
                        let to = &mut sums[r0 * width..r1 * width];
                        to.iter_mut().zip(&tile).for_each(|(to, &t)| *to += t);
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
pub(crate) fn pad_inner(g: &ConvGeometry, padded: [usize; 2], from: &[f32], to: &mut [f32], store: Store) {
    let [top, left, _, _] = g.pads;
    for (from, to) in from.chunks_exact(padded[0] * padded[1]).zip(to.chunks_exact_mut(g.h * g.w)) {
        for (from, to) in from[top * padded[1]..].chunks_exact(padded[1]).zip(to.chunks_exact_mut(g.w)) {
            store.put_all(to, &from[left..left + g.w]);
        }
    }
}

multiversion! {
    fn pad_run(g: &ConvGeometry, padded: [usize; 2], x: &[f32], to: &mut [f32]) = pad_body;
}

/// Gradient of the bias: the sum of `dy` over images and pixels.
pub(crate) fn bias_gradient(isa: Isa, g: &ConvGeometry, dy: &[f32], db: &mut [f32], store: Store) {
    let plane = g.out_h() * g.out_w();
    let out = par::Shared::new(db);
    par::each(g.out_c, |c| {
        let sum: f64 = (0..g.n).map(|n| sum_run(isa, &dy[(n * g.out_c + c) * plane..][..plane])).sum();
        // SAFETY: each item owns element `c`.
        let db = unsafe { &mut out.slice(c, 1)[0] };
        store.put(db, sum as f32);
    });
}
