//! Gathering and writing of tiles with sixteen lanes and masks.

use std::arch::x86_64::*;

use super::tap_geometry::TapGeometry;
use super::tile::{Epilogue, Run};
use crate::gemm::micro::MAX_COLS;
use crate::par;

/// For each half of a tile: masks, and where lane 0 of that half would lie.
#[derive(Default)]
pub(super) struct Pieces {
    list: [[(u16, isize); MAX_COLS / 2]; 2],
    count: [usize; 2],
}

impl Pieces {
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.count = [0; 2];
    }

    /// Lanes `lo..hi`, the first of them at `at`, `step` apart.
    #[inline(always)]
    pub(super) fn add(&mut self, lo: usize, hi: usize, at: isize, step: isize) {
        for half in 0..2 {
            let (a, b) = (lo.max(16 * half), hi.min(16 * half + 16));
            if a < b {
                let mask = ((1u32 << (b - 16 * half)) - (1u32 << (a - 16 * half))) as u16;
                let count = &mut self.count[half];
                self.list[half][*count] = (mask, at + (16 * half as isize - lo as isize) * step);
                *count += 1;
            }
        }
    }
}

/// Pieces of all taps of a tile at most, so that they fit on the stack.
const FLAT: usize = 64;

/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn gather(
    c: &TapGeometry,
    [g, c0, c1]: [usize; 3],
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    let plane = c.source[0] * c.source[1];
    let step = c.step[1] as isize;
    let base = |r: &Run| ((r.image * c.groups + g) * c.channels + c0) * plane;
    for (block, taps) in c.taps.chunks(FLAT / 2).enumerate() {
        // Level by level: the first piece of each half of each tap, then the second ...
        let mut levels = [[(0u16, 0isize); FLAT]; 4];
        let mut depth = 0;
        let mut pieces = Pieces::default();
        let mut deep = false;
        for (t, &(dy, dx, _)) in taps.iter().enumerate() {
            pieces.clear();
            for r in runs {
                let (lo, hi, first) = r.inside(c, dy, dx);
                if lo < hi {
                    pieces.add(r.lane + lo, r.lane + hi, (base(r) + first) as isize, step);
                }
            }
            for half in 0..2 {
                let count = pieces.count[half];
                deep |= count > levels.len();
                depth = depth.max(count);
                for (level, &piece) in levels.iter_mut().zip(&pieces.list[half][..count]) {
                    level[2 * t + half] = piece;
                }
            }
        }
        let at = block * FLAT / 2;
        if deep || step != 1 {
            // SAFETY: passed on.
            unsafe { tap_by_tap(c, [g, c0, c1], at..at + taps.len(), runs, x, to) };
            continue;
        }
        let vectors = 2 * taps.len();
        for ch in 0..c1 - c0 {
            let from = x.as_ptr().wrapping_add(ch * plane);
            let out = to[(ch * c.taps.len() + at) * 32..][..vectors * 16].as_mut_ptr();
            // Prefetch what the next tile reads first: a hint only, no access.
            let ahead = from.wrapping_offset(levels[0][vectors - 1].1 + 32);
            _mm_prefetch::<_MM_HINT_T0>(ahead.cast());
            _mm_prefetch::<_MM_HINT_T0>(ahead.wrapping_sub(16).cast());
            for i in 0..vectors {
                // SAFETY: lanes in a mask lie inside the plane (see `Run::inside`), others are not touched; `out`
                // was sliced to `vectors` vectors.
                unsafe {
                    let (mask, at) = levels[0][i];
                    let mut v = _mm512_maskz_loadu_ps(mask, from.wrapping_offset(at));
                    for level in &levels[1..depth.max(1)] {
                        let (mask, at) = level[i];
                        v = _mm512_mask_loadu_ps(v, mask, from.wrapping_offset(at));
                    }
                    _mm512_storeu_ps(out.add(16 * i), v);
                }
            }
        }
    }
}

