//! Working memory: cache-line aligned buffers, and one of them kept for each thread.

use std::cell::RefCell;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; 16]);

/// A growing buffer of `f32` aligned to 64 bytes; contents are unspecified after it grew.
#[derive(Default)]
pub(crate) struct Aligned {
    lines: Vec<Line>,
}

impl Aligned {
    pub(crate) fn with_len(len: usize) -> Self {
        let mut buffer = Aligned::default();
        buffer.get(len);
        buffer
    }

    /// The first `len` elements; grows when there are fewer.
    pub(crate) fn get(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(16);
        if self.lines.len() < lines {
            self.lines.resize(lines, Line([0.0; 16]));
        }
        // SAFETY: `Line` is sixteen consecutive f32 without padding, and `len <= 16 * self.lines.len()`.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), len) }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lines.len() * size_of::<Line>()
    }
}

thread_local! {
    static POOL: RefCell<Vec<Aligned>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of this thread's buffer. Nested calls get buffers of their own.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
    let result = f(buffer.get(len));
    POOL.with(|pool| pool.borrow_mut().push(buffer));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_nest() {
        with(100, |a| {
            assert_eq!(a.len(), 100);
            assert_eq!(a.as_ptr() as usize % 64, 0);
            a.fill(1.0);
            with(50, |b| b.fill(2.0));
            assert!(a.iter().all(|&v| v == 1.0));
        });
        assert_eq!(Aligned::with_len(17).bytes(), 128);
    }
}
