//! Gathering the pixels of a tile, and writing its results back.

#[cfg(target_arch = "x86_64")]
use super::gather_wide as wide;
use super::tap_geometry::TapGeometry;
use super::tile::{Epilogue, Run};
use crate::Isa;
use crate::gemm::micro::MAX_COLS;
use crate::isa::multiversion;
use crate::par;

/// Where the pixels of a tile lie.
#[derive(Default)]
pub(super) struct Place {
    runs: [Run; MAX_COLS],
    count: usize,
    /// Image and first pixel of the grid, where all lanes are pixels of one image.
    whole: Option<[usize; 2]>,
    #[cfg(target_arch = "x86_64")]
    out: wide::Pieces,
}

impl Place {
    /// Cuts pixels `from..to` of the grid (over all images) into runs; a tile has `cols` lanes.
    pub(super) fn find(&mut self, c: &TapGeometry, from: usize, to: usize, cols: usize) {
        let [height, width] = c.grid;
        let plane = height * width;
        self.whole =
            (to - from == cols && (to - 1) / plane == from / plane).then(|| [from / plane, from % plane]);
        let mut at = from;
        let (mut image, mut y, mut x) = (at / plane, at / width % height, at % width);
        self.count = 0;
        while at < to {
            let len = (width - x).min(to - at);
            self.runs[self.count] = Run { lane: at - from, len, image, y, x };
            self.count += 1;
            at += len;
            x = 0;
            y += 1;
            if y == height {
                y = 0;
                image += 1;
            }
        }
        #[cfg(target_arch = "x86_64")]
        if c.isa == Isa::Avx512 && c.spread[1] <= 2 {
            self.out.clear();
            let plane = c.target[0] * c.target[1];
            for r in &self.runs[..self.count] {
                let row = (c.first[0] + r.y * c.spread[0]) * c.target[1] + c.first[1] + r.x * c.spread[1];
                let at = (r.image * c.groups * c.rows * plane + row) as isize;
                self.out.add(16, r.lane, r.lane + r.len, at, c.spread[1] as isize);
            }
        }
    }

    /// Where the tile begins in the output, if its lanes are consecutive there.
    pub(super) fn start(&self, c: &TapGeometry) -> Option<usize> {
        let [image, pixel] = self.whole.filter(|_| c.grid == c.target)?;
        Some(image * c.groups * c.rows * c.target[0] * c.target[1] + pixel)
    }

    /// Fills `to[(channel, tap)][lane]` for channels `c0..c1` of group `g`; lanes without a pixel are zero.
    pub(super) fn gather(
        &self,
        c: &TapGeometry,
        [g, c0, c1]: [usize; 3],
        x: &[f32],
        to: &mut [f32],
        cols: usize,
    ) {
        let runs = &self.runs[..self.count];
        #[cfg(target_arch = "x86_64")]
        if c.step[1] <= 2 {
            match c.isa {
                // SAFETY: a convolution keeps an effective instruction set.
                Isa::Avx512 => return unsafe { wide::gather_avx512(c, [g, c0, c1], runs, x, to) },
                // SAFETY: as above.
                Isa::Avx2 => return unsafe { wide::gather_avx2(c, [g, c0, c1], runs, x, to) },
                Isa::Scalar => {}
            }
        }
        gather_run(c.isa, c, g, c0, c1, runs, x, to, cols);
    }

    /// Writes the tile: `post(sums + bias)`, or adds the sums.
    pub(super) fn write(
        &self,
        c: &TapGeometry,
        e: Epilogue,
        tile: &[f32],
        bias: Option<&[f32]>,
        out: par::Shared,
    ) {
        #[cfg(target_arch = "x86_64")]
        if c.isa == Isa::Avx512 && c.spread[1] <= 2 {
            let plane = c.target[0] * c.target[1];
            // SAFETY: a convolution keeps an effective instruction set; tiles of different items hold different pixels.
            return unsafe { wide::write(plane, c.spread[1], e, &self.out, tile, bias, out) };
        }
        write_run(c.isa, c, e, &self.runs[..self.count], tile, bias, out);
    }
}

