//! Data gradient as a product of the weights with the output gradient, whose columns are then added up in place
//! ("col2im").
//!
//! It does no work on padding. That is faster where the output is much smaller than the input, as for a large kernel
//! without padding; elsewhere [`TapConv`](super::taps::TapConv), which adds up in registers.

use super::geometry::ConvGeometry;
use super::weights::pad_inner;
use crate::gemm::micro::{Kernels, MAX_COLS, MAX_ROWS, cut};
use crate::gemm::pack;
use crate::isa::multiversion;
use crate::{Isa, Store};
use crate::{par, scratch};

pub(crate) struct ColumnConv {
    g: ConvGeometry,
    isa: Isa,
    padded: [usize; 2],
    /// Where each row (channel, tap) of the columns begins in the padded planes of a group.
    offsets: Vec<usize>,
}

/// Lanes `lane..lane + len` of a tile, which go to `at` and on, a column step apart.
#[derive(Clone, Copy, Default)]
struct Run {
    lane: usize,
    len: usize,
    at: usize,
}

impl ColumnConv {
    /// Whether it needs far fewer operations than sums over taps.
    pub(crate) fn suits(g: &ConvGeometry) -> bool {
        let grid = (g.h * g.w) as f64 / (g.stride[0] * g.stride[1]) as f64;
        g.group_out() >= 8 && g.taps() > 1 && grid > 1.4 * (g.out_h() * g.out_w()) as f64
    }

    pub(crate) fn new(g: &ConvGeometry, isa: Isa) -> Self {
        let padded = [g.h + g.pads[0] + g.pads[2], g.w + g.pads[1] + g.pads[3]];
        let offsets = (0..g.group_c() * g.taps())
            .map(|r| {
                let (c, t) = (r / g.taps(), r % g.taps());
                (c * padded[0] + t / g.kw * g.dilation[0]) * padded[1] + t % g.kw * g.dilation[1]
            })
            .collect();
        ColumnConv { g: *g, isa, padded, offsets }
    }

    pub(crate) fn run(&self, w: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
        let g = &self.g;
        let image = g.group_c() * g.h * g.w;
        par::each_chunk(dx, image, |i, dx| self.image(i / g.groups, i % g.groups, w, dy, dx, store));
    }

    fn image(&self, n: usize, group: usize, w: &[f32], dy: &[f32], dx: &mut [f32], store: Store) {
        let g = &self.g;
        let kernels = Kernels::of(self.isa);
        let cols = kernels.cols;
        let (depth, rows) = (g.group_out(), self.offsets.len());
        let (ow, pixels) = (g.out_w(), g.out_h() * g.out_w());
        let panels = kernels.panels(rows);
        let w = &w[group * depth * rows..][..depth * rows];
        let planes = g.group_c() * self.padded[0] * self.padded[1];
        let mut tile = [0.0f32; MAX_ROWS * MAX_COLS];
        scratch::with(planes.next_multiple_of(16) + depth * cols, |buffer| {
            let (sums, packed) = buffer.split_at_mut(planes.next_multiple_of(16));
            sums.fill(0.0);
            for first in (0..pixels).step_by(cols) {
                let width = cols.min(pixels - first);
                let from = (n * g.out_c + group * depth) * pixels + first;
                pack::columns(self.isa, dy, from, (pixels, 1), depth, width, cols, packed);
                let mut runs = [Run::default(); MAX_COLS];
                let mut count = 0;
                let mut p = first;
                while p < first + width {
                    let len = (ow - p % ow).min(first + width - p);
                    let at = p / ow * g.stride[0] * self.padded[1] + p % ow * g.stride[1];
                    runs[count] = Run { lane: p - first, len, at };
                    count += 1;
                    p += len;
                }
                for p in 0..panels {
                    let (r0, r1) = (cut(rows, panels, p), cut(rows, panels, p + 1));
                    // SAFETY: row r of A at depth k is `w[k * rows + r]`, inside; `packed` and `tile` are large enough.
                    unsafe {
                        let kernel = kernels.tiles[r1 - r0 - 1];
                        kernel(depth, w.as_ptr().add(r0), 1, rows, packed.as_ptr(), tile.as_mut_ptr());
                    }
                    add_run(self.isa, &tile, cols, &self.offsets[r0..r1], &runs[..count], g.stride[1], sums);
                }
            }
            pad_inner(g, self.padded, sums, dx, store);
        });
    }
}

#[inline(always)]
fn add_body<const FMA: bool>(
    tile: &[f32],
    cols: usize,
    offsets: &[usize],
    runs: &[Run],
    step: usize,
    sums: &mut [f32],
) {
    for (tile, &offset) in tile.chunks_exact(cols).zip(offsets) {
        for run in runs {
            let from = &tile[run.lane..run.lane + run.len];
            let to = &mut sums[offset + run.at..][..(run.len - 1) * step + 1];
            if step == 1 && run.len == 8 {
                // The usual short row, without a loop.
                let (to, from): (&mut [f32; 8], &[f32; 8]) =
                    (to.try_into().expect("eight"), from.try_into().expect("eight"));
                for i in 0..8 {
                    to[i] += from[i];
                }
            } else if step == 1 {
                to.iter_mut().zip(from).for_each(|(to, &v)| *to += v);
            } else {
                to.iter_mut().step_by(step).zip(from).for_each(|(to, &v)| *to += v);
            }
        }
    }
}

multiversion! {
    fn add_run(tile: &[f32], cols: usize, offsets: &[usize], runs: &[Run], step: usize, sums: &mut [f32]) = add_body;
}
