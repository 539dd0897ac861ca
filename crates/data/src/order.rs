//! Random numbers that depend on seed, epoch and position alone.
//!
//! The mapping from generator output to numbers is written out here, since that of `rand` may change with a version: a run
//! that is resumed after an upgrade must see the same images.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a generator is used for; two purposes never share random numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// The order of an epoch.
    Shuffle = 1,
    /// Crops and mirrors of one image.
    Augment = 2,
    /// Choosing a part of a split.
    Select = 3,
}

/// The generator for `(seed, epoch)` and a purpose, at its `stream` (the image's index, or the class).
pub(crate) fn generator(seed: u64, epoch: u64, purpose: Purpose, stream: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    key[16] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(stream);
    rng
}

/// A number below `n`, by the high half of a 64 x 64-bit product (its bias is below n / 2^64).
pub(crate) fn below(rng: &mut impl Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// Fisher-Yates shuffle.
pub(crate) fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for i in (1..items.len()).rev() {
        items.swap(i, below(rng, i + 1));
    }
}

/// The order of one epoch of training: a permutation of `0..len` that depends on seed and epoch alone.
pub fn epoch_order(seed: u64, epoch: u64, len: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    shuffle(&mut generator(seed, epoch, Purpose::Shuffle, 0), &mut order);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_a_permutation_that_depends_on_seed_and_epoch() {
        let a = epoch_order(7, 0, 1000);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1000).collect::<Vec<u32>>());
        assert_eq!(a, epoch_order(7, 0, 1000));
        assert_ne!(a, epoch_order(7, 1, 1000));
        assert_ne!(a, epoch_order(8, 0, 1000));
    }

    /// A change here would make resumed runs differ: the values are part of the contract. They were checked against another
    /// implementation of ChaCha8.
    #[test]
    fn the_order_never_changes() {
        assert_eq!(epoch_order(0, 0, 10), [2, 7, 3, 0, 5, 1, 4, 9, 8, 6]);
        let mut rng = generator(1, 2, Purpose::Augment, 3);
        assert_eq!([below(&mut rng, 9), below(&mut rng, 9), below(&mut rng, 2)], [4, 8, 0]);
    }

    #[test]
    fn draws_are_spread_evenly() {
        let mut rng = generator(3, 0, Purpose::Select, 0);
        let mut counts = [0usize; 9];
        for _ in 0..9000 {
            counts[below(&mut rng, 9)] += 1;
        }
        // Five standard deviations of a binomial (9000, 1/9).
        assert!(counts.iter().all(|&c| c.abs_diff(1000) < 150), "{counts:?}");
    }
}
