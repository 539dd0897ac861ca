//! NumPy's array files: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.
//!
//! Only the header is parsed here, and by hand: general readers of its Python syntax recurse on nested brackets and multiply
//! the dimensions unchecked, so that a garbled file can end a process.

use crate::DataError;

/// An array: its type as NumPy writes it (`<f4`), its shape, and its bytes in C order.
#[derive(Debug, PartialEq)]
pub struct Array<'a> {
    /// Byte order, kind and size of an element: `<f4`.
    pub dtype: String,
    /// Lengths of the dimensions.
    pub shape: Vec<u64>,
    /// The elements.
    pub data: &'a [u8],
}

/// What every file begins with.
pub const MAGIC: &[u8] = b"\x93NUMPY";

/// Most dimensions of an array.
const MAX_DIMS: usize = 32;

/// Reads an array; `name` is for messages.
///
/// # Errors
/// [`DataError::NpyHeader`], [`DataError::NpyType`], [`DataError::Dimensions`], [`DataError::Truncated`] or
/// [`DataError::TrailingData`].
pub fn parse<'a>(name: &str, bytes: &'a [u8]) -> Result<Array<'a>, DataError> {
    let broken = |problem| DataError::NpyHeader { array: name.into(), problem };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| broken("it does not start with \\x93NUMPY"))?;
    let (header_len, rest) = match *rest {
        [1, _, a, b, ref rest @ ..] => (u16::from_le_bytes([a, b]) as usize, rest),
        [2 | 3, _, a, b, c, d, ref rest @ ..] => (u32::from_le_bytes([a, b, c, d]) as usize, rest),
        [_, _, _, _, ..] => return Err(broken("unknown version")),
        _ => return Err(broken("it ends too early")),
    };
    let (header, data) = rest.split_at_checked(header_len).ok_or_else(|| broken("it ends too early"))?;
    let header = std::str::from_utf8(header).map_err(|_| broken("it is not text"))?;
    let dtype = quoted(value(header, "descr").ok_or_else(|| broken("it lacks 'descr'"))?);
    let dtype = dtype.ok_or_else(|| broken("the element type is not a simple one"))?;
    let order = value(header, "fortran_order").ok_or_else(|| broken("it lacks 'fortran_order'"))?;
    let shape = value(header, "shape").and_then(shape).ok_or_else(|| broken("it lacks a valid 'shape'"))?;
    // With at most one dimension above 1 both orders are the same.
    if !order.starts_with("False") && shape.iter().filter(|&&dim| dim > 1).count() > 1 {
        return Err(broken("Fortran order is not supported: save a C-contiguous array"));
    }
    let array = Array { dtype: dtype.to_owned(), shape, data };
    let Some(item) = array.item_bytes() else {
        return Err(DataError::NpyType {
            array: name.into(),
            dtype: array.dtype,
            expected: "a number of 1 to 8 bytes",
        });
    };
    let announced = array.shape.iter().try_fold(item, |product, &dim| product.checked_mul(dim));
    let Some(announced) = announced else {
        return Err(DataError::Dimensions { file: name.into(), dims: array.shape });
    };
    match announced.cmp(&(data.len() as u64)) {
        std::cmp::Ordering::Equal => Ok(array),
        std::cmp::Ordering::Greater => {
            Err(DataError::Truncated { file: name.into(), announced, found: data.len() as u64 })
        }
        std::cmp::Ordering::Less => Err(DataError::TrailingData { file: name.into(), announced }),
    }
}

/// The text after `'key':`, without leading space.
fn value<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let after = ['\'', '"'].iter().find_map(|quote| header.split_once(&format!("{quote}{key}{quote}")))?.1;
    Some(after.trim_start().strip_prefix(':')?.trim_start())
}

fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    text[1..].split_once(quote).map(|(inside, _)| inside)
}

fn shape(text: &str) -> Option<Vec<u64>> {
    let (inside, _) = text.strip_prefix('(')?.split_once(')')?;
    let inside = inside.trim();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    let inside = inside.strip_suffix(',').unwrap_or(inside);
    let dims: Option<Vec<u64>> = inside.split(',').map(|dim| dim.trim().parse().ok()).collect();
    dims.filter(|dims| dims.len() <= MAX_DIMS)
}

impl Array<'_> {
    /// Byte order, kind and size of the elements; `None` if they are not plain numbers.
    fn item(&self) -> Option<(bool, u8, u64)> {
        let (&[order, kind], size) = self.dtype.as_bytes().split_first_chunk::<2>()?;
        let size = match size {
            [size @ (b'1' | b'2' | b'4' | b'8')] => u64::from(size - b'0'),
            _ => return None,
        };
        let plain = matches!(order, b'<' | b'>' | b'|' | b'=') && matches!(kind, b'u' | b'i' | b'f' | b'b');
        plain.then_some((order == b'>', kind, size))
    }

    fn item_bytes(&self) -> Option<u64> {
        self.item().map(|(_, _, size)| size)
    }

    /// The elements as integers, if that is what they are.
    pub fn integers(&self) -> Option<Vec<i64>> {
        let (big, kind, size) = self.item()?;
        if !matches!(kind, b'u' | b'i') {
            return None;
        }
        let size = size as usize;
        let widen = |bytes: &[u8]| {
            let mut wide = [0; 8];
            wide[..size].copy_from_slice(bytes);
            if big {
                wide[..size].reverse();
            }
            let unused = 64 - 8 * size as u32;
            let value = u64::from_le_bytes(wide) << unused;
            match kind {
                b'i' => value as i64 >> unused,
                // A value that i64 cannot hold is no label; it stays out of range as -1.
                _ => i64::try_from(value >> unused).unwrap_or(-1),
            }
        };
        Some(self.data.chunks_exact(size).map(widen).collect())
    }

    /// The elements as 32-bit floats, if they are floats of 32 or 64 bits.
    pub fn floats(&self) -> Option<Vec<f32>> {
        let (big, kind, size) = self.item()?;
        let order = |bytes: [u8; 4]| if big { f32::from_be_bytes(bytes) } else { f32::from_le_bytes(bytes) };
        let order64 =
            |bytes: [u8; 8]| if big { f64::from_be_bytes(bytes) } else { f64::from_le_bytes(bytes) };
        match (kind, size) {
            (b'f', 4) => Some(self.data.as_chunks().0.iter().map(|&b| order(b)).collect()),
            (b'f', 8) => Some(self.data.as_chunks().0.iter().map(|&b| order64(b) as f32).collect()),
            _ => None,
        }
    }

    /// Whether the elements are unsigned bytes.
    pub fn is_bytes(&self) -> bool {
        matches!(self.item(), Some((_, b'u', 1)))
    }
}

