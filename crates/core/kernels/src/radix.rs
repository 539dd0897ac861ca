//! Least-significant-digit radix sort of floats by their order-preserving integer keys.

use crate::parallel::prelude::*;

/// Integer that sorts like the float: sign flipped for positives, all bits for negatives.
/// Both zeros get the key of +0.
#[inline(always)]
pub fn key_of(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

/// The float of a key.
#[inline(always)]
pub fn value_of(key: u32) -> f32 {
    let mask = (((!key) as i32 >> 31) as u32) | 0x8000_0000;
    f32::from_bits(key ^ mask)
}

/// What can be sorted. Private: [`sort_in_parts`] relies on `key` giving the same answer every time.
trait Item: Copy + Default + Send + Sync {
    fn key(self) -> u32;
}

impl Item for u32 {
    #[inline(always)]
    fn key(self) -> u32 {
        self
    }
}

/// Key in the high half, payload in the low half.
impl Item for u64 {
    #[inline(always)]
    fn key(self) -> u32 {
        (self >> 32) as u32
    }
}

const SHIFTS: [u32; 3] = [0, 11, 22];
const BUCKETS: usize = 1 << 11;

#[inline(always)]
fn digit(key: u32, shift: u32) -> usize {
    (key >> shift) as usize & (BUCKETS - 1)
}

/// Fewest items a thread is started for.
const SHARE: usize = 1 << 17;

/// Sorts keys, on the current rayon pool.
pub fn sort_keys(keys: &mut Vec<u32>) {
    sort(keys);
}

/// Sorts by the key in the high half; equal keys keep their order, so the result does not depend on the number of
/// threads.
pub fn sort_by_high_half(items: &mut Vec<u64>) {
    sort(items);
}

fn sort<T: Item>(items: &mut Vec<T>) {
    let parts = (items.len() / SHARE).clamp(1, crate::parallel::current_num_threads());
    sort_in_parts(items, parts);
}

fn sort_in_parts<T: Item>(items: &mut Vec<T>, parts: usize) {
    if items.len() < 1024 {
        items.sort_by_key(|item| item.key());
        return;
    }
    let share = items.len().div_ceil(parts);
    let mut scratch = vec![T::default(); items.len()];
    for shift in SHIFTS {
        let mut counts: Vec<Vec<usize>> = items.par_chunks(share).map(|part| count(part, shift)).collect();
        // A digit that all keys share moves nothing.
        let first = digit(items[0].key(), shift);
        if counts.iter().map(|c| c[first]).sum::<usize>() == items.len() {
            continue;
        }
        // Where each part puts its items: digit by digit, and within a digit part by part.
        let mut offset = 0;
        for bucket in 0..BUCKETS {
            for count in counts.iter_mut() {
                offset += std::mem::replace(&mut count[bucket], offset);
            }
        }
        let target = Target(scratch.as_mut_ptr());
        items.par_chunks(share).zip(counts).for_each(|(part, mut slots)| {
            for &item in part {
                let slot = &mut slots[digit(item.key(), shift)];
                // SAFETY: the slots of part and digit start at the number of items that belong before them and
                // are as many as were counted in this very part, so over all parts every index below the
                // length of `scratch` is written exactly once.
                unsafe { target.put(*slot, item) };
                *slot += 1;
            }
        });
        std::mem::swap(items, &mut scratch);
    }
}

fn count<T: Item>(items: &[T], shift: u32) -> Vec<usize> {
    let mut counts = vec![0; BUCKETS];
    for item in items {
        counts[digit(item.key(), shift)] += 1;
    }
    counts
}

/// Memory that several threads write to, each in places of its own.
struct Target<T>(*mut T);

// SAFETY: `put` is the only access, and its callers keep to distinct places.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    /// # Safety
    /// `index` must lie inside the memory, and no other thread may use that place meanwhile.
    #[inline(always)]
    unsafe fn put(&self, index: usize, item: T) {
        // SAFETY: the caller keeps the index inside and to itself.
        unsafe { self.0.add(index).write(item) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_like_floats_and_come_back() {
        let ladder = [f32::MIN, -1.5, -1e-40, -0.0, 0.0, f32::from_bits(1), 1e-40, 1.0, 1.0000001, f32::MAX];
        for pair in ladder.windows(2) {
            assert_eq!(pair[0] < pair[1], key_of(pair[0]) < key_of(pair[1]), "{pair:?}");
        }
        for v in ladder {
            assert_eq!(value_of(key_of(v)), v);
        }
    }

    #[test]
    fn sorts_short_and_long_inputs_stably() {
        for n in [0, 1, 5, 1023, 1024, 5000] {
            let mut state = 1u64;
            let items: Vec<u64> = (0..n)
                .map(|i| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    ((state >> 40) % 700) << 50 | i
                })
                .collect();
            let mut expected = items.clone();
            expected.sort_by_key(|v| v >> 32);
            for parts in [1, 2, 5] {
                let mut sorted = items.clone();
                sort_in_parts(&mut sorted, parts);
                assert_eq!(sorted, expected, "n = {n}, parts = {parts}");
            }
        }
    }
}
