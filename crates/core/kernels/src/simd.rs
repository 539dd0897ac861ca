//! The few vector operations that the inner loops of GEMM and convolution are written in, for each instruction set.

/// A vector of `f32` of one instruction set. Everything is inlined into functions that enable it.
pub(crate) trait Simd {
    type V: Copy;
    const LANES: usize;
    /// # Safety
    /// The instruction set must be at hand (so for all functions here).
    unsafe fn zero() -> Self::V;
    /// # Safety
    /// `p` points to one readable element.
    unsafe fn splat(p: *const f32) -> Self::V;
    /// # Safety
    /// `p` points to `LANES` readable elements; no alignment is needed.
    unsafe fn load(p: *const f32) -> Self::V;
    /// # Safety
    /// `p` points to `LANES` writable elements; no alignment is needed.
    unsafe fn store(p: *mut f32, v: Self::V);
    /// `a * b + c`.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
}

/// Vectors whose lanes can be left out of a load.
pub(crate) trait Masked: Simd {
    type M: Copy;
    /// Lane `i` is in where bit `i` is set.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn mask(bits: u16) -> Self::M;
    /// Lanes outside the mask are zero, and their memory is not touched.
    /// # Safety
    /// `p` points to readable elements in the lanes of the mask.
    unsafe fn load_masked(p: *const f32, mask: Self::M) -> Self::V;
    /// Lanes outside the mask stay as they are in memory.
    /// # Safety
    /// `p` points to writable elements in the lanes of the mask.
    unsafe fn store_masked(p: *mut f32, mask: Self::M, v: Self::V);
    /// Transposes 4 x 4 values in each quarter (AVX-512) or half (AVX2): element `i` of what lies at that place in vector `j` goes
    /// to element `j` in vector `i`.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn transpose4(v: [Self::V; 4]) -> [Self::V; 4];
    /// Only the first vector of [`Masked::transpose4`].
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn first4(v: [Self::V; 4]) -> Self::V;
    /// `min(max(v, lo), hi)`; what is not a number stays.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn clamp(v: Self::V, lo: Self::V, hi: Self::V) -> Self::V;
    /// Asks for the cache line of `p`, which may lie anywhere.
    /// # Safety
    /// As [`Simd::zero`].
    unsafe fn announce(p: *const f32);
}

/// Four lanes of plain code.
pub(crate) struct Plain;

impl Simd for Plain {
    type V = [f32; 4];
    const LANES: usize = 4;
    #[inline(always)]
    unsafe fn zero() -> [f32; 4] {
        [0.0; 4]
    }
    #[inline(always)]
    unsafe fn splat(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise.
        [unsafe { *p }; 4]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; 4] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; 4]) {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    unsafe fn add(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0], a[1] * b[1], a[2] * b[2], a[3] * b[3]]
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Masked, Simd};
    use std::arch::x86_64::*;

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

    impl Masked for Avx2 {
        type M = __m256i;
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
        unsafe fn store_masked(p: *mut f32, mask: __m256i, v: __m256) {
            // SAFETY: see above.
            unsafe { _mm256_maskstore_ps(p, mask, v) }
        }
        #[inline(always)]
        unsafe fn transpose4([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
            // SAFETY: see above.
            unsafe {
                let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
                let (ab2, cd2) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
                [
                    _mm256_shuffle_ps::<0x44>(ab, cd),
                    _mm256_shuffle_ps::<0xee>(ab, cd),
                    _mm256_shuffle_ps::<0x44>(ab2, cd2),
                    _mm256_shuffle_ps::<0xee>(ab2, cd2),
                ]
            }
        }
        #[inline(always)]
        unsafe fn first4([a, b, c, d]: [__m256; 4]) -> __m256 {
            // SAFETY: see above.
            unsafe { _mm256_shuffle_ps::<0x44>(_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d)) }
        }
        #[inline(always)]
        unsafe fn clamp(v: __m256, lo: __m256, hi: __m256) -> __m256 {
            // SAFETY: see above. The second operand is returned when one is not a number.
            unsafe { _mm256_min_ps(hi, _mm256_max_ps(lo, v)) }
        }
        #[inline(always)]
        unsafe fn announce(p: *const f32) {
            // SAFETY: the caller's promise; a hint only, no access.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
        }
    }

    impl Masked for Avx512 {
        type M = __mmask16;
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
        unsafe fn store_masked(p: *mut f32, mask: __mmask16, v: __m512) {
            // SAFETY: see above.
            unsafe { _mm512_mask_storeu_ps(p, mask, v) }
        }
        #[inline(always)]
        unsafe fn transpose4([a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
            // SAFETY: see above.
            unsafe {
                let (ab, cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
                let (ab2, cd2) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
                [
                    _mm512_shuffle_ps::<0x44>(ab, cd),
                    _mm512_shuffle_ps::<0xee>(ab, cd),
                    _mm512_shuffle_ps::<0x44>(ab2, cd2),
                    _mm512_shuffle_ps::<0xee>(ab2, cd2),
                ]
            }
        }
        #[inline(always)]
        unsafe fn first4([a, b, c, d]: [__m512; 4]) -> __m512 {
            // SAFETY: see above.
            unsafe { _mm512_shuffle_ps::<0x44>(_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d)) }
        }
        #[inline(always)]
        unsafe fn clamp(v: __m512, lo: __m512, hi: __m512) -> __m512 {
            // SAFETY: see above. The second operand is returned when one is not a number.
            unsafe { _mm512_min_ps(hi, _mm512_max_ps(lo, v)) }
        }
        #[inline(always)]
        unsafe fn announce(p: *const f32) {
            // SAFETY: the caller's promise; a hint only, no access.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) };
        }
    }
}
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};
