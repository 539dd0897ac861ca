//! Bias, activation and store of a sum.

use std::ops::Range;

use super::geometry::Post;
use crate::Store;
#[cfg(target_arch = "x86_64")]
use crate::simd::Masked;

/// The bias is added to a sum, then the old output where `store` says so; the result is clamped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish<'a> {
    /// One value for each output channel.
    pub bias: Option<&'a [f32]>,
    /// Lower and upper bound.
    pub bounds: (f32, f32),
    pub store: Store,
}

impl<'a> Finish<'a> {
    pub(super) fn new(bias: Option<&'a [f32]>, post: Post, store: Store) -> Self {
        Finish { bias, bounds: post.bounds(), store }
    }

    /// Neither bias nor clamping: how gradients are stored.
    pub(super) fn gradient(store: Store) -> Self {
        Finish::new(None, Post::None, store)
    }

    /// The same for some of the channels.
    pub(super) fn of(self, channels: Range<usize>) -> Self {
        Finish { bias: self.bias.map(|b| &b[channels]), ..self }
    }
}

/// Finishes the sums of `ROWS` output channels at the pixels of two vectors; the channels lie `plane` apart in the output, which
/// begins at `y`.
///
/// # Safety
/// The processor has the instruction set; `finish` has a bias for each row, if any; `y` begins `ROWS` runs of two vectors that
/// nothing else accesses.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn store_rows<S: Masked, const ROWS: usize>(
    sums: &[[S::V; 2]; ROWS],
    finish: Finish<'_>,
    y: *mut f32,
    plane: usize,
) {
    let Finish { bias, bounds, store } = finish;
    // SAFETY: the caller's promise.
    unsafe {
        let (lo, hi) = (S::splat(&bounds.0), S::splat(&bounds.1));
        for (r, sums) in sums.iter().enumerate() {
            let bias = bias.map_or(S::zero(), |b| S::splat(b.as_ptr().add(r)));
            for (half, &v) in sums.iter().enumerate() {
                let to = y.add(r * plane + half * S::LANES);
                let mut v = S::add(v, bias);
                if store.accumulates() {
                    v = S::add(S::load(to), v);
                }
                S::store(to, S::clamp(v, lo, hi));
            }
        }
    }
}
