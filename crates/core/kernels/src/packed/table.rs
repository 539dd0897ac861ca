//! Codebooks in registers, and the weights of a vector of codes.

#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// A codebook of `2^max(bits, 4)` entries, and how codes are looked up in it. Bits of a lane above the code are ignored, so
/// no code reaches past the table.
pub(super) trait Table: Copy {
    type S: Simd;
    /// A vector of words.
    type Words: Copy;
    /// # Safety
    /// The processor has the instruction set (so for all functions here); `p` points to the entries of the table.
    unsafe fn load(p: *const f32) -> Self;
    /// # Safety
    /// `p` points to `LANES` readable words.
    unsafe fn words(p: *const u32) -> Self::Words;
    /// # Safety
    /// As [`Table::load`].
    unsafe fn shift<const BITS: u32>(words: Self::Words) -> Self::Words;
    /// The entry for the lowest bits of each lane.
    /// # Safety
    /// The table that was loaded is still there.
    unsafe fn look(&self, words: Self::Words) -> <Self::S as Simd>::V;
}

/// Plain code, for any processor: `MASK` selects the bits of the index.
#[derive(Clone, Copy)]
pub(super) struct PlainTable<const MASK: u32>(*const f32);

impl<const MASK: u32> Table for PlainTable<MASK> {
    type S = Plain;
    type Words = [u32; 4];
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(p)
    }
    #[inline(always)]
    unsafe fn words(p: *const u32) -> [u32; 4] {
        // SAFETY: the caller's promise.
        unsafe { p.cast::<[u32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn shift<const BITS: u32>(words: [u32; 4]) -> [u32; 4] {
        words.map(|w| w >> BITS)
    }
    #[inline(always)]
    unsafe fn look(&self, words: [u32; 4]) -> [f32; 4] {
        // SAFETY: masked indices lie in the table, which the caller promises.
        words.map(|w| unsafe { *self.0.add((w & MASK) as usize) })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Avx2, Avx512, Table};

    macro_rules! words {
        ($v:ty, $load:ident, $shift:ident) => {
            type Words = $v;
            #[inline(always)]
            unsafe fn words(p: *const u32) -> $v {
                // SAFETY: the caller's promise.
                unsafe { $load(p.cast()) }
            }
            #[inline(always)]
            unsafe fn shift<const BITS: u32>(words: $v) -> $v {
                // SAFETY: the caller's promise.
                unsafe { $shift::<BITS>(words) }
            }
        };
    }

    macro_rules! words256 {
        () => {
            type Words = __m256i;
            #[inline(always)]
            unsafe fn words(p: *const u32) -> __m256i {
                // SAFETY: the caller's promise.
                unsafe { _mm256_loadu_si256(p.cast()) }
            }
            #[inline(always)]
            unsafe fn shift<const BITS: u32>(words: __m256i) -> __m256i {
                // SAFETY: the caller's promise.
                unsafe { _mm256_srl_epi32(words, _mm_cvtsi32_si128(BITS as i32)) }
            }
        };
    }

    /// 16 entries in a register: codes of 1 to 4 bits, the entries of narrow codes repeated.
    #[derive(Clone, Copy)]
    pub(crate) struct Wide16(__m512);

    impl Table for Wide16 {
        type S = Avx512;
        words!(__m512i, _mm512_loadu_si512, _mm512_srli_epi32);
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm512_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn look(&self, words: __m512i) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe { _mm512_permutexvar_ps(words, self.0) }
        }
    }

    /// `2 PAIRS` registers of 16 entries, a pair to a look-up; bit 5 and above choose among the pairs.
    #[derive(Clone, Copy)]
    pub(crate) struct WidePairs<const PAIRS: usize>([[__m512; 2]; PAIRS]);

    impl<const PAIRS: usize> Table for WidePairs<PAIRS> {
        type S = Avx512;
        words!(__m512i, _mm512_loadu_si512, _mm512_srli_epi32);
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise: `32 PAIRS` entries.
            unsafe {
                let mut table = [[_mm512_setzero_ps(); 2]; PAIRS];
                for (i, pair) in table.iter_mut().enumerate() {
                    *pair = [_mm512_loadu_ps(p.add(32 * i)), _mm512_loadu_ps(p.add(32 * i + 16))];
                }
                Self(table)
            }
        }
        #[inline(always)]
        unsafe fn look(&self, words: __m512i) -> __m512 {
            // SAFETY: the caller's promise.
            unsafe {
                let mut found = [_mm512_setzero_ps(); PAIRS];
                for (found, pair) in found.iter_mut().zip(&self.0) {
                    *found = _mm512_permutex2var_ps(pair[0], words, pair[1]);
                }
                if PAIRS > 1 {
                    let upper = _mm512_test_epi32_mask(words, _mm512_set1_epi32(32));
                    for i in 0..PAIRS / 2 {
                        found[i] = _mm512_mask_blend_ps(upper, found[2 * i], found[2 * i + 1]);
                    }
                }
                if PAIRS > 2 {
                    let upper = _mm512_test_epi32_mask(words, _mm512_set1_epi32(64));
                    for i in 0..PAIRS / 4 {
                        found[i] = _mm512_mask_blend_ps(upper, found[2 * i], found[2 * i + 1]);
                    }
                }
                if PAIRS > 4 {
                    let upper = _mm512_test_epi32_mask(words, _mm512_set1_epi32(128));
                    found[0] = _mm512_mask_blend_ps(upper, found[0], found[1]);
                }
                found[0]
            }
        }
    }

    /// 8 entries in a register: codes of 1 to 3 bits.
    #[derive(Clone, Copy)]
    pub(crate) struct Narrow8(__m256);

    impl Table for Narrow8 {
        type S = Avx2;
        words256!();
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { _mm256_loadu_ps(p) })
        }
        #[inline(always)]
        unsafe fn look(&self, words: __m256i) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe { _mm256_permutevar8x32_ps(self.0, words) }
        }
    }

    /// 16 entries in two registers: codes of 4 bits, the highest of which becomes the sign that chooses.
    #[derive(Clone, Copy)]
    pub(crate) struct Narrow16([__m256; 2]);

    impl Table for Narrow16 {
        type S = Avx2;
        words256!();
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: the caller's promise.
            Self(unsafe { [_mm256_loadu_ps(p), _mm256_loadu_ps(p.add(8))] })
        }
        #[inline(always)]
        unsafe fn look(&self, words: __m256i) -> __m256 {
            // SAFETY: the caller's promise.
            unsafe {
                let low = _mm256_permutevar8x32_ps(self.0[0], words);
                let high = _mm256_permutevar8x32_ps(self.0[1], words);
                _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(words)))
            }
        }
    }

    /// A table in memory: codes of 5 to 8 bits.
    #[derive(Clone, Copy)]
    pub(crate) struct Gathered<const MASK: i32>(*const f32);

    impl<const MASK: i32> Table for Gathered<MASK> {
        type S = Avx2;
        words256!();
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            Self(p)
        }
        #[inline(always)]
        unsafe fn look(&self, words: __m256i) -> __m256 {
            // SAFETY: masked indices lie in the table, which the caller promises.
            unsafe { _mm256_i32gather_ps::<4>(self.0, _mm256_and_si256(words, _mm256_set1_epi32(MASK))) }
        }
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Gathered, Narrow8, Narrow16, Wide16, WidePairs};
