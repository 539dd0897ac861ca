//! Tensors as planes of bytes: the highest byte of every value first, so that bytes that resemble each other are
//! neighbours.

use slq_graph::{DType, TensorData};

/// Number of an element type in the file.
const TYPES: [(u8, DType); 13] = [
    (1, DType::F32),
    (2, DType::F64),
    (3, DType::F16),
    (4, DType::Bf16),
    (5, DType::I64),
    (6, DType::I32),
    (7, DType::I16),
    (8, DType::I8),
    (9, DType::U64),
    (10, DType::U32),
    (11, DType::U16),
    (12, DType::U8),
    (13, DType::Bool),
];

/// The number of an element type; `None` for one that this version cannot store.
pub(crate) fn type_number(dtype: DType) -> Option<u8> {
    TYPES.iter().find(|(_, d)| *d == dtype).map(|(n, _)| *n)
}

/// The element type of a number.
pub(crate) fn type_of(number: u8) -> Option<DType> {
    TYPES.iter().find(|(n, _)| *n == number).map(|(_, d)| *d)
}

/// Whether the last element has all of its bytes.
pub(crate) fn is_whole(data: &TensorData) -> bool {
    match data {
        TensorData::Raw(dtype, bytes) => bytes.len() % dtype.size() == 0,
        _ => true,
    }
}

/// Moves the sign of a 32-bit float below its exponent: the first plane is the exponent, the second the sign and the
/// highest bits of the fraction.
fn exponent_first(bits: u32) -> u32 {
    (bits << 1 & 0xff00_0000) | (bits >> 8 & 0x80_0000) | (bits & 0x7f_ffff)
}

/// The reverse of [`exponent_first`].
fn sign_first(word: u32) -> u32 {
    (word >> 1 & 0x7f80_0000) | (word << 8 & 0x8000_0000) | (word & 0x7f_ffff)
}

/// Appends the values' bytes to their planes.
pub(crate) fn split(data: &TensorData, planes: &mut [Vec<u8>]) {
    let size = planes.len();
    let mut push = |bytes: &[u8]| bytes.iter().zip(planes.iter_mut()).for_each(|(b, p)| p.push(*b));
    match data {
        TensorData::F32(v) => v.iter().for_each(|x| push(&exponent_first(x.to_bits()).to_be_bytes())),
        TensorData::I64(v) => v.iter().for_each(|x| push(&x.to_be_bytes())),
        TensorData::I32(v) => v.iter().for_each(|x| push(&x.to_be_bytes())),
        TensorData::U8(v) => push_all(v, planes),
        TensorData::Bool(v) => v.iter().for_each(|&x| push(&[x.into()])),
        TensorData::Raw(_, bytes) => {
            // Little-endian elements.
            for (j, plane) in planes.iter_mut().enumerate() {
                plane.extend(bytes.iter().skip(size - 1 - j).step_by(size));
            }
        }
        _ => {}
    }
}

fn push_all(bytes: &[u8], planes: &mut [Vec<u8>]) {
    if let Some(plane) = planes.first_mut() {
        plane.extend_from_slice(bytes);
    }
}

/// The values from `range` of the planes; `None` where a Boolean is neither 0 nor 1.
pub(crate) fn join(dtype: DType, planes: &[Vec<u8>], range: std::ops::Range<usize>) -> Option<TensorData> {
    let part: Vec<&[u8]> = planes.iter().map(|p| &p[range.clone()]).collect();
    fn values<const N: usize, T>(part: &[&[u8]], of: impl Fn([u8; N]) -> T) -> Vec<T> {
        let count = part.first().map_or(0, |p| p.len());
        (0..count).map(|i| of(std::array::from_fn(|j| part[j][i]))).collect()
    }
    Some(match dtype {
        DType::F32 => TensorData::F32(values(&part, |b| f32::from_bits(sign_first(u32::from_be_bytes(b))))),
        DType::I64 => TensorData::I64(values(&part, i64::from_be_bytes)),
        DType::I32 => TensorData::I32(values(&part, i32::from_be_bytes)),
        DType::U8 => TensorData::U8(part[0].to_vec()),
        DType::Bool if part[0].iter().any(|&b| b > 1) => return None,
        DType::Bool => TensorData::Bool(part[0].iter().map(|&b| b == 1).collect()),
        other => {
            let size = other.size();
            let count = range.len();
            let mut bytes = vec![0; count * size];
            for (j, plane) in part.iter().enumerate() {
                for (i, &byte) in plane.iter().enumerate() {
                    bytes[i * size + size - 1 - j] = byte;
                }
            }
            TensorData::Raw(other, bytes)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_of_types_come_back() {
        for (number, dtype) in TYPES {
            assert_eq!((type_number(dtype), type_of(number)), (Some(number), Some(dtype)));
        }
        assert_eq!(type_of(0), None);
    }

    #[test]
    fn a_float_begins_with_its_exponent() {
        let mut planes = vec![Vec::new(); 4];
        split(&TensorData::F32(vec![1.0, -1.5]), &mut planes);
        assert_eq!(planes, [[127, 127], [0, 0x80 | 0x40], [0, 0], [0, 0]]);
    }

    #[test]
    fn a_boolean_is_zero_or_one() {
        assert_eq!(join(DType::Bool, &[vec![0, 2]], 0..2), None);
        assert_eq!(join(DType::Bool, &[vec![0, 2]], 0..1), Some(TensorData::Bool(vec![false])));
    }

    proptest! {
        #[test]
        fn values_come_back(words in proptest::collection::vec(any::<u64>(), 0..50), before in 0usize..4) {
            let all = [
                TensorData::F32(words.iter().map(|&w| f32::from_bits(w as u32)).collect()),
                TensorData::I64(words.iter().map(|&w| w as i64).collect()),
                TensorData::I32(words.iter().map(|&w| w as i32).collect()),
                TensorData::U8(words.iter().map(|&w| w as u8).collect()),
                TensorData::Bool(words.iter().map(|&w| w & 1 == 1).collect()),
                TensorData::Raw(DType::F64, words.iter().flat_map(|w| w.to_le_bytes()).collect()),
                TensorData::Raw(DType::F16, words.iter().flat_map(|&w| (w as u16).to_le_bytes()).collect()),
            ];
            for data in all {
                let dtype = slq_graph::Tensor::new(vec![words.len()], data.clone()).unwrap().dtype();
                let mut planes = vec![vec![0; before]; dtype.size()];
                split(&data, &mut planes);
                let back = join(dtype, &planes, before..before + words.len()).unwrap();
                let bits = |d: &TensorData| match d {
                    TensorData::F32(v) => v.iter().map(|x| x.to_bits()).collect::<Vec<_>>(),
                    _ => Vec::new(),
                };
                prop_assert_eq!(bits(&back), bits(&data));
                prop_assert!(matches!(data, TensorData::F32(_)) || back == data);
            }
        }
    }
}
