//! Transposing in squares of the vectors' width.

use std::arch::x86_64::*;

use crate::simd::{Avx2, Masked};

/// `to[p * cols + j] = from[j * row + p]` for `p < depth`, `j < width`; zero for `j` from `width` to `cols`.
///
/// # Safety
/// The processor has AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn by_sixteen(
    from: &[f32],
    row: usize,
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    assert!(to.len() >= depth * cols && width <= cols && cols.is_multiple_of(16));
    assert!(width == 0 || depth == 0 || (width - 1) * row + depth <= from.len());
    for p in (0..depth).step_by(16) {
        let deep = (depth - p).min(16);
        let mask = ((1u32 << deep) - 1) as u16;
        for j in (0..cols).step_by(16) {
            let mut v = [_mm512_setzero_ps(); 16];
            for (i, v) in v.iter_mut().enumerate().take(width.saturating_sub(j)) {
                // SAFETY: `deep` elements from here on are inside by the assertion; others are masked.
                *v = unsafe { _mm512_maskz_loadu_ps(mask, from.as_ptr().add((j + i) * row + p)) };
            }
            let v = square16(v);
            for (q, v) in v.iter().enumerate().take(deep) {
                // SAFETY: row `p + q` is below `depth`, and `j + 16 <= cols`.
                unsafe { _mm512_storeu_ps(to.as_mut_ptr().add((p + q) * cols + j), *v) };
            }
        }
    }
}

/// Transposes sixteen vectors: pairs, fours, then blocks of four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn square16(r: [__m512; 16]) -> [__m512; 16] {
    let mut t = r;
    for i in 0..8 {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    let mut u = t;
    for i in 0..4 {
        let [a, b, c, d] = [t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]].map(|v| _mm512_castps_pd(v));
        u[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        u[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        u[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        u[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    // u[4 i + q] holds columns q, q + 4, q + 8, q + 12 of rows 4 i .. 4 i + 4.
    let mut out = u;
    for q in 0..4 {
        let low = _mm512_shuffle_f32x4::<0x88>(u[q], u[4 + q]);
        let high = _mm512_shuffle_f32x4::<0x88>(u[8 + q], u[12 + q]);
        out[q] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[8 + q] = _mm512_shuffle_f32x4::<0xdd>(low, high);
        let low = _mm512_shuffle_f32x4::<0xdd>(u[q], u[4 + q]);
        let high = _mm512_shuffle_f32x4::<0xdd>(u[8 + q], u[12 + q]);
        out[4 + q] = _mm512_shuffle_f32x4::<0x88>(low, high);
        out[12 + q] = _mm512_shuffle_f32x4::<0xdd>(low, high);
    }
    out
}

/// As [`by_sixteen`], with columns in eights.
///
/// # Safety
/// The processor has AVX2.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn by_eight(
    from: &[f32],
    row: usize,
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    assert!(to.len() >= depth * cols && width <= cols && cols.is_multiple_of(8));
    assert!(width == 0 || depth == 0 || (width - 1) * row + depth <= from.len());
    for p in (0..depth).step_by(8) {
        let deep = (depth - p).min(8);
        // SAFETY: the processor has the instruction set.
        let mask = unsafe { Avx2::mask(((1u32 << deep) - 1) as u16) };
        for j in (0..cols).step_by(8) {
            let mut v = [_mm256_setzero_ps(); 8];
            for (i, v) in v.iter_mut().enumerate().take(width.saturating_sub(j)) {
                // SAFETY: `deep` elements from here on are inside by the assertion; others are masked.
                *v = unsafe { Avx2::load_masked(from.as_ptr().add((j + i) * row + p), mask) };
            }
            let v = square8(v);
            for (q, v) in v.iter().enumerate().take(deep) {
                // SAFETY: row `p + q` is below `depth`, and `j + 8 <= cols`.
                unsafe { _mm256_storeu_ps(to.as_mut_ptr().add((p + q) * cols + j), *v) };
            }
        }
    }
}

/// Transposes eight vectors: squares of four in each half, then the halves.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn square8([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the processor has the instruction set.
    let (top, bottom) = unsafe { (Avx2::transpose4([a, b, c, d]), Avx2::transpose4([e, f, g, h])) };
    let mut out = [_mm256_setzero_ps(); 8];
    for q in 0..4 {
        out[q] = _mm256_permute2f128_ps::<0x20>(top[q], bottom[q]);
        out[4 + q] = _mm256_permute2f128_ps::<0x31>(top[q], bottom[q]);
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::gemm::pack;
    use crate::testing::*;

    #[test]
    fn columns_become_rows() {
        for (depth, width, cols) in
            [(1, 1, 8), (8, 8, 8), (9, 7, 8), (16, 16, 16), (33, 21, 32), (5, 30, 32), (40, 3, 64)]
        {
            let row = depth + 3;
            let from = values(5 + row * width, 1);
            let mut want = vec![0.0; depth * cols];
            for p in 0..depth {
                for j in 0..width {
                    want[p * cols + j] = from[5 + j * row + p];
                }
            }
            for (isa, got) in on_all(|isa| {
                let mut to = vec![f32::NAN; depth * cols];
                pack::columns(isa, &from, 5, (1, row), depth, width, cols, &mut to);
                to
            }) {
                assert_eq!(got, want, "{depth} {width} {cols} {isa}");
            }
        }
    }
}
