//! Vectors of AVX2 and AVX-512.

use std::arch::x86_64::*;

use super::vector::{Masked, Simd};

macro_rules! implement {
    ($(#[$meta:meta])* $name:ident, $v:ty, $lanes:literal, $zero:ident, $set1:ident, $loadu:ident, $storeu:ident, $fma:ident, $add:ident, $sub:ident, $mul:ident) => {
        $(#[$meta])*
        pub(crate) struct $name;

        // SAFETY (of every block below): the caller promises the instruction set and the pointers.
        impl Simd for $name {
            type V = $v;
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn zero() -> $v {
                // SAFETY: see above.
                unsafe { $zero() }
            }
            #[inline(always)]
            unsafe fn splat(p: *const f32) -> $v {
                // SAFETY: see above.
                unsafe { $set1(*p) }
            }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> $v {
                // SAFETY: see above.
                unsafe { $loadu(p) }
            }
            #[inline(always)]
            unsafe fn store(p: *mut f32, v: $v) {
                // SAFETY: see above.
                unsafe { $storeu(p, v) }
            }
            #[inline(always)]
            unsafe fn fma(a: $v, b: $v, c: $v) -> $v {
                // SAFETY: see above.
                unsafe { $fma(a, b, c) }
            }
            #[inline(always)]
            unsafe fn add(a: $v, b: $v) -> $v {
                // SAFETY: see above.
                unsafe { $add(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: $v, b: $v) -> $v {
                // SAFETY: see above.
                unsafe { $sub(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: $v, b: $v) -> $v {
                // SAFETY: see above.
                unsafe { $mul(a, b) }
            }
        }
    };
}

implement!(
    /// Eight lanes.
    Avx2, __m256, 8, _mm256_setzero_ps, _mm256_set1_ps, _mm256_loadu_ps, _mm256_storeu_ps, _mm256_fmadd_ps,
    _mm256_add_ps, _mm256_sub_ps, _mm256_mul_ps
);
implement!(
    /// Sixteen lanes.
    Avx512, __m512, 16, _mm512_setzero_ps, _mm512_set1_ps, _mm512_loadu_ps, _mm512_storeu_ps, _mm512_fmadd_ps,
    _mm512_add_ps, _mm512_sub_ps, _mm512_mul_ps
);

/// Operations that are the same but for the names of the instructions.
macro_rules! shuffles {
    ($v:ty, $low:ident, $high:ident, $shuffle:ident, $min:ident, $max:ident) => {
        #[inline(always)]
        unsafe fn transpose4([a, b, c, d]: [$v; 4]) -> [$v; 4] {
            // SAFETY: the caller's promise.
            unsafe {
                let (ab, cd) = ($low(a, b), $low(c, d));
                let (ab2, cd2) = ($high(a, b), $high(c, d));
                [
                    $shuffle::<0x44>(ab, cd),
                    $shuffle::<0xee>(ab, cd),
                    $shuffle::<0x44>(ab2, cd2),
                    $shuffle::<0xee>(ab2, cd2),
                ]
            }
        }
        #[inline(always)]
        unsafe fn first4([a, b, c, d]: [$v; 4]) -> $v {
            // SAFETY: the caller's promise.
            unsafe { $shuffle::<0x44>($low(a, b), $low(c, d)) }
        }
        #[inline(always)]
        unsafe fn clamp(v: $v, lo: $v, hi: $v) -> $v {
            // SAFETY: the caller's promise. The second operand is returned where one is NaN.
            unsafe { $min(hi, $max(lo, v)) }
        }
        #[inline(always)]
        unsafe fn prefetch(p: *const f32) {
            // SAFETY: the caller's promise; a hint only, no access.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
        }
    };
}

impl Masked for Avx2 {
    type M = __m256i;
    type E = [__m256i; 3];
    #[inline(always)]
    unsafe fn mask(bits: u16) -> __m256i {
        // SAFETY: the caller's promise, here and below.
        unsafe {
            let lanes = _mm256_set_epi32(128, 64, 32, 16, 8, 4, 2, 1);
            _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(bits.into()), lanes), lanes)
        }
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_maskload_ps(p, mask) }
    }
    #[inline(always)]
    unsafe fn load_onto(v: __m256, p: *const f32, mask: __m256i) -> __m256 {
        // SAFETY: see above.
        unsafe { _mm256_blendv_ps(v, _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask)) }
    }
    #[inline(always)]
    unsafe fn evens(bits: u16) -> [__m256i; 3] {
        // SAFETY: see above.
        unsafe {
            [Self::mask(spread(bits as u8 & 15)), Self::mask(spread(bits as u8 >> 4)), Self::mask(bits)]
        }
    }
    #[inline(always)]
    unsafe fn load_evens_onto(v: __m256, p: *const f32, [low, high, all]: [__m256i; 3]) -> __m256 {
        // SAFETY: see above; `low` and `high` hold even places alone.
        unsafe {
            let (a, b) = (_mm256_maskload_ps(p, low), _mm256_maskload_ps(p.wrapping_add(8), high));
            // Elements 0 2 8 10, 4 6 12 14; then the middle pairs change places.
            let pairs = _mm256_castps_pd(_mm256_shuffle_ps::<0x88>(a, b));
            let evens = _mm256_castpd_ps(_mm256_permute4x64_pd::<0xd8>(pairs));
            _mm256_blendv_ps(v, evens, _mm256_castsi256_ps(all))
        }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, mask: __m256i, v: __m256) {
        // SAFETY: see above.
        unsafe { _mm256_maskstore_ps(p, mask, v) }
    }
    shuffles!(
        __m256,
        _mm256_unpacklo_ps,
        _mm256_unpackhi_ps,
        _mm256_shuffle_ps,
        _mm256_min_ps,
        _mm256_max_ps
    );
}

impl Masked for Avx512 {
    type M = __mmask16;
    type E = [__mmask16; 3];
    #[inline(always)]
    unsafe fn mask(bits: u16) -> __mmask16 {
        bits
    }
    #[inline(always)]
    unsafe fn load_masked(p: *const f32, mask: __mmask16) -> __m512 {
        // SAFETY: the caller's promise, here and below.
        unsafe { _mm512_maskz_loadu_ps(mask, p) }
    }
    #[inline(always)]
    unsafe fn load_onto(v: __m512, p: *const f32, mask: __mmask16) -> __m512 {
        // SAFETY: see above.
        unsafe { _mm512_mask_loadu_ps(v, mask, p) }
    }
    #[inline(always)]
    unsafe fn evens(bits: u16) -> [__mmask16; 3] {
        [spread(bits as u8), spread((bits >> 8) as u8), bits]
    }
    #[inline(always)]
    unsafe fn load_evens_onto(v: __m512, p: *const f32, [low, high, all]: [__mmask16; 3]) -> __m512 {
        // SAFETY: see above; `low` and `high` hold even places alone.
        unsafe {
            let places = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
            let (a, b) = (_mm512_maskz_loadu_ps(low, p), _mm512_maskz_loadu_ps(high, p.wrapping_add(16)));
            _mm512_mask_mov_ps(v, all, _mm512_permutex2var_ps(a, places, b))
        }
    }
    #[inline(always)]
    unsafe fn store_masked(p: *mut f32, mask: __mmask16, v: __m512) {
        // SAFETY: see above.
        unsafe { _mm512_mask_storeu_ps(p, mask, v) }
    }
    shuffles!(
        __m512,
        _mm512_unpacklo_ps,
        _mm512_unpackhi_ps,
        _mm512_shuffle_ps,
        _mm512_min_ps,
        _mm512_max_ps
    );
}

/// Bit `i` to bit `2 i`.
#[inline(always)]
pub(crate) fn spread(mask: u8) -> u16 {
    let m = mask as u16;
    let m = (m | m << 4) & 0x0f0f;
    let m = (m | m << 2) & 0x3333;
    (m | m << 1) & 0x5555
}
