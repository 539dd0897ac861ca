//! The matrix that unpacks rows of packed codes with standard operators.
//!
//! Eight codes of `b` bits fill a row of `b` bytes, most significant bit first (`slq_codebook::pack_rows`). Code `i` of
//! the eight lies in one byte or across two, so dividing by a power of two brings it to the units: a row of bytes times
//! a constant `b` x 8 matrix gives all eight quotients, whose integer parts modulo 2^b are the codes. Every product and
//! sum is exact in 32-bit floats: a byte times a power of two, at most 16 significant bits.

/// The matrix [bits, 8], row-major, that turns a row of packed bytes into eight quotients; `bits` is 1 to 7.
pub fn unpacking_matrix(bits: usize) -> Vec<f32> {
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
    use slq_codebook::pack_rows;

    use super::*;

    #[test]
    fn the_matrix_gives_back_what_is_packed() {
        for bits in 1usize..=7 {
            for count in [1usize, 7, 8, 9, 100] {
                let codes: Vec<u8> = (0..count).map(|i| (i * 37 + 11) as u8 & ((1 << bits) - 1)).collect();
                let packed = pack_rows(&codes, bits as u32).unwrap();
                let m = unpacking_matrix(bits);
                let product = packed.chunks_exact(bits).flat_map(|row| {
                    let m = &m;
                    (0..8).map(move |c| (0..bits).map(|r| f32::from(row[r]) * m[r * 8 + c]).sum::<f32>())
                });
                let through: Vec<u8> = product.map(|q| (q as i32 % (1 << bits)) as u8).take(count).collect();
                assert_eq!(through, codes, "{bits} bits, {count} codes");
            }
        }
    }

    #[test]
    fn the_matrix_is_exact_for_all_bytes_set() {
        for bits in 1..=7 {
            for c in 0..8 {
                let m = unpacking_matrix(bits);
                let sum: f64 = (0..bits).map(|r| 255.0 * f64::from(m[r * 8 + c])).sum();
                assert_eq!(f64::from(sum as f32), sum, "{bits} bits, code {c}");
            }
        }
    }
}
