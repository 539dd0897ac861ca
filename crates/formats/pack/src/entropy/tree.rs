//! Symbols as paths of binary decisions, and tables of counters for the decisions of each context.

use super::decisions::Coder;
use super::mixer::Mixer;

/// The most counters that one context has; contexts beyond share counters.
const MOST_COUNTERS: usize = 1 << 18;

/// How a symbol is cut into decisions: whether it is the likely symbol where that is asked first, then its bits,
/// highest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tree {
    /// Bits of a symbol, 1 to 8.
    pub bits: u32,
    /// Whether the first decision is about the likely symbol.
    pub likely_first: bool,
}

impl Tree {
    /// Nodes of the tree: 0 for the likely symbol, 1 for the first bit, `2 n` and `2 n + 1` below node `n`.
    pub fn nodes(self) -> usize {
        1 << self.bits
    }

    /// Counters for a context of `values` values in a block of `symbols` symbols, which reach few of them.
    pub fn counters(self, values: usize, symbols: usize) -> usize {
        let values = values.min(symbols.saturating_mul(4)).min(MOST_COUNTERS);
        values.next_power_of_two().saturating_mul(self.nodes()).min(MOST_COUNTERS)
    }

    /// Codes one symbol.
    ///
    /// `contexts` are the values of its contexts, `sizes` their numbers of counters.
    #[inline(always)]
    pub fn code<const N: usize, C: Coder>(
        self,
        contexts: &[usize; N],
        sizes: &[usize; N],
        likely: u8,
        symbol: u8,
        (mixer, coder): (&mut Mixer<N>, &mut C),
    ) -> u8 {
        let mut slots = [0; N];
        for i in 0..N {
            slots[i] = spread(contexts[i], self.bits) & (sizes[i] - 1);
        }
        if self.likely_first && !mixer.decide(&slots, 0, symbol != likely, coder) {
            return likely;
        }
        let mut node = 1;
        for bit in (0..self.bits).rev() {
            let at: [usize; N] = std::array::from_fn(|i| slots[i] + node);
            let bit = mixer.decide(&at, node, symbol >> bit & 1 == 1, coder);
            node = node << 1 | usize::from(bit);
        }
        (node - self.nodes()) as u8
    }
}

/// The first counter of a context's value, before it is cut to the size of the table. Values above the table's size
/// are spread over it.
#[inline(always)]
fn spread(value: usize, bits: u32) -> usize {
    let first = value << bits;
    if first < MOST_COUNTERS {
        return first;
    }
    // The golden ratio's multiples are far from each other.
    ((value as u32).wrapping_mul(0x9e37_79b9) >> 8) as usize >> bits << bits
}
