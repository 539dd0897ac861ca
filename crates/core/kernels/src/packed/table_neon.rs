//! Codebooks in NEON's registers: `tbl` looks bytes up in 64 bytes at once.

use std::arch::aarch64::*;

use super::table::Table;
use crate::simd::Simd128;

/// `16 QUADS` entries in `4 QUADS` registers: codes of 1 to 4 bits (the entries of narrow codes repeated), or of 5.
#[derive(Clone, Copy)]
pub(super) struct Looked<const QUADS: usize>([uint8x16x4_t; QUADS]);

/// Words of a vector, and the next codes.
macro_rules! words {
    () => {
        type S = Simd128;
        type Words = uint32x4_t;
        #[inline(always)]
        unsafe fn words(p: *const u32) -> uint32x4_t {
            // SAFETY: the caller's promise.
            unsafe { vld1q_u32(p) }
        }
        #[inline(always)]
        unsafe fn shift<const BITS: u32>(words: uint32x4_t) -> uint32x4_t {
            // SAFETY: aarch64 has NEON. A negative shift goes to the right.
            unsafe { vshlq_u32(words, vdupq_n_s32(-(BITS as i32))) }
        }
    };
}

impl<const QUADS: usize> Table for Looked<QUADS> {
    words!();
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's promise: `16 QUADS` entries.
        unsafe {
            let quad = |q: usize| {
                let part = |i: usize| vreinterpretq_u8_f32(vld1q_f32(p.add(16 * q + 4 * i)));
                uint8x16x4_t(part(0), part(1), part(2), part(3))
            };
            let mut table = [quad(0); QUADS];
            for (q, to) in table.iter_mut().enumerate().skip(1) {
                *to = quad(q);
            }
            Self(table)
        }
    }
    #[inline(always)]
    unsafe fn look(&self, words: uint32x4_t) -> float32x4_t {
        // SAFETY: aarch64 has NEON. Code c becomes bytes 4 c .. 4 c + 3 of the table; `tbx` keeps what it does not find.
        unsafe {
            let code = vandq_u32(words, vdupq_n_u32(16 * QUADS as u32 - 1));
            let at = vmlaq_u32(vdupq_n_u32(0x0302_0100), code, vdupq_n_u32(0x0404_0404));
            let at = vreinterpretq_u8_u32(at);
            let mut found = vqtbl4q_u8(self.0[0], at);
            for (q, &quad) in self.0.iter().enumerate().skip(1) {
                found = vqtbx4q_u8(found, quad, vsubq_u8(at, vdupq_n_u8(64 * q as u8)));
            }
            vreinterpretq_f32_u8(found)
        }
    }
}

/// A table in memory: codes of 6 to 8 bits, whose tables would fill the registers.
#[derive(Clone, Copy)]
pub(super) struct InMemory<const MASK: u32>(*const f32);

impl<const MASK: u32> Table for InMemory<MASK> {
    words!();
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(p)
    }
    #[inline(always)]
    unsafe fn look(&self, words: uint32x4_t) -> float32x4_t {
        // SAFETY: masked indices lie in the table, which the caller promises.
        unsafe {
            let code = vandq_u32(words, vdupq_n_u32(MASK));
            let found = vld1q_dup_f32(self.0.add(vgetq_lane_u32::<0>(code) as usize));
            let found = vld1q_lane_f32::<1>(self.0.add(vgetq_lane_u32::<1>(code) as usize), found);
            let found = vld1q_lane_f32::<2>(self.0.add(vgetq_lane_u32::<2>(code) as usize), found);
            vld1q_lane_f32::<3>(self.0.add(vgetq_lane_u32::<3>(code) as usize), found)
        }
    }
}
