//! Binary decisions, each with its probability, to bytes and back.
//!
//! A model runs the same way when it writes and when it reads: it asks a [`Coder`] for one decision after the
//! other. [`Recorder`] returns what it is given and keeps it; [`Player`] returns what was kept.

use std::borrow::Borrow;
use std::num::NonZeroU32;

use constriction::UnwrapInfallible;
use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::stack::DefaultAnsCoder;
use constriction::stream::{Decode, Encode};

use super::ans;

/// Bits of a probability.
pub(crate) const PRECISION: usize = 16;

/// Gives the decisions of a model.
pub(crate) trait Coder {
    /// The decision that comes out: `bit` where it is being written. `one` is the probability of a 1 in units of
    /// 2^-16, from 1 to 65535.
    fn decide(&mut self, one: u32, bit: bool) -> bool;
}

/// The probability of a 1.
#[derive(Clone, Copy)]
struct One(u32);

impl EntropyModel<PRECISION> for One {
    type Symbol = bool;
    type Probability = u32;
}

impl EncoderModel<PRECISION> for One {
    #[inline(always)]
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<bool>) -> Option<(u32, NonZeroU32)> {
        let (start, length) =
            if *symbol.borrow() { (0, self.0) } else { (self.0, (1 << PRECISION) - self.0) };
        Some((start, NonZeroU32::new(length)?))
    }
}

impl DecoderModel<PRECISION> for One {
    #[inline(always)]
    fn quantile_function(&self, quantile: u32) -> (bool, u32, NonZeroU32) {
        let one = quantile < self.0;
        let (start, length) = if one { (0, self.0) } else { (self.0, (1 << PRECISION) - self.0) };
        (one, start, NonZeroU32::new(length).unwrap_or(NonZeroU32::MIN))
    }
}

/// Keeps decisions to encode them: the coder is a stack and takes the last one first.
#[derive(Default)]
pub(crate) struct Recorder {
    /// Probability of a 1, shifted left by one, and the decision.
    decisions: Vec<u32>,
}

impl Coder for Recorder {
    #[inline(always)]
    fn decide(&mut self, one: u32, bit: bool) -> bool {
        self.decisions.push(one << 1 | u32::from(bit));
        bit
    }
}

impl Recorder {
    /// Number of decisions.
    pub fn len(&self) -> usize {
        self.decisions.len()
    }

    /// The decisions as bytes.
    pub fn finish(self) -> Vec<u8> {
        let mut coder = DefaultAnsCoder::new();
        for decision in self.decisions.into_iter().rev() {
            // Both outcomes have a probability, so this cannot fail.
            let _ = coder.encode_symbol(decision & 1 == 1, One(decision >> 1));
        }
        ans::to_bytes(&coder.into_compressed().unwrap_infallible())
    }
}

/// Gives the decisions back.
pub(crate) struct Player(DefaultAnsCoder);

impl Player {
    /// From the bytes of [`Recorder::finish`]; `None` where they cannot be that.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        ans::coder(bytes).map(Self)
    }

    /// Whether the last decision has been taken.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }
}

impl Coder for Player {
    #[inline(always)]
    fn decide(&mut self, one: u32, _: bool) -> bool {
        self.0.decode_symbol(One(one)).unwrap_infallible()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decisions_come_back(decisions in proptest::collection::vec((1u32..65536, any::<bool>()), 0..300)) {
            let mut recorder = Recorder::default();
            for &(one, bit) in &decisions {
                prop_assert_eq!(recorder.decide(one, bit), bit);
            }
            prop_assert_eq!(recorder.len(), decisions.len());
            let bytes = recorder.finish();
            let mut player = Player::new(&bytes).unwrap();
            for &(one, bit) in &decisions {
                prop_assert_eq!(player.decide(one, false), bit);
            }
            prop_assert!(player.is_done());
        }
    }

    #[test]
    fn likely_decisions_take_little() {
        let mut recorder = Recorder::default();
        (0..10_000).for_each(|_| _ = recorder.decide(65_535, true));
        assert!(recorder.finish().len() <= 1);
    }
}
