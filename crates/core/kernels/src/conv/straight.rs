//! Implicit GEMM without gathering: tiles of contiguous pixels are read in place.
//!
//! Where the pixels of a tile are contiguous in their plane, the inputs of each tap and vector are contiguous too, except
//! for lanes beyond the border: a masked load reads them from the plane, nothing is copied into a panel first, and sums go
//! from registers to the output. This is faster where few output channels share what a gather would have copied, as in
//! the thin layers of a decomposed network.

use std::ops::Range;

use super::finish::Finish;
#[cfg(target_arch = "x86_64")]
use super::finish::store_rows;
use super::panels::{Panel, Weights};
use super::tap_geometry::TapGeometry;
use crate::Isa;
use crate::gemm::micro::Kernels;
use crate::par;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Masked};

/// Panels of rows beyond which a gathered tile is reused often enough to pay.
const PANELS: usize = 8;
/// Deepest sum (channels times taps) whose weights stay in the first-level cache.
const DEPTH: usize = 768;
/// Most views that a table keeps.
const TABLE: usize = 1 << 14;

/// The inputs of one tap for the two vectors of a tile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// Lanes whose input lies inside the plane.
    masks: [u16; 2],
    /// Offset of lane 0 in the plane, where it may lie outside.
    at: [i32; 2],
}

/// The views of all taps of all tiles of a plane.
#[derive(Debug)]
pub(super) struct Straight {
    views: Vec<View>,
    tiles: usize,
}

impl Straight {
    /// The views of `c`; none where a tile spans two images, the inputs of a vector are not contiguous, or gathering is
    /// faster.
    pub(super) fn of(c: &TapGeometry) -> Option<Self> {
        let kernels = Kernels::of(c.isa);
        let (lanes, cols) = (kernels.lanes, kernels.cols);
        let [height, width] = c.grid;
        let pixels = height * width;
        let tiles = pixels / cols;
        let wide = !runner(c.isa).is_empty();
        let whole = pixels.is_multiple_of(cols) && c.step[1] == 1 && c.spread == [1; 2] && c.grid == c.target;
        let thin = kernels.panels(c.rows) <= PANELS && c.channels * c.taps.len() <= DEPTH;
        let small =
            tiles.saturating_mul(c.taps.len()) <= TABLE && i32::try_from(c.source[0] * c.source[1]).is_ok();
        if !(wide && whole && thin && small) {
            return None;
        }
        let mut views = Vec::with_capacity(tiles * c.taps.len());
        for tile in 0..tiles {
            for &(dy, dx, _) in &c.taps {
                let mut view = View::default();
                for half in 0..2 {
                    for lane in 0..lanes {
                        let pixel = tile * cols + half * lanes + lane;
                        let y = (pixel / width * c.step[0]) as isize + dy;
                        let x = (pixel % width) as isize + dx;
                        let [h, w] = c.source.map(|v| v as isize);
                        if y < 0 || y >= h || x < 0 || x >= w {
                            continue;
                        }
                        let at = (y * w + x) as i32 - lane as i32;
                        if view.masks[half] != 0 && view.at[half] != at {
                            return None;
                        }
                        view.at[half] = at;
                        view.masks[half] |= 1 << lane;
                    }
                }
                views.push(view);
            }
        }
        Some(Self { views, tiles })
    }

    /// Bytes of the table.
    pub(super) fn bytes(&self) -> usize {
        self.views.len() * size_of::<View>()
    }

    /// All rows of group `g` for `tiles` (counted over all images): `y = clamp(sums + bias)`, added to what is there
    /// where `finish` says so.
    pub(super) fn run<'a>(
        &self,
        c: &TapGeometry,
        (g, tiles): (usize, Range<usize>),
        weights: Weights<'a>,
        x: &[f32],
        finish: Finish<'a>,
        out: par::Shared,
    ) {
        let kernels = Kernels::of(c.isa);
        let taps = c.taps.len();
        let [source, target] = [c.source, c.target].map(|p| p[0] * p[1]);
        let work = |(first, weights): (usize, Panel<'a>)| {
            let rows = g * c.rows + first..g * c.rows + first + weights.rows;
            let finish = finish.of(rows.clone());
            (rows, Work { weights, channels: c.channels, source, target, finish })
        };
        let panels: Vec<_> = weights.panels(kernels, g, 0..c.channels).into_iter().map(work).collect();
        let run = runner(c.isa);
        for t in tiles {
            let (image, tile) = (t / self.tiles, t % self.tiles);
            let planes = (image * c.groups + g) * c.channels * source;
            let x = &x[planes..][..c.channels * source];
            let views = &self.views[tile * taps..][..taps];
            for (rows, work) in &panels {
                let first = (image * c.groups * c.rows + rows.start) * target + tile * kernels.cols;
                let y = out.at(first, (rows.len() - 1) * target + kernels.cols);
                // SAFETY: `runner` chose a supported instruction set; the panel holds `rows` weights for each channel and
                // tap, `x` the planes, and `y` a tile of all rows. Tiles of different items hold different pixels.
                unsafe { run[rows.len() - 1](work, views, x, y) };
            }
        }
    }
}

