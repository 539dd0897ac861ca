//! Parts of a tile of pixels.

use super::tap_geometry::TapGeometry;
use crate::Store;

/// Pixels of one tile that lie in one row of the grid.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    pub lane: usize,
    pub len: usize,
    pub image: usize,
    pub y: usize,
    pub x: usize,
}

/// How a tile of sums is stored.
#[derive(Clone, Copy)]
pub(super) struct Epilogue {
    pub channel: usize,
    pub rows: usize,
    pub cols: usize,
    pub store: Store,
    pub lo: f32,
    pub hi: f32,
}

impl Run {
    /// The lanes of this run whose source pixel, `(dy, dx)` away, exists: first lane, end, and the place of the first in
    /// its plane.
    #[inline(always)]
    pub(super) fn inside(&self, c: &TapGeometry, dy: isize, dx: isize) -> (usize, usize, usize) {
        let [height, width] = c.source.map(|v| v as isize);
        let step = c.step[1] as isize;
        let iy = (self.y * c.step[0]) as isize + dy;
        let start = (self.x * c.step[1]) as isize + dx;
        if iy < 0 || iy >= height || start >= width {
            return (0, 0, 0);
        }
        let round = |v: isize| if step == 1 { v } else { (v + step - 1) / step };
        let lo = if start < 0 { round(-start) } else { 0 };
        let hi = (self.len as isize).min(round(width - start));
        if hi <= lo {
            return (0, 0, 0);
        }
        (lo as usize, hi as usize, (iy * width + start + lo * step) as usize)
    }
}
