//! Rows of eight codes, most significant bit first.
//!
//! A row of `bits` bytes times a constant matrix gives eight quotients whose integer parts modulo 2^bits are the codes:
//! this is how a palettized ONNX file unpacks codes with standard operators (docs/onnx.md).

use super::check::check_codes;
use crate::PackError;

/// Bytes that `count` codes of `bits` bits take in rows: `ceil(count / 8) * bits`.
///
/// # Errors
/// A width outside 1 to 8, or a count whose size overflows.
pub fn rows_len(count: usize, bits: u32) -> Result<usize, PackError> {
    if !(1..=8).contains(&bits) {
        return Err(PackError::Width { bits });
    }
    count.div_ceil(8).checked_mul(bits as usize).ok_or(PackError::CountTooLarge { count, bits })
}

/// Packs codes of `bits` bits each (1 to 8) into rows of eight codes, `bits` bytes each, most significant bit first;
/// the last row is filled up with code 0.
///
/// # Errors
/// A width outside 1 to 8, or a code that does not fit it.
pub fn pack_rows(codes: &[u8], bits: u32) -> Result<Vec<u8>, PackError> {
    let mut packed = Vec::with_capacity(rows_len(codes.len(), bits)?);
    check_codes(codes, bits)?;
    for eight in codes.chunks(8) {
        let word = (0..8).fold(0u64, |word, i| word << bits | u64::from(eight.get(i).copied().unwrap_or(0)));
        packed.extend_from_slice(&word.to_be_bytes()[8 - bits as usize..]);
    }
    Ok(packed)
}

/// The `count` codes of `bits` bits each that [`pack_rows`] packed.
///
/// # Errors
/// A width outside 1 to 8, bytes of another length than the rows take, or a last row that is not filled up with
/// code 0. The length is checked before anything is allocated.
pub fn unpack_rows(rows: &[u8], bits: u32, count: usize) -> Result<Vec<u8>, PackError> {
    let expected = rows_len(count, bits)?;
    if rows.len() != expected {
        return Err(PackError::Length { count, bits, expected, found: rows.len() });
    }
    let mut codes = Vec::with_capacity(count.next_multiple_of(8));
    for row in rows.chunks_exact(bits as usize) {
        let word = row.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        codes.extend((0..8).rev().map(|i| (word >> (i * bits)) as u8 & (u8::MAX >> (8 - bits))));
    }
    if codes[count..].iter().any(|&code| code != 0) {
        return Err(PackError::Padding);
    }
    codes.truncate(count);
    Ok(codes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rows_are_gapless_and_most_significant_bit_first() {
        assert_eq!(pack_rows(&[1, 0, 1, 1, 0, 0, 0, 1], 1).unwrap(), [0b1011_0001]);
        assert_eq!(pack_rows(&[0b10101, 0b00110], 5).unwrap(), [0b1010_1001, 0b1000_0000, 0, 0, 0]);
        assert_eq!(pack_rows(&[0xab], 8).unwrap(), [0xab, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(pack_rows(&[], 3).unwrap(), []);
    }

    #[test]
    fn bad_input_is_named() {
        assert_eq!(pack_rows(&[0], 9).unwrap_err(), PackError::Width { bits: 9 });
        assert_eq!(unpack_rows(&[], 0, 0).unwrap_err(), PackError::Width { bits: 0 });
        assert_eq!(
            pack_rows(&[1, 4], 2).unwrap_err(),
            PackError::CodeTooLarge { index: 1, code: 4, bits: 2 }
        );
        let short = PackError::Length { count: 9, bits: 3, expected: 6, found: 3 };
        assert_eq!(unpack_rows(&[0; 3], 3, 9).unwrap_err(), short);
        let huge = unpack_rows(&[0], 8, usize::MAX).unwrap_err();
        assert!(matches!(huge, PackError::CountTooLarge { .. } | PackError::Length { .. }), "{huge}");
        assert_eq!(unpack_rows(&[0b1100_0000], 1, 1).unwrap_err(), PackError::Padding);
    }

    proptest! {
        #[test]
        fn comes_back(codes in proptest::collection::vec(any::<u8>(), 0..200), bits in 1u32..=8) {
            let codes: Vec<u8> = codes.iter().map(|c| c & (u8::MAX >> (8 - bits))).collect();
            let packed = pack_rows(&codes, bits).unwrap();
            prop_assert_eq!(packed.len(), codes.len().div_ceil(8) * bits as usize);
            prop_assert_eq!(unpack_rows(&packed, bits, codes.len()).unwrap(), codes);
        }
    }
}