/// The same one tap after the other, for rows of few pixels and for stride 2.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn tap_by_tap(
    c: &TapGeometry,
    [g, c0, c1]: [usize; 3],
    range: std::ops::Range<usize>,
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    let plane = c.source[0] * c.source[1];
    let taps = c.taps.len();
    let mut pieces = Pieces::default();
    let evens = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    let step = c.step[1] as isize;
    for t in range {
        let (dy, dx, _) = c.taps[t];
        pieces.clear();
        for r in runs {
            let (lo, hi, first) = r.inside(c, dy, dx);
            if lo < hi {
                let at = ((r.image * c.groups + g) * c.channels + c0) * plane + first;
                pieces.add(r.lane + lo, r.lane + hi, at as isize, step);
            }
        }
        for half in 0..2 {
            let list = &pieces.list[half][..pieces.count[half]];
            let mut out = to[t * 32 + 16 * half..].as_mut_ptr();
            let mut from = x.as_ptr();
            for _ in c0..c1 {
                let mut v = _mm512_setzero_ps();
                for &(mask, at) in list {
                    let p = from.wrapping_offset(at);
                    // SAFETY: lanes in the mask lie inside the plane (see `Run::inside`); others are not touched.
                    unsafe {
                        if step == 1 {
                            v = _mm512_mask_loadu_ps(v, mask, p);
                        } else {
                            let a = _mm512_maskz_loadu_ps(spread(mask as u8), p);
                            let b = _mm512_maskz_loadu_ps(spread((mask >> 8) as u8), p.wrapping_add(16));
                            v = _mm512_mask_mov_ps(v, mask, _mm512_permutex2var_ps(a, evens, b));
                        }
                    }
                }
                // SAFETY: `to` holds 32 floats for each channel and tap.
                unsafe { _mm512_storeu_ps(out, v) };
                out = out.wrapping_add(taps * 32);
                from = from.wrapping_add(plane);
            }
        }
    }
}

/// Bit `i` to bit `2 i`.
#[inline(always)]
fn spread(mask: u8) -> u16 {
    let m = mask as u16;
    let m = (m | m << 4) & 0x0f0f;
    let m = (m | m << 2) & 0x3333;
    (m | m << 1) & 0x5555
}

/// # Safety
/// The processor has AVX-512; nothing else writes the pixels of the tile.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn write(
    plane: usize,
    step: usize,
    e: Epilogue,
    pieces: &Pieces,
    tile: &[f32],
    bias: Option<&[f32]>,
    out: par::Shared,
) {
    let (lo, hi) = (_mm512_set1_ps(e.lo), _mm512_set1_ps(e.hi));
    let tile = &tile[..e.rows * 32];
    // Lane i to element 2 i: of the lower eight lanes, then the upper.
    let lower = _mm512_set_epi32(7, 7, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0);
    let upper = _mm512_set_epi32(15, 15, 14, 14, 13, 13, 12, 12, 11, 11, 10, 10, 9, 9, 8, 8);
    for r in 0..e.rows {
        let b = _mm512_set1_ps(bias.map_or(0.0, |b| b[e.channel + r]));
        // Only the lanes of the mask are touched, which lie inside the output.
        let base = out.ptr().wrapping_add((e.channel + r) * plane);
        for half in 0..2 {
            // SAFETY: inside the tile; pieces lie inside the output by construction.
            unsafe {
                let sum = _mm512_add_ps(_mm512_loadu_ps(tile.as_ptr().add(r * 32 + 16 * half)), b);
                for &(mask, at) in &pieces.list[half][..pieces.count[half]] {
                    let to = base.wrapping_offset(at);
                    if step == 2 {
                        for (index, mask, to) in [
                            (lower, spread(mask as u8), to),
                            (upper, spread((mask >> 8) as u8), to.wrapping_add(16)),
                        ] {
                            let mut v = _mm512_permutexvar_ps(index, sum);
                            if e.store.accumulates() {
                                v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), v);
                            }
                            _mm512_mask_storeu_ps(to, mask, _mm512_min_ps(hi, _mm512_max_ps(lo, v)));
                        }
                        continue;
                    }
                    let mut v = sum;
                    if e.store.accumulates() {
                        v = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), v);
                    }
                    // The second operand is returned when one is NaN: NaN stays.
                    v = _mm512_min_ps(hi, _mm512_max_ps(lo, v));
                    if mask == u16::MAX {
                        _mm512_storeu_ps(to, v);
                    } else {
                        _mm512_mask_storeu_ps(to, mask, v);
                    }
                }
            }
        }
    }
}
