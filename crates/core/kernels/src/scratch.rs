//! Working memory: one aligned buffer or more kept for each thread.

use std::cell::RefCell;

use crate::Buffer;

thread_local! {
    static POOL: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
}

/// Calls `f` with `len` elements of this thread's buffer. Nested calls get buffers of their own.
pub(crate) fn with<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = POOL.with(|pool| pool.borrow_mut().pop()).unwrap_or_default();
    if buffer.len() < len {
        buffer.resize(len);
    }
    let result = f(&mut buffer[..len]);
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
    }
}
