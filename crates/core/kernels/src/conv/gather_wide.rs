//! Gathering and writing of tiles with masks.

use std::arch::x86_64::*;
use std::mem::MaybeUninit;

use super::spacing::{Evens, Every, Spacing};
use super::tap_geometry::TapGeometry;
use super::tile::{Epilogue, Run};
use crate::gemm::micro::MAX_COLS;
use crate::par;
use crate::simd::{Avx2, Avx512, Masked, Simd, spread};

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

    /// Lanes `lo..hi`, the first of them at `at`, `step` apart; a half has `lanes`.
    #[inline(always)]
    pub(super) fn add(&mut self, lanes: usize, lo: usize, hi: usize, at: isize, step: isize) {
        for half in 0..2 {
            let first = half * lanes;
            let (a, b) = (lo.max(first), hi.min(first + lanes));
            if a < b {
                let mask = ((1u32 << (b - first)) - (1u32 << (a - first))) as u16;
                let count = &mut self.count[half];
                self.list[half][*count] = (mask, at + (first as isize - lo as isize) * step);
                *count += 1;
            }
        }
    }
}

impl Pieces {
    /// The pieces of the tap that reads `(dy, dx)` away, in the planes of group `g` from channel `c0` on.
    #[inline(always)]
    fn find(
        &mut self,
        c: &TapGeometry,
        [g, c0]: [usize; 2],
        [dy, dx]: [isize; 2],
        runs: &[Run],
        lanes: usize,
    ) {
        let plane = c.source[0] * c.source[1];
        self.clear();
        for r in runs {
            let (lo, hi, first) = r.inside(c, dy, dx);
            if lo < hi {
                let at = ((r.image * c.groups + g) * c.channels + c0) * plane + first;
                self.add(lanes, r.lane + lo, r.lane + hi, at as isize, c.step[1] as isize);
            }
        }
    }
}

/// Vectors of all taps of a block of a tile at most, so that their places fit on the stack.
const FLAT: usize = 64;
/// Most pieces of a vector in a block.
const LEVELS: usize = 4;

/// Fills `to[(channel, tap)][lane]` as [`Place::gather`](super::gather::Place::gather) does, for the step of `L`.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
unsafe fn gather_body<L: Spacing>(
    c: &TapGeometry,
    [g, c0, c1]: [usize; 3],
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    let (lanes, plane) = (L::S::LANES, c.source[0] * c.source[1]);
    assert_eq!(to.len(), (c1 - c0) * c.taps.len() * 2 * lanes);
    for (block, taps) in c.taps.chunks(FLAT / 2).enumerate() {
        let at = block * FLAT / 2;
        let range = at..at + taps.len();
        let mut places = [[const { MaybeUninit::uninit() }; FLAT]; LEVELS];
        // SAFETY: the processor has the instruction set.
        let depth = unsafe { places_of::<L>(c, [g, c0], range.clone(), runs, &mut places) };
        if depth > LEVELS {
            // SAFETY: passed on.
            unsafe { tap_by_tap::<L>(c, [g, c0, c1], range, runs, x, to) };
            continue;
        }
        let vectors = 2 * taps.len();
        for ch in 0..c1 - c0 {
            let from = x.as_ptr().wrapping_add(ch * plane);
            let out = to[(ch * c.taps.len() + at) * 2 * lanes..][..vectors * lanes].as_mut_ptr();
            // SAFETY: the places of all levels of `vectors` vectors are known; lanes in a mask lie inside the plane (see
            // `Run::inside`), others are not touched; `out` was sliced to `vectors` vectors; prefetching is a hint only:
            // what the next tile reads first.
            unsafe {
                let ahead = from.wrapping_offset(places[0][vectors - 1].assume_init().1);
                L::S::prefetch(ahead.wrapping_add(2 * lanes * c.step[1]));
                L::S::prefetch(ahead.wrapping_add(lanes * c.step[1]));
                for i in 0..vectors {
                    let mut v = L::S::zero();
                    for level in &places[..depth.max(1)] {
                        let (masks, at) = level[i].assume_init();
                        v = L::load(v, from.wrapping_offset(at), masks);
                    }
                    L::S::store(out.add(lanes * i), v);
                }
            }
        }
    }
}

