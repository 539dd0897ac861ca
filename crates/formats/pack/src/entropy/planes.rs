//! Contexts of byte planes: one byte of every value, highest first, with the higher bytes of the value known.

use super::decisions::Coder;
use super::mixer::Mixer;
use super::tree::Tree;

/// Everything that both sides know before the first byte of a plane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlaneModel<'a> {
    /// Where each tensor of the section ends, in values.
    pub ends: &'a [usize],
    /// The planes of the higher bytes, the highest first.
    pub higher: &'a [Vec<u8>],
    /// Position of the block's first byte.
    pub start: usize,
    /// How fast the weights of the mixer learn.
    pub rate: u8,
}

const TREE: Tree = Tree { bits: 8, likely_first: false };
/// Tensors that have a context of their own; later ones share them.
const TENSORS: usize = 256;
/// Values of a context made of several bytes.
const HASHED: usize = 1 << 16;

impl PlaneModel<'_> {
    /// Codes the block's bytes, in place.
    pub fn run<C: Coder>(&self, bytes: &mut [u8], coder: &mut C) {
        let sizes = [1, TENSORS, 256, 256, HASHED, HASHED].map(|values| TREE.counters(values, bytes.len()));
        let mut mixer = Mixer::new(sizes, TREE.nodes(), self.rate);
        let mut tensor = self.ends.partition_point(|&end| end <= self.start);
        for i in 0..bytes.len() {
            let at = self.start + i;
            while self.ends.get(tensor).is_some_and(|&end| end <= at) {
                tensor += 1;
            }
            let left = i.checked_sub(1).map_or(0, |before| bytes[before].into());
            let above = self.higher.last().map_or(0, |plane| plane[at].into());
            let value = self.higher.iter().fold(1usize, |hash, plane| {
                (hash as u32).wrapping_mul(0x2f0b_4c47).wrapping_add(plane[at].into()) as usize
            });
            let contexts = [
                0,
                tensor % TENSORS,
                left,
                above,
                (value ^ value >> 16) % HASHED,
                (tensor % TENSORS) << 8 | if self.higher.is_empty() { left } else { above },
            ];
            bytes[i] = TREE.code(&contexts, &sizes, 0, bytes[i], (&mut mixer, coder));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::decisions::{Player, Recorder};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_come_back(
            values in proptest::collection::vec(any::<[u8; 3]>(), 0..200),
            ends in proptest::collection::vec(0usize..250, 0..5),
            start in 0usize..50,
        ) {
            let start = start.min(values.len());
            let mut ends = ends;
            ends.sort_unstable();
            let plane = |j: usize| values.iter().map(|v| v[j]).collect::<Vec<u8>>();
            let higher = [plane(0), plane(1)];
            let model = PlaneModel { ends: &ends, higher: &higher, start, rate: 5 };
            let mut bytes = plane(2).split_off(start);
            let mut recorder = Recorder::default();
            model.run(&mut bytes, &mut recorder);
            let stored = recorder.finish();
            let mut player = Player::new(&stored).unwrap();
            let mut back = vec![0; bytes.len()];
            model.run(&mut back, &mut player);
            prop_assert!(player.is_done());
            prop_assert_eq!(back, plane(2).split_off(start));
        }
    }

    #[test]
    fn repeated_values_take_little() {
        // Eight different values of two random bytes each, in random order: 3 bits of information a value.
        let pick = |i: u32| (i.wrapping_mul(2_654_435_761) >> 20) & 7;
        let high: Vec<u8> = (0..4000).map(|i| (pick(i) * 37 + 11) as u8).collect();
        let mut low: Vec<u8> = (0..4000).map(|i| (pick(i) * 101 + 7) as u8).collect();
        let mut recorder = Recorder::default();
        let higher = [high];
        PlaneModel { ends: &[4000], higher: &higher, start: 0, rate: 5 }.run(&mut low, &mut recorder);
        let bytes = recorder.finish().len();
        assert!(bytes < 150, "{bytes} bytes for low bytes that follow from the high ones");
    }
}