/// The header of an array in C order, padded so that the data starts at a multiple of 64 bytes.
pub fn header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim},")).collect();
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({dims}), }}");
    let unpadded = 10 + text.len() + 1;
    text.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn typed(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
        file(&format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"), data)
    }

    #[test]
    fn numbers_of_every_width_and_order() {
        let cases: [(&str, &[u8], &[i64]); 7] = [
            ("|u1", &[0, 255], &[0, 255]),
            ("|i1", &[0, 255], &[0, -1]),
            ("<i2", &[1, 0, 254, 255], &[1, -2]),
            (">i2", &[0, 1, 255, 254], &[1, -2]),
            (">u4", &[0, 0, 1, 0, 0, 0, 0, 2], &[256, 2]),
            ("<i8", &[9, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255], &[9, -1]),
            ("<u8", &[9, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255], &[9, -1]),
        ];
        for (dtype, data, expected) in cases {
            let bytes = typed(dtype, "(2,)", data);
            assert_eq!(parse("a", &bytes).unwrap().integers().unwrap(), expected, "{dtype}");
        }
        let half = [1.5f32.to_be_bytes(), (-2f32).to_be_bytes()].concat();
        assert_eq!(parse("a", &typed(">f4", "(2, 1)", &half)).unwrap().floats().unwrap(), [1.5, -2.0]);
        let wide = [1.5f64.to_le_bytes(), (-2f64).to_le_bytes()].concat();
        assert_eq!(parse("a", &typed("<f8", "(1, 2)", &wide)).unwrap().floats().unwrap(), [1.5, -2.0]);
    }

    #[test]
    fn broken_headers_are_refused() {
        let deep = "(".repeat(60_000);
        let cases: [(Vec<u8>, &str); 10] = [
            (b"PK".to_vec(), "a: broken NumPy header: it does not start with \\x93NUMPY"),
            (b"\x93NUMPY\x01".to_vec(), "a: broken NumPy header: it ends too early"),
            (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}".to_vec(), "a: broken NumPy header: it ends too early"),
            (b"\x93NUMPY\x09\x00\xff\xff\xff\xff{}".to_vec(), "a: broken NumPy header: unknown version"),
            (typed("<f4", &deep, &[]), "a: broken NumPy header: it lacks a valid 'shape'"),
            (typed("<f4", "(-1,)", &[]), "a: broken NumPy header: it lacks a valid 'shape'"),
            (typed("|O", "(1,)", &[0]), "a: element type \"|O\" where a number of 1 to 8 bytes is expected"),
            (
                typed("<f4", "(4294967296, 4294967296)", &[]),
                "a: impossible dimensions [4294967296, 4294967296]",
            ),
            (typed("<f4", "(2,)", &[0; 7]), "a: the header announces 8 bytes of data but the file holds 7"),
            (typed("|u1", "(2,)", &[0; 3]), "a: data goes on after the 2 bytes announced by the header"),
        ];
        for (bytes, message) in cases {
            assert_eq!(parse("a", &bytes).unwrap_err().to_string(), message);
        }
        let fortran = file("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 1)}", &[0; 4]);
        assert!(parse("a", &fortran).is_ok(), "the order of one element is no matter");
        let fortran = file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2)}", &[0; 4]);
        assert!(matches!(parse("a", &fortran), Err(DataError::NpyHeader { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_array_or_an_error(tail in prop::collection::vec(any::<u8>(), 0..200), text in "[({'descr:<f4,shape0-9})]{0,80}") {
            let _ = parse("a", &[b"\x93NUMPY\x01\x00".as_slice(), &tail].concat());
            let _ = parse("a", &file(&text, &tail));
            let _ = parse("a", &typed("<f4", &text, &tail));
        }

        #[test]
        fn a_written_header_is_read_back(shape in prop::collection::vec(0usize..5, 0..6)) {
            let bytes = [header("|u1", &shape), vec![7; shape.iter().product()]].concat();
            let array = parse("a", &bytes).unwrap();
            prop_assert_eq!(array.shape, shape.iter().map(|&d| d as u64).collect::<Vec<_>>());
            prop_assert_eq!(bytes.len() - array.data.len(), header("|u1", &shape).len());
            prop_assert_eq!(header("|u1", &shape).len() % 64, 0);
        }
    }
}
