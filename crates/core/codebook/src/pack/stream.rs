//! One stream of bits: code `i` takes bits `i * bits ..` of the bytes, lowest bit first.

use super::check::check_codes;
use crate::PackError;

/// Bytes that `count` codes of `bits` bits take.
///
/// # Errors
/// A width outside 1 to 8, or a count whose size overflows.
pub fn packed_len(count: usize, bits: u32) -> Result<usize, PackError> {
    if !(1..=8).contains(&bits) {
        return Err(PackError::Width { bits });
    }
    let whole = (count / 8).checked_mul(bits as usize);
    whole
        .map(|bytes| bytes + (count % 8 * bits as usize).div_ceil(8))
        .ok_or(PackError::CountTooLarge { count, bits })
}

/// Packs codes of `bits` bits each (1 to 8) without gaps; eight codes take `bits` bytes, the bits left over in
/// the last byte are zero.
///
/// # Errors
/// A width outside 1 to 8, or a code that does not fit it.
pub fn pack(codes: &[u8], bits: u32) -> Result<Vec<u8>, PackError> {
    let len = packed_len(codes.len(), bits)?;
    check_codes(codes, bits)?;
    let mut bytes = vec![0u8; len];
    let mut codes = codes.chunks_exact(8);
    let mut at = 0;
    for eight in &mut codes {
        let word = squeeze(load(eight), bits).to_le_bytes();
        match bytes.get_mut(at..at + 8) {
            // The bytes beyond are overwritten by the next words.
            Some(out) => out.copy_from_slice(&word),
            None => bytes[at..at + bits as usize].copy_from_slice(&word[..bits as usize]),
        }
        at += bits as usize;
    }
    let rest = squeeze(load(codes.remainder()), bits).to_le_bytes();
    let left = len - at;
    bytes[at..].copy_from_slice(&rest[..left]);
    Ok(bytes)
}

/// The `count` codes of `bits` bits each that [`pack`] packed.
///
/// # Errors
/// A width outside 1 to 8, bytes of another length than `count` codes take, or left-over bits that are not zero.
/// The length is checked before anything is allocated.
pub fn unpack(bytes: &[u8], bits: u32, count: usize) -> Result<Vec<u8>, PackError> {
    let expected = packed_len(count, bits)?;
    if bytes.len() != expected {
        return Err(PackError::Length { count, bits, expected, found: bytes.len() });
    }
    // Below 8 here: a last byte exists whenever some of its bits are unused.
    let used = (count % 8) as u32 * bits % 8;
    if used > 0 && bytes.last().is_some_and(|last| last >> used != 0) {
        return Err(PackError::Padding);
    }
    let mut codes = vec![0u8; count];
    let mut at = 0;
    for eight in codes.chunks_mut(8) {
        let word = match bytes.get(at..at + 8) {
            Some(word) => load(word),
            None => load(&bytes[at..bytes.len().min(at + bits as usize)]),
        };
        eight.copy_from_slice(&spread(word, bits).to_le_bytes()[..eight.len()]);
        at += bits as usize;
    }
    Ok(codes)
}

/// Up to eight bytes as a word, the first one lowest.
#[inline(always)]
fn load(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

/// The lowest `bits` of every byte side by side: neighbours are joined in pairs, then fours, then all eight.
#[inline(always)]
fn squeeze(word: u64, bits: u32) -> u64 {
    let pairs = (word & 0x00ff_00ff_00ff_00ff) | (word & 0xff00_ff00_ff00_ff00) >> (8 - bits);
    let fours = (pairs & 0x0000_ffff_0000_ffff) | (pairs & 0xffff_0000_ffff_0000) >> (16 - 2 * bits);
    (fours & 0xffff_ffff) | (fours & 0xffff_ffff_0000_0000) >> (32 - 4 * bits)
}

/// The reverse of [`squeeze`]; bits beyond the eighth code are dropped.
#[inline(always)]
fn spread(word: u64, bits: u32) -> u64 {
    let low = |bits: u32| (1u64 << bits) - 1;
    let half = low(4 * bits);
    let fours = (word & half) | (word >> (4 * bits) & half) << 32;
    let quarter = low(2 * bits) * 0x0000_0001_0000_0001;
    let pairs = (fours & quarter) | (fours >> (2 * bits) & quarter) << 16;
    let code = low(bits) * 0x0001_0001_0001_0001;
    (pairs & code) | (pairs >> bits & code) << 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_lowest_bit_first() {
        assert_eq!(pack(&[1, 2, 3], 2).unwrap(), [0b11_10_01]);
        assert_eq!(pack(&[0x1f, 0, 0x1f], 5).unwrap(), [0x1f, 0x7c]);
        assert_eq!(pack(&[], 3).unwrap(), []);
        assert_eq!(packed_len(400_000, 5).unwrap(), 250_000);
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(pack(&[0], 0).unwrap_err(), PackError::Width { bits: 0 });
        assert_eq!(unpack(&[], 9, 0).unwrap_err(), PackError::Width { bits: 9 });
        assert_eq!(pack(&[1, 4], 2).unwrap_err(), PackError::CodeTooLarge { index: 1, code: 4, bits: 2 });
        assert_eq!(
            unpack(&[0], 3, 3).unwrap_err(),
            PackError::Length { count: 3, bits: 3, expected: 2, found: 1 }
        );
        assert!(matches!(
            unpack(&[0], 8, usize::MAX).unwrap_err(),
            PackError::Length { .. } | PackError::CountTooLarge { .. }
        ));
        assert_eq!(unpack(&[0b100], 1, 2).unwrap_err(), PackError::Padding);
    }

    proptest! {
        #[test]
        fn every_code_lies_where_it_should(
            codes in proptest::collection::vec(any::<u8>(), 0..60), bits in 1u32..=8,
        ) {
            let codes: Vec<u8> = codes.iter().map(|c| c & ((1u16 << bits) - 1) as u8).collect();
            let packed = pack(&codes, bits).unwrap();
            let bit = |at: usize| packed[at / 8] >> (at % 8) & 1;
            for (i, &code) in codes.iter().enumerate() {
                let found = (0..bits as usize).fold(0, |found, b| found | bit(i * bits as usize + b) << b);
                prop_assert_eq!(found, code, "code {}", i);
            }
        }

        #[test]
        fn comes_back(codes in proptest::collection::vec(any::<u8>(), 0..200), bits in 1u32..=8) {
            let codes: Vec<u8> = codes.iter().map(|c| c & ((1u16 << bits) - 1) as u8).collect();
            let packed = pack(&codes, bits).unwrap();
            prop_assert_eq!(packed.len(), (codes.len() * bits as usize).div_ceil(8));
            prop_assert_eq!(unpack(&packed, bits, codes.len()).unwrap(), codes);
        }
    }
}
