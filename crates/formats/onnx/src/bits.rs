//! Packing of codes, and the matrix that unpacks them.
//!
//! Eight codes of `b` bits fill `b` bytes, most significant bit first, without gaps. Code `i` of the eight lies
//! in one byte or across two, so dividing by a power of two brings it to the units: a row of bytes times a
//! constant `b` x 8 matrix gives all eight quotients, whose integer parts modulo 2^b are the codes. Every
//! product and sum is exact in 32-bit floats: a byte times a power of two, at most 16 significant bits.

/// Packs codes of `bits` (1..=7) bits, each below 2^bits; the last row is filled up with code 0. The result has
/// `ceil(codes / 8)` rows of `bits` bytes.
pub fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let mut packed = Vec::with_capacity(codes.len().div_ceil(8) * bits);
    for eight in codes.chunks(8) {
        let mut word = 0u64;
        for i in 0..8 {
            word = word << bits | u64::from(eight.get(i).copied().unwrap_or(0));
        }
        packed.extend_from_slice(&word.to_be_bytes()[8 - bits..]);
    }
    packed
}

/// The first `count` codes of `packed`, which holds `ceil(count / 8)` rows of `bits` (1..=7) bytes.
pub fn unpack(packed: &[u8], bits: usize, count: usize) -> Vec<u8> {
    let mut codes = Vec::with_capacity(packed.len() / bits * 8);
    for row in packed.chunks_exact(bits) {
        let word = row.iter().fold(0u64, |word, &byte| word << 8 | u64::from(byte));
        codes.extend((0..8).rev().map(|i| (word >> (i * bits)) as u8 & ((1 << bits) - 1)));
    }
    codes.truncate(count);
    codes
}

/// The matrix [bits, 8], row-major, that turns a row of packed bytes into eight quotients.
pub fn matrix(bits: usize) -> Vec<f32> {
    let mut m = vec![0.0; bits * 8];
    for code in 0..8 {
        let (byte, offset) = (code * bits / 8, code * bits % 8);
        let below = 8 - (offset + bits) as i32; // bits of this byte after the code; negative if it goes on
        m[byte * 8 + code] = 2f32.powi(-below);
        if below < 0 {
            m[(byte + 1) * 8 + code] = 2f32.powi(-below - 8);
        }
    }
    m
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_gapless_and_most_significant_first() {
        assert_eq!(pack(&[1, 0, 1, 1, 0, 0, 0, 1], 1), [0b1011_0001]);
        assert_eq!(pack(&[0b10101, 0b00110], 5), [0b1010_1001, 0b1000_0000, 0, 0, 0]);
    }

    #[test]
    fn what_is_packed_unpacks_directly_and_through_the_matrix() {
        for bits in 1..=7 {
            for count in [1usize, 7, 8, 9, 100] {
                let codes: Vec<u8> = (0..count).map(|i| (i * 37 + 11) as u8 & ((1 << bits) - 1)).collect();
                let packed = pack(&codes, bits);
                assert_eq!(packed.len(), count.div_ceil(8) * bits, "{bits} bits, {count} codes");
                assert_eq!(unpack(&packed, bits, count), codes, "{bits} bits, {count} codes");

                let m = matrix(bits);
                let product = packed.chunks_exact(bits).flat_map(|row| {
                    let m = &m;
                    (0..8).map(move |c| (0..bits).map(|r| f32::from(row[r]) * m[r * 8 + c]).sum::<f32>())
                });
                let through: Vec<u8> = product.map(|q| (q as i32 % (1 << bits)) as u8).take(count).collect();
                assert_eq!(through, codes, "{bits} bits, {count} codes, by matrix");
            }
        }
    }

    #[test]
    fn the_matrix_is_exact_for_all_bytes_set() {
        for bits in 1..=7 {
            for c in 0..8 {
                let sum: f64 = (0..bits).map(|r| 255.0 * f64::from(matrix(bits)[r * 8 + c])).sum();
                assert_eq!(f64::from(sum as f32), sum, "{bits} bits, code {c}");
            }
        }
    }
}
