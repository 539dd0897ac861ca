//! Codes of 1 to 8 bits without gaps: code `i` takes bits `i * bits ..` of the bytes, lowest bit first.

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
    if codes.iter().fold(0, |all, code| all | code) >> (bits - 1) > 1 {
        let index = codes.iter().position(|code| code >> (bits - 1) > 1).unwrap_or_default();
        return Err(PackError::CodeTooLarge { index, code: codes[index].into(), bits });
    }
    let mut bytes = vec![0u8; len];
    for (eight, out) in codes.chunks(8).zip(bytes.chunks_mut(bits as usize)) {
        let word = eight
            .iter()
            .enumerate()
            .fold(0u64, |word, (i, &code)| word | u64::from(code) << (i as u32 * bits));
        out.copy_from_slice(&word.to_le_bytes()[..out.len()]);
    }
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
    let mask = (1u64 << bits) - 1;
    for (eight, packed) in codes.chunks_mut(8).zip(bytes.chunks(bits as usize)) {
        let mut word = [0u8; 8];
        word[..packed.len()].copy_from_slice(packed);
        let word = u64::from_le_bytes(word);
        for (i, code) in eight.iter_mut().enumerate() {
            *code = (word >> (i as u32 * bits) & mask) as u8;
        }
    }
    Ok(codes)
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
        fn comes_back(codes in proptest::collection::vec(any::<u8>(), 0..200), bits in 1u32..=8) {
            let codes: Vec<u8> = codes.iter().map(|c| c & ((1u16 << bits) - 1) as u8).collect();
            let packed = pack(&codes, bits).unwrap();
            prop_assert_eq!(packed.len(), (codes.len() * bits as usize).div_ceil(8));
            prop_assert_eq!(unpack(&packed, bits, codes.len()).unwrap(), codes);
        }
    }
}
