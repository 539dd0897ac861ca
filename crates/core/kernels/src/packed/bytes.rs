//! Dot products of codes of four bits with AVX2: tables as planes of bytes.
//!
//! `vpermps` looks up eight floats at a time, in halves of a table of sixteen; `vpshufb` finds one byte each for 32 codes in a
//! whole table: four of them and eight interleavings make 32 weights, in half of the time. The weights of a word come out side by
//! side, which the column has to follow: see [`arrange`].

use std::arch::x86_64::*;

use super::layout::{LINE, Layout};
use super::loops::Rows;

/// Words of a vector.
const WORDS: usize = 8;
/// Codes of a line.
pub(super) const CODES: usize = 8 * LINE;

/// The elements of a line in the order in which [`dot`] reads them: for each half of the line and the even, then the odd codes
/// of its words, four vectors; vector `f` holds those of word `f`, then of word `f + 4`.
pub(super) fn arrange(line: &[f32], to: &mut [f32]) {
    for (i, to) in to[..CODES].chunks_exact_mut(4).enumerate() {
        let (half, odd, f, upper) = (i / 16, i / 8 % 2, i / 2 % 4, i % 2);
        let word = half * WORDS + f + 4 * upper;
        for (b, to) in to.iter_mut().enumerate() {
            *to = line[(2 * b + odd) * LINE + word];
        }
    }
}

/// The four planes of a table: the lowest bytes of its entries, then the next, in both halves of a vector.
///
/// # Safety
/// The processor has AVX2; `table` has 16 entries.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn planes(table: *const f32) -> [__m256i; 4] {
    let bytes = _mm_set_epi8(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    let mut v = [_mm_setzero_si128(); 4];
    for (i, v) in v.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *v = _mm_shuffle_epi8(unsafe { _mm_loadu_si128(table.add(4 * i).cast()) }, bytes);
    }
    let (low, high) = (_mm_unpacklo_epi32(v[0], v[1]), _mm_unpackhi_epi32(v[0], v[1]));
    let (low2, high2) = (_mm_unpacklo_epi32(v[2], v[3]), _mm_unpackhi_epi32(v[2], v[3]));
    [
        _mm_unpacklo_epi64(low, low2),
        _mm_unpackhi_epi64(low, low2),
        _mm_unpacklo_epi64(high, high2),
        _mm_unpackhi_epi64(high, high2),
    ]
    .map(|plane| _mm256_broadcastsi128_si256(plane))
}

/// Adds the products of 32 codes, one in the lower half of each byte.
///
/// # Safety
/// The processor has AVX2; `x` points to four vectors.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add(planes: &[__m256i; 4], codes: __m256i, x: *const f32, sums: &mut [__m256; 2]) {
    let a = _mm256_shuffle_epi8(planes[0], codes);
    let b = _mm256_shuffle_epi8(planes[1], codes);
    let c = _mm256_shuffle_epi8(planes[2], codes);
    let d = _mm256_shuffle_epi8(planes[3], codes);
    let (ab, cd) = (_mm256_unpacklo_epi8(a, b), _mm256_unpacklo_epi8(c, d));
    let (ab2, cd2) = (_mm256_unpackhi_epi8(a, b), _mm256_unpackhi_epi8(c, d));
    let weights = [
        _mm256_unpacklo_epi16(ab, cd),
        _mm256_unpackhi_epi16(ab, cd),
        _mm256_unpacklo_epi16(ab2, cd2),
        _mm256_unpackhi_epi16(ab2, cd2),
    ];
    for (f, w) in weights.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        let x = unsafe { _mm256_loadu_ps(x.add(f * WORDS)) };
        sums[f % 2] = _mm256_fmadd_ps(_mm256_castsi256_ps(w), x, sums[f % 2]);
    }
}

/// Bytes of codes that are fetched before they are used: rows follow each other, and hardware stops at the end of a page.
const AHEAD: usize = 1024;

/// One row; see [`dot`].
///
/// # Safety
/// As there.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn row(layout: &Layout, words: *const u32, table: *const f32, [x, tail]: [*const f32; 2]) -> f32 {
    // SAFETY: the caller's promise covers every place that is read; a prefetch is a hint only.
    unsafe {
        let planes = planes(table);
        let low = _mm256_set1_epi8(15);
        let mut sums = [_mm256_setzero_ps(); 2];
        let (mut words, mut x) = (words, x);
        for l in 0..layout.lines + usize::from(layout.tail > 0) {
            if l == layout.lines {
                x = tail;
            }
            for _ in 0..LINE / WORDS {
                _mm_prefetch::<_MM_HINT_T0>(words.cast::<i8>().wrapping_add(AHEAD));
                let codes = _mm256_loadu_si256(words.cast());
                add(&planes, _mm256_and_si256(codes, low), x, &mut sums);
                let odd = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), low);
                add(&planes, odd, x.wrapping_add(CODES / 4), &mut sums);
                (words, x) = (words.wrapping_add(WORDS), x.wrapping_add(CODES / 2));
            }
        }
        let mut lanes = [0.0f32; WORDS];
        _mm256_storeu_ps(lanes.as_mut_ptr(), _mm256_add_ps(sums[0], sums[1]));
        // Halves are added to halves: few roundings, one order.
        for width in [4, 2, 1] {
            for l in 0..width {
                lanes[l] += lanes[l + width];
            }
        }
        lanes[0]
    }
}

/// [`super::loops::Dot`] for codes of four bits; the column is of lines that [`arrange`] made.
///
/// # Safety
/// As there.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn dot(layout: &Layout, rows: &Rows<1>, out: &mut [f32]) {
    // One row after the other: registers hold one table, and what would be shared between rows, the compiler spills.
    for (out, (words, table)) in out.iter_mut().zip(rows.words.into_iter().zip(rows.tables)) {
        // SAFETY: passed on.
        *out = unsafe { row(layout, words, table, [rows.x[0], rows.tails[0]]) };
    }
}
