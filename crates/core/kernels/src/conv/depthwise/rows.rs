//! From sums over taps to rows of an output plane.

use crate::isa::multiversion;

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

/// In whole vectors: what one row writes past its end, the next overwrites.
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
