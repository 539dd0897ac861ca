//! Splitting work over the current rayon pool.

use crate::parallel::prelude::*;

/// Elements in one item of element-wise work: large enough to outweigh the cost of a task, small enough to stay in cache.
pub(crate) const CHUNK: usize = 8192;

/// A pointer that work items share; each of them writes to its own elements.
#[derive(Clone, Copy)]
pub(crate) struct Shared(*mut f32, usize);

// SAFETY: the only access is through `slice`, whose contract forbids overlap between threads.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    pub(crate) fn new(data: &mut [f32]) -> Self {
        Shared(data.as_mut_ptr(), data.len())
    }

    pub(crate) fn ptr(self) -> *mut f32 {
        self.0
    }

    /// Where `start` lies; at least `len` elements follow.
    pub(crate) fn at(self, start: usize, len: usize) -> *mut f32 {
        assert!(start <= self.1 && len <= self.1 - start);
        self.0.wrapping_add(start)
    }

    /// The part from element `start` on.
    pub(crate) fn offset(self, start: usize) -> Self {
        assert!(start <= self.1);
        // SAFETY: in bounds, or one past the end, by the assertion.
        Shared(unsafe { self.0.add(start) }, self.1 - start)
    }

    /// # Safety
    /// While the result is alive, nothing else may access `start..start + len`.
    pub(crate) unsafe fn slice<'a>(self, start: usize, len: usize) -> &'a mut [f32] {
        assert!(start <= self.1 && len <= self.1 - start);
        // SAFETY: in bounds by the assertion, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Runs `f(0..items)` in parallel.
pub(crate) fn each(items: usize, f: impl Fn(usize) + Sync + Send) {
    if items <= 1 {
        (0..items).for_each(f);
    } else {
        (0..items).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Cuts `out` into planes of `plane` elements and runs `f(index, plane)` on each, several planes to an item when they
/// are small.
pub(crate) fn planes(out: &mut [f32], plane: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if plane == 0 || out.is_empty() {
        return;
    }
    out.par_chunks_mut(plane).with_min_len((CHUNK / plane).max(1)).enumerate().for_each(|(i, p)| f(i, p));
}

/// Cuts `out` into chunks of `len` elements, each of them an item of its own.
pub(crate) fn each_chunk(out: &mut [f32], len: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if len > 0 {
        out.par_chunks_mut(len).with_max_len(1).enumerate().for_each(|(i, c)| f(i, c));
    }
}

/// Element-wise `f(y, x)` over chunks.
pub(crate) fn map1(x: &[f32], y: &mut [f32], f: impl Fn(&[f32], &mut [f32]) + Sync + Send) {
    assert_eq!(x.len(), y.len());
    y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| f(x, y));
}

/// Element-wise `f(a, b, y)` over chunks.
pub(crate) fn map2(
    a: &[f32],
    b: &[f32],
    y: &mut [f32],
    f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync + Send,
) {
    assert!(a.len() == y.len() && b.len() == y.len());
    y.par_chunks_mut(CHUNK)
        .zip(a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK)))
        .for_each(|(y, (a, b))| f(a, b, y));
}

/// Sum in `f64` of `f` over fixed chunks of `0..len`, added in order.
pub(crate) fn sum_chunks(len: usize, f: impl Fn(std::ops::Range<usize>) -> f64 + Sync + Send) -> f64 {
    let chunks = len.div_ceil(CHUNK);
    if chunks <= 1 {
        return f(0..len);
    }
    // A fixed tree over chunk indices: the shape depends on the count alone.
    fn tree(lo: usize, hi: usize, f: &(impl Fn(usize) -> f64 + Sync + Send)) -> f64 {
        if hi - lo == 1 {
            return f(lo);
        }
        let mid = lo + (hi - lo) / 2;
        let (a, b) = crate::parallel::join(|| tree(lo, mid, f), || tree(mid, hi, f));
        a + b
    }
    tree(0, chunks, &|c| f(c * CHUNK..len.min((c + 1) * CHUNK)))
}
