//! The innermost loops: small tiles kept in registers.

use crate::Isa;
#[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
use crate::simd::Simd128;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512};
use crate::simd::{Plain, Simd};

/// Rows of the largest tile of any instruction set.
pub(crate) const MAX_ROWS: usize = 12;
/// Columns of the widest tile.
pub(crate) const MAX_COLS: usize = 32;

/// `tile[r][..cols] = sum over p < k of a[r * rs + p * cs] * b[p * cols + ..]`; the tile has `cols` columns, contiguous.
///
/// # Safety
/// `a` is readable at all `r * rs + p * cs`, `b` at `k * cols` places, `tile` writable at `rows * cols`; the instruction
/// set is at hand.
pub(crate) type Micro =
    unsafe fn(k: usize, a: *const f32, rs: usize, cs: usize, b: *const f32, tile: *mut f32);

/// Sums over images and output pixels for a weight gradient: `tile[r][..] = sum over i < images, y < oh, x < ow of
/// a[offsets[r] + i * image + y * row + x * col] * b[((i * oh + y) * ow + x) * ldb + ..]`.
///
/// # Safety
/// As [`Micro`], for these places.
pub(crate) type MicroSum =
    unsafe fn(sum: &SumShape, a: *const f32, offsets: *const usize, b: *const f32, tile: *mut f32);

/// The loops of [`MicroSum`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct SumShape {
    /// Images, and the distance from one to the next in `a`; in `b` their pixels follow each other.
    pub images: usize,
    pub image: usize,
    pub oh: usize,
    pub ow: usize,
    pub row: usize,
    pub col: usize,
    pub ldb: usize,
}

/// The kernels of one instruction set; entry `r - 1` computes `r` rows.
pub(crate) struct Kernels {
    /// Lanes of a vector.
    pub lanes: usize,
    /// Columns of a tile of `tiles`: two vectors.
    pub cols: usize,
    /// Largest number of rows.
    pub rows: usize,
    pub tiles: [Micro; MAX_ROWS],
    /// One vector of columns, then two.
    pub sums: [[MicroSum; MAX_ROWS]; 2],
}

#[inline(always)]
unsafe fn tile_body<S: Simd, const ROWS: usize>(
    k: usize,
    a: *const f32,
    rs: usize,
    cs: usize,
    b: *const f32,
    tile: *mut f32,
) {
    // SAFETY: the caller's promise covers every place that is touched.
    unsafe {
        let mut acc = [[S::zero(); 2]; ROWS];
        let (mut a, mut b) = (a, b);
        for _ in 0..k {
            let b0 = S::load(b);
            let b1 = S::load(b.add(S::LANES));
            for (r, acc) in acc.iter_mut().enumerate() {
                let v = S::splat(a.add(r * rs));
                acc[0] = S::fma(v, b0, acc[0]);
                acc[1] = S::fma(v, b1, acc[1]);
            }
            a = a.add(cs);
            b = b.add(2 * S::LANES);
        }
        for (r, acc) in acc.iter().enumerate() {
            S::store(tile.add(2 * r * S::LANES), acc[0]);
            S::store(tile.add((2 * r + 1) * S::LANES), acc[1]);
        }
    }
}

#[inline(always)]
unsafe fn sum_body<S: Simd, const ROWS: usize, const VECS: usize>(
    s: &SumShape,
    a: *const f32,
    offsets: *const usize,
    b: *const f32,
    tile: *mut f32,
) {
    // SAFETY: the caller's promise covers every place that is touched.
    unsafe {
        let mut acc = [[S::zero(); VECS]; ROWS];
        let mut b = b;
        for i in 0..s.images {
            let mut from: [*const f32; ROWS] = std::array::from_fn(|r| a.add(*offsets.add(r) + i * s.image));
            for _ in 0..s.oh {
                let mut at = 0;
                for _ in 0..s.ow {
                    let bv: [S::V; VECS] = std::array::from_fn(|v| S::load(b.add(v * S::LANES)));
                    for (r, acc) in acc.iter_mut().enumerate() {
                        let v = S::splat(from[r].add(at));
                        for (acc, &bv) in acc.iter_mut().zip(&bv) {
                            *acc = S::fma(v, bv, *acc);
                        }
                    }
                    at += s.col;
                    b = b.add(s.ldb);
                }
                for p in &mut from {
                    *p = p.wrapping_add(s.row);
                }
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                S::store(tile.add((r * VECS + v) * S::LANES), *acc);
            }
        }
    }
}

macro_rules! kernels {
    ($table:ident, $simd:ty, $rows:literal, [$($r:literal),*], $(#[$feature:meta])?) => {
        #[allow(dead_code)]
        pub(crate) static $table: Kernels = {
            $(#[$feature])?
            unsafe fn tile<const ROWS: usize>(k: usize, a: *const f32, rs: usize, cs: usize, b: *const f32, tile: *mut f32) {
                // SAFETY: passed on.
                unsafe { tile_body::<$simd, ROWS>(k, a, rs, cs, b, tile) }
            }
            $(#[$feature])?
            unsafe fn sum<const ROWS: usize, const VECS: usize>(s: &SumShape, a: *const f32, offsets: *const usize, b: *const f32, tile: *mut f32) {
                // SAFETY: passed on.
                unsafe { sum_body::<$simd, ROWS, VECS>(s, a, offsets, b, tile) }
            }
            Kernels {
                lanes: <$simd as Simd>::LANES,
                cols: 2 * <$simd as Simd>::LANES,
                rows: $rows,
                tiles: [$(tile::<$r>),*],
                sums: [[$(sum::<$r, 1>),*], [$(sum::<$r, 2>),*]],
            }
        };
    };
}

// Entries beyond `rows` repeat the last so that the tables have one length; they are never called.
kernels!(PLAIN, Plain, 3, [1, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3],);
// 32 registers and 16: browsers run on both kinds of processor.
#[cfg(target_arch = "aarch64")]
kernels!(SIMD128, Simd128, 12, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],);
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
kernels!(SIMD128, Simd128, 6, [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6],);
#[cfg(target_arch = "x86_64")]
kernels!(AVX2, Avx2, 6, [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6], #[target_feature(enable = "avx2,fma")]);
#[cfg(target_arch = "x86_64")]
kernels!(AVX512, Avx512, 12, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]);

impl Kernels {
    /// Those of the best supported instruction set, up to `isa`.
    pub(crate) fn of(isa: Isa) -> &'static Kernels {
        match isa.effective() {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            #[cfg(any(target_arch = "aarch64", all(target_arch = "wasm32", target_feature = "simd128")))]
            Isa::Simd128 => &SIMD128,
            _ => &PLAIN,
        }
    }

    /// Cuts `m` rows into panels of nearly equal height: their number.
    pub(crate) fn panels(&self, m: usize) -> usize {
        m.div_ceil(self.rows)
    }
}

/// Where part `i` of `parts` nearly equal parts of `0..len` starts.
pub(crate) fn cut(len: usize, parts: usize, i: usize) -> usize {
    len * i / parts.max(1)
}
