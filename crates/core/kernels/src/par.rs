//! Splitting work over the current rayon pool.

pub(crate) use crate::parallel::each;
use crate::parallel::{chunks, chunks_mut, parts};

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

/// Cuts `out` into planes of `plane` elements and runs `f(index, plane)` on each, several planes to an item when they
/// are small.
pub(crate) fn planes(out: &mut [f32], plane: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if plane > 0 {
        parts(chunks_mut(out, plane), CHUNK / plane, f);
    }
}

/// Cuts `out` into chunks of `len` elements, each of them an item of its own.
pub(crate) fn each_chunk(out: &mut [f32], len: usize, f: impl Fn(usize, &mut [f32]) + Sync + Send) {
    if len > 0 {
        parts(chunks_mut(out, len), 1, f);
    }
}

/// Element-wise `f(y, x)` over chunks.
pub(crate) fn map1(x: &[f32], y: &mut [f32], f: impl Fn(&[f32], &mut [f32]) + Sync + Send) {
    assert_eq!(x.len(), y.len());
    parts((chunks_mut(y, CHUNK), chunks(x, CHUNK)), 1, |_, (y, x)| f(x, y));
}

/// Element-wise `f(a, b, y)` over chunks.
pub(crate) fn map2(
    a: &[f32],
    b: &[f32],
    y: &mut [f32],
    f: impl Fn(&[f32], &[f32], &mut [f32]) + Sync + Send,
) {
    assert!(a.len() == y.len() && b.len() == y.len());
    parts((chunks_mut(y, CHUNK), chunks(a, CHUNK), chunks(b, CHUNK)), 1, |_, (y, a, b)| f(a, b, y));
}

/// Sum in `f64` of `f` over fixed chunks of `0..len`, added in the order of a tree whose shape depends on their number alone.
pub(crate) fn sum_chunks(len: usize, f: impl Fn(std::ops::Range<usize>) -> f64 + Sync + Send) -> f64 {
    fn tree(sums: &[f64]) -> f64 {
        match sums {
            [] => 0.0,
            [one] => *one,
            _ => {
                let (a, b) = sums.split_at(sums.len() / 2);
                tree(a) + tree(b)
            }
        }
    }
    if len <= CHUNK {
        return f(0..len);
    }
    let mut sums = vec![0.0; len.div_ceil(CHUNK)];
    parts(chunks_mut(&mut sums, 1), 1, |c, sum| sum[0] = f(c * CHUNK..len.min((c + 1) * CHUNK)));
    tree(&sums)
}
