//! The geometry of a convolution as sums over taps.

use super::geometry::ConvGeometry;
use crate::Isa;

/// A grid of output pixels, each the sum over channels and taps of an input at a fixed offset.
///
/// The forward pass is one such grid. With a stride, the data gradient is one for each phase of the input pixel modulo
/// the stride.
#[derive(Debug)]
pub(super) struct TapGeometry {
    pub isa: Isa,
    pub n: usize,
    pub groups: usize,
    /// Channels of a group that are read.
    pub channels: usize,
    /// Channels of a group that are written: rows of the matrix of weights.
    pub rows: usize,
    /// Plane that is read.
    pub source: [usize; 2],
    /// Step in the source from one grid pixel to the next.
    pub step: [usize; 2],
    /// Offset down, offset right, place in the weights.
    pub taps: Vec<(isize, isize, usize)>,
    pub grid: [usize; 2],
    /// Plane that is written; grid pixel (y, x) goes to `first + (y, x) * spread`.
    pub target: [usize; 2],
    pub first: [usize; 2],
    pub spread: [usize; 2],
}

impl TapGeometry {
    pub(super) fn forward(g: &ConvGeometry, isa: Isa) -> Self {
        let g = g.flattened();
        let taps = (0..g.taps())
            .map(|t| {
                let (ky, kx) = (t / g.kw, t % g.kw);
                let dy = (ky * g.dilation[0]) as isize - g.pads[0] as isize;
                let dx = (kx * g.dilation[1]) as isize - g.pads[1] as isize;
                (dy, dx, t)
            })
            .collect();
        TapGeometry {
            isa,
            n: g.n,
            groups: g.groups,
            channels: g.group_c(),
            rows: g.group_out(),
            source: [g.h, g.w],
            step: g.stride,
            taps,
            grid: [g.out_h(), g.out_w()],
            target: [g.out_h(), g.out_w()],
            first: [0; 2],
            spread: [1; 2],
        }
    }

    /// The data gradient: one grid for each phase of the input pixel modulo the stride.
    pub(super) fn backward(g: &ConvGeometry, isa: Isa) -> Vec<Self> {
        let g = g.flattened();
        let mut phases = Vec::new();
        for py in 0..g.stride[0].min(g.h) {
            for px in 0..g.stride[1].min(g.w) {
                let across = taps_of_phase(&g, 1, px);
                let taps = taps_of_phase(&g, 0, py)
                    .iter()
                    .flat_map(|&(ky, dy)| across.iter().map(move |&(kx, dx)| (dy, dx, ky * g.kw + kx)))
                    .collect();
                phases.push(TapGeometry {
                    isa,
                    n: g.n,
                    groups: g.groups,
                    channels: g.group_out(),
                    rows: g.group_c(),
                    source: [g.out_h(), g.out_w()],
                    step: [1; 2],
                    taps,
                    grid: [(g.h - py).div_ceil(g.stride[0]), (g.w - px).div_ceil(g.stride[1])],
                    target: [g.h, g.w],
                    first: [py, px],
                    spread: g.stride,
                });
            }
        }
        phases
    }

    /// Whether each pixel of the grid reads the same pixel of the source and nothing else.
    pub(super) fn same_pixels(&self) -> bool {
        self.source == self.grid && self.step == [1; 2] && matches!(self.taps[..], [(0, 0, _)])
    }

    /// Number of weights.
    pub(super) fn weight_len(&self) -> usize {
        self.groups * self.rows * self.channels * self.taps.len()
    }
}

/// Taps along `axis` that reach input pixels of this phase, as (index in the kernel, offset in the output). The index
/// falls, so that offsets rise: then a tile first reads what it shares with the tile before it.
fn taps_of_phase(g: &ConvGeometry, axis: usize, phase: usize) -> Vec<(usize, isize)> {
    let stride = g.stride[axis] as isize;
    (0..[g.kh, g.kw][axis])
        .rev()
        .filter_map(|k| {
            let d = (phase + g.pads[axis]) as isize - (k * g.dilation[axis]) as isize;
            (d.rem_euclid(stride) == 0).then(|| (k, d.div_euclid(stride)))
        })
        .collect()
}