/// The masks of some lanes, and where lane 0 would lie.
type Piece<M> = MaybeUninit<(M, isize)>;

/// Level by level the first piece of each half of each tap, then the second ..., with empty masks where there is none. The
/// largest number of pieces, which may be more than the levels.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
unsafe fn places_of<L: Spacing>(
    c: &TapGeometry,
    [g, c0]: [usize; 2],
    range: std::ops::Range<usize>,
    runs: &[Run],
    places: &mut [[Piece<L::Masks>; FLAT]; LEVELS],
) -> usize {
    let (mut depth, mut pieces) = (0, Pieces::default());
    for (t, &(dy, dx, _)) in c.taps[range].iter().enumerate() {
        pieces.find(c, [g, c0], [dy, dx], runs, L::S::LANES);
        for half in 0..2 {
            let found = &pieces.list[half][..pieces.count[half]];
            depth = depth.max(found.len());
            for (level, places) in places.iter_mut().enumerate() {
                let (bits, at) = found.get(level).copied().unwrap_or_default();
                // SAFETY: the caller's promise.
                places[2 * t + half].write((unsafe { L::masks(bits) }, at));
            }
        }
    }
    depth
}

/// One tap after the other, for rows of few pixels.
///
/// # Safety
/// The processor has the instruction set of `L`.
#[inline(always)]
unsafe fn tap_by_tap<L: Spacing>(
    c: &TapGeometry,
    [g, c0, c1]: [usize; 3],
    range: std::ops::Range<usize>,
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    let (lanes, plane, taps) = (L::S::LANES, c.source[0] * c.source[1], c.taps.len());
    let mut pieces = Pieces::default();
    for t in range {
        let (dy, dx, _) = c.taps[t];
        pieces.find(c, [g, c0], [dy, dx], runs, lanes);
        for half in 0..2 {
            let list = &pieces.list[half][..pieces.count[half]];
            let mut out = to[(2 * t + half) * lanes..].as_mut_ptr();
            let mut from = x.as_ptr();
            // SAFETY: lanes in a mask lie inside the plane (see `Run::inside`), others are not touched; `to` holds two
            // vectors for each channel and tap.
            unsafe {
                let mut places = [const { MaybeUninit::uninit() }; MAX_COLS / 2];
                for (to, &(bits, at)) in places.iter_mut().zip(list) {
                    to.write((L::masks(bits), at));
                }
                for _ in c0..c1 {
                    let mut v = L::S::zero();
                    for place in &places[..list.len()] {
                        let (masks, at) = place.assume_init();
                        v = L::load(v, from.wrapping_offset(at), masks);
                    }
                    L::S::store(out, v);
                    out = out.wrapping_add(taps * 2 * lanes);
                    from = from.wrapping_add(plane);
                }
            }
        }
    }
}

/// [`gather_body`] with AVX2, for steps of 1 and 2.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn gather_avx2(
    c: &TapGeometry,
    channels: [usize; 3],
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    // SAFETY: passed on.
    unsafe {
        match c.step[1] {
            1 => gather_body::<Every<Avx2>>(c, channels, runs, x, to),
            _ => gather_body::<Evens<Avx2>>(c, channels, runs, x, to),
        }
    }
}

/// [`gather_body`] with AVX-512, for steps of 1 and 2.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn gather_avx512(
    c: &TapGeometry,
    channels: [usize; 3],
    runs: &[Run],
    x: &[f32],
    to: &mut [f32],
) {
    // SAFETY: passed on.
    unsafe {
        match c.step[1] {
            1 => gather_body::<Every<Avx512>>(c, channels, runs, x, to),
            _ => gather_body::<Evens<Avx512>>(c, channels, runs, x, to),
        }
    }
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
