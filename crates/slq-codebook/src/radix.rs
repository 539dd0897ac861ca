//! Least-significant-digit radix sort of floats by their order-preserving integer keys.

/// Integer that sorts like the float: sign flipped for positives, all bits for negatives.
/// Both zeros get the key of +0.
#[inline(always)]
pub(crate) fn key_of(value: f32) -> u32 {
    let bits = (value + 0.0).to_bits();
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

/// The float of a key.
#[inline(always)]
pub(crate) fn value_of(key: u32) -> f32 {
    let mask = (((!key) as i32 >> 31) as u32) | 0x8000_0000;
    f32::from_bits(key ^ mask)
}

/// Something a radix sort can order.
pub(crate) trait Item: Copy + Default + Send + Sync {
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

/// Sorts by key; equal keys keep their order.
pub(crate) fn sort<T: Item>(items: &mut Vec<T>) {
    if items.len() < 1024 {
        items.sort_by_key(|item| item.key());
        return;
    }
    let mut counts = [[0usize; BUCKETS]; 3];
    for item in items.iter() {
        let key = item.key();
        for (count, shift) in counts.iter_mut().zip(SHIFTS) {
            count[digit(key, shift)] += 1;
        }
    }
    let mut scratch = vec![T::default(); items.len()];
    for (count, shift) in counts.iter_mut().zip(SHIFTS) {
        // A digit that all keys share moves nothing.
        if count[digit(items[0].key(), shift)] == items.len() {
            continue;
        }
        let mut offset = 0;
        for slot in count.iter_mut() {
            offset += std::mem::replace(slot, offset);
        }
        for &item in items.iter() {
            let slot = &mut count[digit(item.key(), shift)];
            scratch[*slot] = item;
            *slot += 1;
        }
        std::mem::swap(items, &mut scratch);
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
            let mut items: Vec<u64> = (0..n)
                .map(|i| {
                    state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    ((state >> 40) % 700) << 50 | i
                })
                .collect();
            let mut expected = items.clone();
            expected.sort_by_key(|v| v >> 32);
            sort(&mut items);
            assert_eq!(items, expected, "n = {n}");
        }
    }
}
