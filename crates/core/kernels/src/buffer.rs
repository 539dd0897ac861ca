//! Floats on whole cache lines.

use std::collections::TryReserveError;
use std::ops::{Deref, DerefMut};

/// Floats in a cache line.
const LINE: usize = 16;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LINE]);

/// Floats that begin at a cache line: vectors of 64 bytes that lie at multiples of their length touch one line, not two.
#[derive(Clone, Default)]
pub struct Buffer {
    lines: Vec<Line>,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::default();
        buffer.resize(len);
        buffer
    }

    /// The same with `len` values; those that are new are zero or what was there before.
    ///
    /// # Panics
    /// Where there is no memory for them, as a `Vec` does.
    pub fn resize(&mut self, len: usize) {
        let lines = len.div_ceil(LINE);
        if lines > self.lines.len() {
            self.lines.reserve_exact(lines - self.lines.len());
            self.lines.resize(lines, Line([0.0; LINE]));
        }
        self.len = len;
    }

    /// Replaces the buffer by `len` zeros.
    ///
    /// # Errors
    /// Where there is no memory for them; the buffer is empty then.
    pub fn try_replace(&mut self, len: usize) -> Result<(), TryReserveError> {
        *self = Self::default();
        self.lines.try_reserve_exact(len.div_ceil(LINE))?;
        self.resize(len);
        Ok(())
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.lines.capacity() * size_of::<Line>()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: `Line` is sixteen consecutive f32 without padding, and there are lines for `len` of them.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast::<f32>(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast::<f32>(), self.len) }
    }
}

impl From<&[f32]> for Buffer {
    fn from(values: &[f32]) -> Self {
        let mut buffer = Self::zeros(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").field("len", &self.len).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_begin_at_lines_and_grow() {
        let mut buffer = Buffer::zeros(17);
        assert_eq!((buffer.len(), buffer.bytes(), buffer.as_ptr() as usize % 64), (17, 128, 0));
        buffer[16] = 3.0;
        buffer.resize(100);
        assert_eq!((buffer.len(), buffer[16], buffer[99]), (100, 3.0, 0.0));
        buffer.try_replace(20).unwrap();
        assert_eq!(buffer[..], [0.0; 20]);
        assert!(buffer.try_replace(usize::MAX / 4).is_err() && buffer.is_empty());
    }
}
