//! Copying blocks of matrices into the order in which the micro-kernels read them.

use crate::Isa;
use crate::isa::multiversion;

#[inline(always)]
fn columns_body<const FMA: bool>(
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    if cs == 1 {
        for (p, to) in to.chunks_exact_mut(cols).enumerate().take(depth) {
            let row = &from[start + p * rs..][..width];
            if width == 32 && cols == 32 {
                to[..32].copy_from_slice(&row[..32]);
            } else {
                to[..width].copy_from_slice(row);
                to[width..].fill(0.0);
            }
        }
    } else {
        transpose(from, start, cs, rs, width, depth, cols, to);
        if width < cols {
            to.chunks_exact_mut(cols).for_each(|to| to[width..].fill(0.0));
        }
    }
}

/// `to[p * ld + j] = from[start + j * row + p * step]` for `j < width`, `p < depth`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn transpose(
    from: &[f32],
    start: usize,
    row: usize,
    step: usize,
    width: usize,
    depth: usize,
    ld: usize,
    to: &mut [f32],
) {
    const SIDE: usize = 8;
    if step != 1 {
        for p in 0..depth {
            for j in 0..width {
                to[p * ld + j] = from[start + j * row + p * step];
            }
        }
        return;
    }
    let mut p = 0;
    while p + SIDE <= depth {
        let mut j = 0;
        while j + SIDE <= width {
            let mut square = [[0.0f32; SIDE]; SIDE];
            for (i, s) in square.iter_mut().enumerate() {
                s.copy_from_slice(&from[start + (j + i) * row + p..][..SIDE]);
            }
            for q in 0..SIDE {
                let to = &mut to[(p + q) * ld + j..][..SIDE];
                for i in 0..SIDE {
                    to[i] = square[i][q];
                }
            }
            j += SIDE;
        }
        for j in j..width {
            let row = &from[start + j * row + p..][..SIDE];
            for (q, &v) in row.iter().enumerate() {
                to[(p + q) * ld + j] = v;
            }
        }
        p += SIDE;
    }
    for p in p..depth {
        for j in 0..width {
            to[p * ld + j] = from[start + j * row + p];
        }
    }
}

#[inline(always)]
fn rows_body<const FMA: bool>(
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    rows: usize,
    depth: usize,
    to: &mut [f32],
) {
    if rs == 1 {
        for (p, to) in to.chunks_exact_mut(rows).enumerate().take(depth) {
            to.copy_from_slice(&from[start + p * cs..][..rows]);
        }
    } else {
        transpose(from, start, rs, cs, rows, depth, rows, to);
    }
}

multiversion! {
    fn columns_run(from: &[f32], start: usize, strides: (usize, usize), depth: usize, width: usize, cols: usize, to: &mut [f32]) = columns_body;
    fn rows_run(from: &[f32], start: usize, strides: (usize, usize), rows: usize, depth: usize, to: &mut [f32]) = rows_body;
}

/// Packs a block of B: `to[p][j] = b(p, j)`, `cols` apart, columns from `width` on zero.
#[allow(clippy::too_many_arguments)]
pub(crate) fn columns(
    isa: Isa,
    from: &[f32],
    start: usize,
    (rs, cs): (usize, usize),
    depth: usize,
    width: usize,
    cols: usize,
    to: &mut [f32],
) {
    #[cfg(target_arch = "x86_64")]
    if rs == 1 && cs > 1 && cols.is_multiple_of(16) && isa.effective() == Isa::Avx512 {
        // SAFETY: the processor has the instruction set.
        return unsafe { wide::transpose(&from[start..], cs, depth, width, cols, to) };
    }
    columns_run(isa, from, start, (rs, cs), depth, width, cols, to);
}

/// Packs a panel of A: `to[p][r] = a(r, p)`.
pub(crate) fn rows(
    isa: Isa,
    from: &[f32],
    start: usize,
    strides: (usize, usize),
    rows: usize,
    depth: usize,
    to: &mut [f32],
) {
    rows_run(isa, from, start, strides, rows, depth, to);
}

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    /// `to[p * cols + j] = from[j * row + p]` for `p < depth`, `j < width`; zero for `j` from `width` to `cols`.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    pub(super) unsafe fn transpose(
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
                let v = square(v);
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
    fn square(r: [__m512; 16]) -> [__m512; 16] {
        let mut t = r;
        for i in 0..8 {
            t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
            t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
        }
        let mut u = t;
        for i in 0..4 {
            let [a, b, c, d] =
                [t[4 * i], t[4 * i + 1], t[4 * i + 2], t[4 * i + 3]].map(|v| _mm512_castps_pd(v));
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
}
