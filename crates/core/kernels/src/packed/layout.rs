//! Where the code of a weight lies.
//!
//! A row is a run of 32-bit words, sixteen to a *line*. A word holds `32 / bits` codes, the first in its lowest bits. Code
//! `i` of a line is code `i / 16` of word `i % 16`: the first codes of all words are sixteen consecutive weights, one for
//! each lane of a vector, and a shift of the whole line brings the next sixteen. The codes after the last whole line are
//! a line of `tail` words, code `i` being code `i / tail` of word `i % tail`.

/// Words of a line, and lanes of the widest vector.
pub(super) const LINE: usize = 16;
/// Most codes of a line.
pub(super) const MAX_LINE_CODES: usize = 32 * LINE;

/// The layout of one row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub depth: usize,
    pub bits: u32,
    /// Whole lines.
    pub lines: usize,
    /// Words after them.
    pub tail: usize,
}

impl Layout {
    pub fn new(depth: usize, bits: u32) -> Self {
        let per = 32 / bits as usize;
        let lines = depth / (per * LINE);
        Self { depth, bits, lines, tail: (depth % (per * LINE)).div_ceil(per) }
    }

    /// Codes of a word.
    pub fn per_word(&self) -> usize {
        32 / self.bits as usize
    }

    /// Codes of a line.
    pub fn line_codes(&self) -> usize {
        self.per_word() * LINE
    }

    /// Words of a row.
    pub fn words(&self) -> usize {
        self.lines * LINE + self.tail
    }

    /// Word and shift of weight `k` in its row.
    pub fn place(&self, k: usize) -> (usize, u32) {
        let (line, i) = (k / self.line_codes(), k % self.line_codes());
        let width = if line < self.lines { LINE } else { self.tail };
        (line * LINE + i % width, self.bits * (i / width) as u32)
    }

    /// The first weight after the whole lines.
    pub fn tail_start(&self) -> usize {
        self.lines * self.line_codes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_weight_has_bits_of_its_own() {
        for bits in 1..=8 {
            for depth in [0, 1, 15, 16, 17, 63, 128, 129, 500, 513, 1024, 1100] {
                let layout = Layout::new(depth, bits);
                let mut used = vec![0u32; layout.words()];
                for k in 0..depth {
                    let (word, shift) = layout.place(k);
                    let mask = (((1u64 << bits) - 1) << shift) as u32;
                    assert_eq!(used[word] & mask, 0, "{bits} bits, weight {k} of {depth}");
                    assert!(shift + bits <= 32);
                    used[word] |= mask;
                }
                // At most one word more than the codes fill.
                assert!(layout.words() * layout.per_word() < depth + layout.per_word());
            }
        }
    }
}
