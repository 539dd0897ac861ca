//! Codebooks in WebAssembly's vectors: `swizzle` looks bytes up in 16 bytes at once.

use std::arch::wasm32::*;

use super::table::Table;
use crate::simd::Simd128;

/// `4 PARTS` entries in as many vectors as parts: codes of 1 to 4 bits (the entries of one bit repeated).
#[derive(Clone, Copy)]
pub(super) struct Looked<const PARTS: usize>([v128; PARTS]);

/// Words of a vector, and the next codes.
macro_rules! words {
    () => {
        type S = Simd128;
        type Words = v128;
        #[inline(always)]
        unsafe fn words(p: *const u32) -> v128 {
            // SAFETY: the caller's promise; no alignment is needed.
            unsafe { v128_load(p.cast()) }
        }
        #[inline(always)]
        unsafe fn shift<const BITS: u32>(words: v128) -> v128 {
            u32x4_shr(words, BITS)
        }
    };
}

impl<const PARTS: usize> Table for Looked<PARTS> {
    words!();
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        let mut table = [f32x4_splat(0.0); PARTS];
        for (i, part) in table.iter_mut().enumerate() {
            // SAFETY: the caller's promise: `4 PARTS` entries.
            *part = unsafe { v128_load(p.add(4 * i).cast()) };
        }
        Self(table)
    }
    #[inline(always)]
    unsafe fn look(&self, words: v128) -> v128 {
        // Code c becomes bytes 4 c .. 4 c + 3 of the table. An index of 16 or more gives zero, so that the parts are
        // or-ed: each finds its own bytes only.
        let first = u32x4_shl(v128_and(words, u32x4_splat(4 * PARTS as u32 - 1)), 2);
        let each = i8x16_shuffle::<0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12>(first, first);
        let at = i8x16_add(each, u32x4_splat(0x0302_0100));
        let mut found = i8x16_swizzle(self.0[0], at);
        for (i, &part) in self.0.iter().enumerate().skip(1) {
            found = v128_or(found, i8x16_swizzle(part, i8x16_sub(at, u8x16_splat(16 * i as u8))));
        }
        found
    }
}

/// A table in memory: codes of 5 to 8 bits.
#[derive(Clone, Copy)]
pub(super) struct InMemory<const MASK: u32>(*const f32);

impl<const MASK: u32> Table for InMemory<MASK> {
    words!();
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(p)
    }
    #[inline(always)]
    unsafe fn look(&self, words: v128) -> v128 {
        let code = v128_and(words, u32x4_splat(MASK));
        // SAFETY: masked indices lie in the table, which the caller promises.
        unsafe {
            let found = v128_load32_splat(self.0.add(u32x4_extract_lane::<0>(code) as usize).cast());
            let found =
                v128_load32_lane::<1>(found, self.0.add(u32x4_extract_lane::<1>(code) as usize).cast());
            let found =
                v128_load32_lane::<2>(found, self.0.add(u32x4_extract_lane::<2>(code) as usize).cast());
            v128_load32_lane::<3>(found, self.0.add(u32x4_extract_lane::<3>(code) as usize).cast())
        }
    }
}
