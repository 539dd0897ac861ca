//! Tiles of output pixels of square kernels, and the input that they read.

use super::transforms::{PRODUCTS, Transforms};
use crate::Isa;
use crate::conv::geometry::ConvGeometry;
use crate::gemm::pack;

/// Floats of transformed input and output that a work item holds: about what the second-level cache does.
const HOLD: usize = 160 * 1024;
/// Work items wanted.
const ITEMS: usize = 8;
/// Floats between one product's matrix and the next beyond its size, so that the 36 do not fall on the same cache lines.
pub(super) const APART: usize = 16;
/// A grid of tiles: of which planes, and where they lie in the padded input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub t: &'static Transforms,
    pub n: usize,
    /// Plane that is read, and the zeros above and left of it.
    pub source: [usize; 2],
    pub before: [usize; 2],
    /// Plane that is cut into tiles, and the number of tiles.
    pub target: [usize; 2],
    pub tiles: [usize; 2],
}

/// Consecutive lines of tiles of one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub image: usize,
    pub first: usize,
    pub lines: usize,
    /// Tiles of the item before it.
    pub tile: usize,
}

impl Grid {
    pub(super) fn new(
        t: &'static Transforms,
        n: usize,
        source: [usize; 2],
        before: [usize; 2],
        target: [usize; 2],
    ) -> Self {
        Grid { t, n, source, before, target, tiles: target.map(|v| v.div_ceil(t.out)) }
    }

    pub(super) fn lines(&self) -> usize {
        self.n * self.tiles[0]
    }

    /// Lines `from..to` image by image.
    pub(super) fn runs(self, from: usize, to: usize) -> impl Iterator<Item = Run> {
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

    /// Whether there are enough tiles to outweigh the transform of the weights, and enough of their pixels exist.
    pub(super) fn suits(&self) -> bool {
        let [h, w] = self.target;
        let tiles = self.tiles[0] * self.tiles[1];
        // A plane of 14 x 14 alone has 16: direct sums, which fill their tiles better there, win with wide vectors.
        let least = if self.t.lanes < 16 { 16 } else { 17 };
        self.n * tiles >= least && 2 * h * w >= self.t.out * self.t.out * tiles
    }

    /// Lines for each item, with `channels` channels transformed in all.
    pub(super) fn lines_of_item(&self, channels: usize) -> usize {
        let tiles = (HOLD / (PRODUCTS * channels)).clamp(24, 128);
        (tiles / self.tiles[1]).clamp(1, self.lines().div_ceil(ITEMS).max(1))
    }

    /// Copies `size` pixels of each line of tiles of a run, from `used` planes of `x` at `base` on, so that the channels of
    /// a pixel are contiguous; zeros outside the plane.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn channels_last(
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
pub(super) fn block(vector: usize, padded: usize, lanes: usize) -> (usize, usize, usize) {
    let start = vector / 2 * 2 * lanes;
    (start, (2 * lanes).min(padded - start), vector % 2 * lanes)
}

/// The transforms for a convolution that they can compute.
pub(super) fn transforms(g: &ConvGeometry, isa: Isa) -> Option<&'static Transforms> {
    let shape = g.kh == g.kw && g.stride == [1; 2] && g.dilation == [1; 2];
    let fits = shape && g.pads.iter().all(|&p| p < g.kh) && g.group_c().min(g.group_out()) >= 12;
    Transforms::of(isa, g.kh).filter(|_| fits && g.out_len() > 0)
}

/// Transforms the lines of a run by `transform`; `pixels` holds them channels-last, `width` to a row. The vector goes to channel
/// `at` of tiles of `depth` channels.
#[allow(clippy::too_many_arguments)]
pub(super) fn inputs(
    t: &Transforms,
    transform: unsafe fn(usize, *const f32, usize, *mut f32, usize, usize),
    run: Run,
    pixels: &[f32],
    [width, across]: [usize; 2],
    to: &mut [f32],
    [depth, at]: [usize; 2],
    step: usize,
) {
    let row = width * t.lanes;
    // A tile of inputs reads as many more rows than columns as it overlaps with the next.
    let rows = t.out * run.lines + (width - t.out * across);
    assert!(rows * row <= pixels.len());
    for line in 0..run.lines {
        let at = (run.tile + line * across) * depth + at;
        assert!(at + (across - 1) * depth + (PRODUCTS - 1) * step + t.lanes <= to.len());
        // SAFETY: the line's rows and its tiles' products are inside by the assertions.
        unsafe {
            transform(
                across,
                pixels.as_ptr().add(t.out * line * row),
                row,
                to.as_mut_ptr().add(at),
                depth,
                step,
            );
        }
    }
}
