//! Whether a kernel overwrites its output or adds to it.

/// What a kernel does with the values that its output already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Store {
    /// They are replaced.
    #[default]
    Overwrite,
    /// The result is added to them.
    Accumulate,
}

impl Store {
    /// Whether the result is added.
    #[inline(always)]
    pub fn accumulates(self) -> bool {
        self == Store::Accumulate
    }

    /// Stores one value.
    #[inline(always)]
    pub(crate) fn put(self, to: &mut f32, value: f32) {
        *to = if self.accumulates() { *to + value } else { value };
    }

    /// Stores a slice of values.
    #[inline(always)]
    pub(crate) fn put_all(self, to: &mut [f32], values: &[f32]) {
        if self.accumulates() {
            to.iter_mut().zip(values).for_each(|(to, &v)| *to += v);
        } else {
            to.copy_from_slice(values);
        }
    }
}