/// [`Place::gather`] for neighbouring tiles, one after the other in `to`. Where each pixel is an input, all of them are copied
/// plane by plane.
pub(super) fn gather_all(
    c: &TapGeometry,
    [g, c0, c1]: [usize; 3],
    places: &[Place],
    x: &[f32],
    to: &mut [f32],
    cols: usize,
) {
    const PART: usize = 8;
    let tile = (c1 - c0) * c.taps.len() * cols;
    let ends = [places.first(), places.last()].map(|p| p?.whole);
    if let [Some([image, pixel]), Some([last, _])] = ends
        && image == last
        && c.same_pixels()
    {
        let plane = c.source[0] * c.source[1];
        for ch in 0..c1 - c0 {
            let start = ((image * c.groups + g) * c.channels + c0 + ch) * plane + pixel;
            let (parts, _) = x[start..][..places.len() * cols].as_chunks::<PART>();
            for (i, part) in parts.iter().enumerate() {
                let (t, lane) = (i * PART / cols, i * PART % cols);
                to[t * tile + ch * cols + lane..][..PART].copy_from_slice(part);
            }
        }
        return;
    }
    for (t, place) in places.iter().enumerate() {
        place.gather(c, [g, c0, c1], x, &mut to[t * tile..][..tile], cols);
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn gather_body<const FMA: bool>(
    c: &TapGeometry,
    g: usize,
    c0: usize,
    c1: usize,
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
    cols: usize,
) {
    let plane = c.source[0] * c.source[1];
    let taps = c.taps.len();
    let covered = runs.last().map_or(0, |r| r.lane + r.len);
    for (t, &(dy, dx, _)) in c.taps.iter().enumerate() {
        for r in runs {
            let (lo, hi, first) = r.inside(c, dy, dx);
            let base = (r.image * c.groups + g) * c.channels;
            for ch in c0..c1 {
                let to = &mut to[((ch - c0) * taps + t) * cols + r.lane..][..r.len];
                to[..lo].fill(0.0);
                to[hi..].fill(0.0);
                let to = &mut to[lo..hi];
                let from = &x[(base + ch) * plane + first..];
                if c.step[1] == 1 {
                    for (to, &v) in to.iter_mut().zip(from) {
                        *to = v;
                    }
                } else {
                    for (to, &v) in to.iter_mut().zip(from.iter().step_by(c.step[1])) {
                        *to = v;
                    }
                }
            }
        }
    }
    if covered < cols {
        to.chunks_exact_mut(cols).for_each(|to| to[covered..].fill(0.0));
    }
}

#[inline(always)]
fn write_body<const FMA: bool>(
    c: &TapGeometry,
    e: Epilogue,
    runs: &[Run],
    tile: &[f32],
    bias: Option<&[f32]>,
    out: par::Shared,
) {
    let plane = c.target[0] * c.target[1];
    let finish = |v: f32| {
        let v = if v < e.lo { e.lo } else { v };
        if v > e.hi { e.hi } else { v }
    };
    for r in 0..e.rows {
        let b = bias.map_or(0.0, |b| b[e.channel + r]);
        let row = &tile[r * e.cols..][..e.cols];
        for run in runs {
            let t = &row[run.lane..run.lane + run.len];
            let y = c.first[0] + run.y * c.spread[0];
            let x = c.first[1] + run.x * c.spread[1];
            let at = (run.image * c.groups * c.rows + e.channel + r) * plane + y * c.target[1] + x;
            // SAFETY: tiles of different items hold different pixels or channels.
            let to = unsafe { out.slice(at, (run.len - 1) * c.spread[1] + 1) };
            if c.spread[1] == 1 {
                if e.store.accumulates() {
                    to.iter_mut().zip(t).for_each(|(to, &t)| *to = finish(*to + (t + b)));
                } else {
                    to.iter_mut().zip(t).for_each(|(to, &t)| *to = finish(t + b));
                }
            } else {
                for (to, &t) in to.iter_mut().step_by(c.spread[1]).zip(t) {
                    *to = finish(if e.store.accumulates() { *to + (t + b) } else { t + b });
                }
            }
        }
    }
}

multiversion! {
    fn gather_run(c: &TapGeometry, g: usize, c0: usize, c1: usize, runs: &[Run], x: &[f32], to: &mut [f32], cols: usize) = gather_body;
    fn write_run(c: &TapGeometry, e: Epilogue, runs: &[Run], tile: &[f32], bias: Option<&[f32]>, out: par::Shared) = write_body;
}
