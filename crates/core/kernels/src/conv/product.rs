//! Products of a panel of weights with a gathered tile, finished in registers.

use super::finish::{Finish, store_rows};
use super::panels::Panel;
use crate::Isa;
use crate::simd::{Avx2, Avx512, Masked};

/// `y[r * plane + ..]` = the sums of row r over `depth` channels and taps, `tile` being two vectors for each of them, finished.
///
/// # Safety
/// The processor has the instruction set; `panel` has `depth` weights for each row of the function, `tile` two vectors for
/// each; the rest as [`store_rows`].
pub(super) type Product =
    unsafe fn(depth: usize, panel: Panel<'_>, tile: *const f32, finish: Finish<'_>, out: (*mut f32, usize));

/// The functions for 1, 2 .. rows; none without vectors that have masks.
pub(super) fn of(isa: Isa) -> &'static [Product] {
    match isa.effective() {
        Isa::Avx512 => &AVX512,
        Isa::Avx2 => &AVX2,
        Isa::Scalar => &[],
    }
}

/// # Safety
/// As [`Product`].
#[inline(always)]
unsafe fn body<S: Masked, const ROWS: usize>(
    depth: usize,
    panel: Panel<'_>,
    tile: *const f32,
    finish: Finish<'_>,
    (y, plane): (*mut f32, usize),
) {
    let (rs, cs) = (panel.rs, panel.cs);
    let (mut a, mut b) = (panel.a.as_ptr(), tile);
    // SAFETY: the caller's promise covers every place that is touched.
    unsafe {
        let mut sums = [[S::zero(); 2]; ROWS];
        for _ in 0..depth {
            let (b0, b1) = (S::load(b), S::load(b.add(S::LANES)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let v = S::splat(a.wrapping_add(r * rs));
                sums[0] = S::fma(v, b0, sums[0]);
                sums[1] = S::fma(v, b1, sums[1]);
            }
            a = a.wrapping_add(cs);
            b = b.wrapping_add(2 * S::LANES);
        }
        store_rows::<S, ROWS>(&sums, finish, y, plane);
    }
}

macro_rules! table {
    ($table:ident, $simd:ty, $feature:literal, $len:literal, [$($r:literal),*]) => {
        static $table: [Product; $len] = {
            #[target_feature(enable = $feature)]
            unsafe fn rows<const ROWS: usize>(
                depth: usize,
                panel: Panel<'_>,
                tile: *const f32,
                finish: Finish<'_>,
                out: (*mut f32, usize),
            ) {
                // SAFETY: passed on.
                unsafe { body::<$simd, ROWS>(depth, panel, tile, finish, out) }
            }
            [$(rows::<$r>),*]
        };
    };
}

table!(AVX2, Avx2, "avx2,fma", 6, [1, 2, 3, 4, 5, 6]);
table!(
    AVX512,
    Avx512,
    "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma",
    12,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
);
