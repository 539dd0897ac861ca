//! Small numbers from the fuzzer's bytes; zeros once they are used up.

pub struct Bytes<'a>(pub &'a [u8]);

impl Bytes<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + usize::from(self.byte()) % (high - low + 1)
    }

    /// From -2 to 2.
    pub fn value(&mut self) -> f32 {
        (f32::from(self.byte()) - 128.0) / 64.0
    }

    pub fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.value()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