/// Some rows of the output, and what they are made of.
struct Work<'a> {
    weights: Panel<'a>,
    channels: usize,
    /// Elements of a plane that is read, and of one that is written.
    source: usize,
    target: usize,
    finish: Finish<'a>,
}

/// Computes one panel for one tile: its views, the planes of an image and group, and where the tile of the first row
/// goes.
type Run = unsafe fn(panel: &Work<'_>, views: &[View], x: &[f32], y: *mut f32);

/// The functions for 1, 2 .. rows.
fn runner(isa: Isa) -> &'static [Run] {
    match isa.effective() {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => &AVX512,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => &AVX2,
        // `Straight::of` makes none.
        _ => &[],
    }
}

/// # Safety
/// The processor has the instruction set; `panel.weights` holds `ROWS` rows of all channels and views, `x` the planes of all
/// channels, and `y` begins `ROWS` runs of two vectors, a plane apart, that nothing else accesses.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn body<S: Masked, const ROWS: usize>(panel: &Work<'_>, views: &[View], x: &[f32], y: *mut f32) {
    // SAFETY: lanes in a mask lie inside the plane, others are not touched; the rest is the caller's promise.
    unsafe {
        let mut acc = [[S::zero(); 2]; ROWS];
        let (rs, cs) = (panel.weights.rs, panel.weights.cs);
        let next = views.len() * cs;
        for (t, view) in views.iter().enumerate() {
            if view.masks == [0; 2] {
                continue;
            }
            let masks = view.masks.map(|m| S::mask(m));
            let mut from = view.at.map(|at| x.as_ptr().wrapping_offset(at as isize));
            let mut a = panel.weights.a.as_ptr().wrapping_add(t * cs);
            // The last tap reads furthest down: prefetch what the next tile reads there. Planes are pages apart, which
            // hardware prefetchers do not cross.
            let last = t + 1 == views.len();
            for _ in 0..panel.channels {
                if last {
                    from.iter().for_each(|p| S::prefetch(p.wrapping_add(2 * S::LANES)));
                }
                let b = [S::load_masked(from[0], masks[0]), S::load_masked(from[1], masks[1])];
                for (r, acc) in acc.iter_mut().enumerate() {
                    let v = S::splat(a.wrapping_add(r * rs));
                    acc[0] = S::fma(v, b[0], acc[0]);
                    acc[1] = S::fma(v, b[1], acc[1]);
                }
                a = a.wrapping_add(next);
                from = from.map(|p| p.wrapping_add(panel.source));
            }
        }
        store_rows::<S, ROWS>(&acc, panel.finish, y, panel.target);
    }
}

#[cfg(target_arch = "x86_64")]
macro_rules! table {
    ($table:ident, $simd:ty, $feature:literal, $len:literal, [$($r:literal),*]) => {
        static $table: [Run; $len] = {
            #[target_feature(enable = $feature)]
            unsafe fn rows<const ROWS: usize>(panel: &Work<'_>, views: &[View], x: &[f32], y: *mut f32) {
                // SAFETY: passed on.
                unsafe { body::<$simd, ROWS>(panel, views, x, y) }
            }
            [$(rows::<$r>),*]
        };
    };
}

#[cfg(target_arch = "x86_64")]
table!(AVX2, Avx2, "avx2,fma", 6, [1, 2, 3, 4, 5, 6]);
#[cfg(target_arch = "x86_64")]
table!(
    AVX512,
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    12,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::ConvGeometry;

    fn straight(kernel: [usize; 2], side: usize, stride: [usize; 2], rows: usize) -> Option<Straight> {
        let [kh, kw] = kernel;
        let pads = [kh / 2, kw / 2, kh / 2, kw / 2];
        let g = ConvGeometry {
            n: 1,
            c: 4,
            h: side,
            w: side,
            out_c: rows,
            kh,
            kw,
            stride,
            pads,
            dilation: [1; 2],
            groups: 1,
        };
        Straight::of(&TapGeometry::forward(&g, Isa::detect()))
    }

    #[test]
    fn thin_layers_are_read_in_place() {
        let wide = Isa::detect() >= Isa::Avx2;
        for (kernel, side, stride) in
            [([3, 1], 8, [1, 1]), ([1, 3], 16, [1, 1]), ([3, 3], 32, [1, 1]), ([3, 1], 32, [2, 1])]
        {
            assert_eq!(straight(kernel, side, stride, 9).is_some(), wide, "{kernel:?} on {side}");
        }
        assert!(straight([3, 1], 7, [1, 1], 9).is_none(), "tiles span images");
        assert!(straight([1, 3], 32, [1, 2], 9).is_none(), "lanes lie apart");
        assert!(straight([3, 1], 32, [1, 1], 97).is_none(), "many rows share what is gathered");
    }

    #[test]
    fn borders_are_masked() {
        let Some(straight) = straight([1, 3], 16, [1, 1], 9) else { return };
        let [left, middle, right] = [0, 1, 2].map(|t| straight.views[t]);
        let lanes = Kernels::of(Isa::detect()).lanes;
        assert_eq!((left.masks[0], left.at[0]), (u16::MAX >> (16 - lanes) & !1, -1));
        assert_eq!((middle.masks[0], middle.at[0]), (u16::MAX >> (16 - lanes), 0));
        assert_eq!(right.at[0], 1);
    }
}
