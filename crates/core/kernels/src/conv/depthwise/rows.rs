//! From sums over taps to rows of an output plane.

use crate::Isa;
use crate::isa::multiversion;
#[cfg(target_arch = "x86_64")]
use crate::simd::{Avx2, Avx512, Masked};

/// Lanes that are summed up side by side; runs are padded to a multiple.
pub(super) const LANES: usize = 16;

/// How rows of sums become an output plane.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub cols: usize,
    pub width: usize,
    pub bias: f32,
    pub lo: f32,
    pub hi: f32,
}

/// Nine taps of `from`, row by row and finished at once; false for another number of taps, and where there are no vectors for it or
/// they would be mostly empty.
/// `from` has [`LANES`] elements behind the last that a tap reads.
#[cfg(target_arch = "x86_64")]
pub(super) fn nine(isa: Isa, r: Rows, from: &[f32], offsets: &[usize], w: &[f32], y: &mut [f32]) -> bool {
    if let (Ok(w), Ok(offsets)) = (w.try_into(), <&[usize; 9]>::try_from(offsets)) {
        let last = offsets.iter().max().unwrap_or(&0) + (y.len() / r.width).saturating_sub(1) * r.cols;
        assert!(last + r.width.next_multiple_of(LANES) <= from.len(), "room for whole vectors");
        match isa.effective() {
            // SAFETY: the instruction set is effective, and all vectors lie inside by the assertion.
            Isa::Avx512 if r.width >= 8 => return unsafe { nine_avx512(r, from, offsets, w, y) },
            // SAFETY: as above.
            Isa::Avx2 if r.width >= 4 => return unsafe { nine_avx2(r, from, offsets, w, y) },
            _ => {}
        }
    }
    false
}

/// No vectors for it here.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn nine(_: Isa, _: Rows, _: &[f32], _: &[usize], _: &[f32], _: &mut [f32]) -> bool {
    false
}

/// # Safety
/// The processor has the instruction set; `from` is readable from each offset on for all rows in whole vectors.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn nine_body<S: Masked>(
    r: Rows,
    from: &[f32],
    offsets: &[usize; 9],
    w: &[f32; 9],
    y: &mut [f32],
) -> bool {
    // SAFETY: the caller's promise; what a vector writes past its row, the next overwrites, and the last is masked.
    unsafe {
        let (bias, lo, hi) = (S::splat(&r.bias), S::splat(&r.lo), S::splat(&r.hi));
        let w: [S::V; 9] = std::array::from_fn(|t| S::splat(&w[t]));
        for row in 0..y.len() / r.width {
            let x: [*const f32; 9] = std::array::from_fn(|t| from.as_ptr().add(offsets[t] + row * r.cols));
            for i in (0..r.width).step_by(S::LANES) {
                let mut sum = S::mul(w[0], S::load(x[0].add(i)));
                for t in 1..9 {
                    sum = S::fma(w[t], S::load(x[t].add(i)), sum);
                }
                let v = S::clamp(S::add(sum, bias), lo, hi);
                let at = row * r.width + i;
                let to = y.as_mut_ptr().add(at);
                match y.len() - at {
                    left if left < S::LANES => S::store_masked(to, S::mask((1 << left) - 1), v),
                    _ => S::store(to, v),
                }
            }
        }
    }
    true
}

/// # Safety
/// As [`nine_body`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn nine_avx2(r: Rows, from: &[f32], offsets: &[usize; 9], w: &[f32; 9], y: &mut [f32]) -> bool {
    // SAFETY: passed on.
    unsafe { nine_body::<Avx2>(r, from, offsets, w, y) }
}

/// # Safety
/// As [`nine_body`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
unsafe fn nine_avx512(r: Rows, from: &[f32], offsets: &[usize; 9], w: &[f32; 9], y: &mut [f32]) -> bool {
    // SAFETY: passed on.
    unsafe { nine_body::<Avx512>(r, from, offsets, w, y) }
}

/// Whole vectors here too: what one row writes past its end, the next overwrites.
#[inline(always)]
fn rows_body<const FMA: bool>(r: Rows, sums: &[f32], y: &mut [f32]) {
    let finish = |s: f32| {
        let v = s + r.bias;
        let v = if v < r.lo { r.lo } else { v };
        if v > r.hi { r.hi } else { v }
    };
    let whole = r.width / LANES * LANES;
    for row in 0..y.len() / r.width {
        let (sums, y) = (&sums[row * r.cols..], &mut y[row * r.width..]);
        for (y, sums) in y[..whole].chunks_exact_mut(LANES).zip(sums[..whole].chunks_exact(LANES)) {
            y.iter_mut().zip(sums).for_each(|(y, &s)| *y = finish(s));
        }
        let (sums, y) = (&sums[whole..], &mut y[whole..]);
        if let (Some(sums), Some(y)) = (sums.first_chunk::<LANES>(), y.first_chunk_mut::<LANES>()) {
            y.iter_mut().zip(sums).for_each(|(y, &s)| *y = finish(s));
        } else {
            y[..r.width - whole].iter_mut().zip(sums).for_each(|(y, &s)| *y = finish(s));
        }
    }
}

multiversion! {
    pub(super) fn rows_run(r: Rows, sums: &[f32], y: &mut [f32]) = rows_body;
}
