//! Reading and writing of single fields: bounded, and with a place for every error.

use crate::error::{Fault, Place, SlqError};

/// Appends a number of seven bits a byte, lowest first; all bytes but the last have the top bit set.
pub(crate) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number: 0, -1, 1, -2 .. as 0, 1, 2, 3 ..
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_number(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Appends a length and so many bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The unread rest of a section.
#[derive(Clone)]
pub(crate) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
    section: &'a str,
}

impl<'a> Input<'a> {
    /// All of `bytes`; `section` names them in errors.
    pub fn new(bytes: &'a [u8], section: &'a str) -> Self {
        Self { bytes, at: 0, section }
    }

    /// An error at the current position.
    pub fn fail(&self, fault: Fault) -> SlqError {
        self.fail_at(self.at, fault)
    }

    /// An error at position `at`.
    pub fn fail_at(&self, at: usize, fault: Fault) -> SlqError {
        let place = Place { offset: at as u64, ..self.place() };
        SlqError::Malformed { place, fault }
    }

    /// The current position.
    pub fn place(&self) -> Place {
        Place { section: self.section.into(), offset: self.at as u64 }
    }

    /// All of the section, read or not.
    pub fn whole(&self) -> &'a [u8] {
        self.bytes
    }

    /// Passes over `count` bytes and says where they are.
    pub fn skip(&mut self, count: usize) -> Result<std::ops::Range<usize>, SlqError> {
        let start = self.at;
        self.take(count)?;
        Ok(start..self.at)
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Bytes not read yet.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], SlqError> {
        let left = self.left();
        if count > left {
            return Err(self.fail(Fault::Ends { needed: count as u64, left: left as u64 }));
        }
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], SlqError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, SlqError> {
        Ok(self.array::<1>()?[0])
    }

    /// Four bytes, lowest first.
    pub fn u32(&mut self) -> Result<u32, SlqError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A 32-bit float.
    pub fn f32(&mut self) -> Result<f32, SlqError> {
        Ok(f32::from_bits(self.u32()?))
    }

    /// A number as [`put_number`] writes it.
    pub fn number(&mut self) -> Result<u64, SlqError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if part << shift >> shift != part {
                break;
            }
            value |= part << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fail_at(start, Fault::Number))
    }

    /// A number that fits memory.
    pub fn size(&mut self) -> Result<usize, SlqError> {
        let start = self.at;
        let number = self.number()?;
        usize::try_from(number).map_err(|_| self.fail_at(start, Fault::Number))
    }

    /// A signed number as [`put_signed`] writes it.
    pub fn signed(&mut self) -> Result<i64, SlqError> {
        let value = self.number()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// A count of things of at least `least` bytes each, all of which must be in the rest of the section.
    pub fn count(&mut self, what: &'static str, least: usize) -> Result<usize, SlqError> {
        let start = self.at;
        let count = self.number()?;
        let limit = (self.left() / least.max(1)) as u64;
        if count > limit {
            return Err(self.fail_at(start, Fault::Count { what, count, limit }));
        }
        Ok(count as usize)
    }

    /// A length and so many bytes.
    pub fn counted(&mut self) -> Result<&'a [u8], SlqError> {
        let count = self.count("bytes", 1)?;
        self.take(count)
    }

    /// Refuses bytes after the last field.
    pub fn finish(&self) -> Result<(), SlqError> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.fail(Fault::Trailing { count: left as u64 })),
        }
    }
}

/// Bits, lowest first.
#[derive(Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    word: u64,
    used: u32,
}

impl BitWriter {
    /// Appends the lowest `bits` (at most 32) of `value`.
    pub fn put(&mut self, value: u32, bits: u32) {
        self.word |= (u64::from(value) & ((1u64 << bits) - 1)) << self.used;
        self.used += bits;
        while self.used >= 8 {
            self.bytes.push(self.word as u8);
            self.word >>= 8;
            self.used -= 8;
        }
    }

    /// All bits, the last byte filled up with zeros.
    pub fn finish(mut self) -> Vec<u8> {
        if self.used > 0 {
            self.bytes.push(self.word as u8);
        }
        self.bytes
    }
}

/// The reverse of [`BitWriter`].
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    word: u64,
    held: u32,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, word: 0, held: 0 }
    }

    /// The next `bits` (at most 32), or `None` past the end.
    pub fn get(&mut self, bits: u32) -> Option<u32> {
        while self.held < bits {
            self.word |= u64::from(*self.bytes.get(self.at)?) << self.held;
            self.at += 1;
            self.held += 8;
        }
        let value = (self.word & ((1u64 << bits) - 1)) as u32;
        self.word >>= bits;
        self.held -= bits;
        Some(value)
    }

    /// Bytes begun so far, if the bits left over in the last one are zero.
    pub fn end(&self) -> Option<usize> {
        (self.word == 0 && self.held < 8).then_some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back(values in proptest::collection::vec(any::<i64>(), 0..20), small in any::<u64>()) {
            let mut bytes = Vec::new();
            for &value in &values {
                put_signed(&mut bytes, value);
                put_number(&mut bytes, value as u64);
                put_number(&mut bytes, small >> (value & 63));
            }
            let mut input = Input::new(&bytes, "s");
            for &value in &values {
                prop_assert_eq!(input.signed().unwrap(), value);
                prop_assert_eq!(input.number().unwrap(), value as u64);
                prop_assert_eq!(input.number().unwrap(), small >> (value & 63));
            }
            input.finish().unwrap();
        }

        #[test]
        fn bits_come_back(values in proptest::collection::vec((any::<u32>(), 0u32..=32), 0..40)) {
            let mut writer = BitWriter::default();
            values.iter().for_each(|&(value, bits)| writer.put(value, bits));
            let bytes = writer.finish();
            let mut reader = BitReader::new(&bytes);
            for &(value, bits) in &values {
                prop_assert_eq!(reader.get(bits), Some(value & ((1u64 << bits) - 1) as u32));
            }
            prop_assert_eq!(reader.end(), Some(bytes.len()));
            prop_assert_eq!(reader.get(8), None);
        }
    }

    #[test]
    fn what_is_too_long_or_too_short_is_named() {
        let text = |r: Result<u64, SlqError>| r.unwrap_err().to_string();
        assert_eq!(
            text(Input::new(&[0x80], "s").number()),
            "s, offset 1: 1 more bytes are needed, 0 are left"
        );
        assert_eq!(text(Input::new(&[0xff; 10], "s").number()), "s, offset 0: a number exceeds its field");
        let mut count = Input::new(&[5, 0, 0], "s");
        let message = count.count("nodes", 1).unwrap_err().to_string();
        assert_eq!(message, "s, offset 0: 5 nodes exceed the 2 that are possible here");
        let message = Input::new(&[1, 2], "s").finish().unwrap_err().to_string();
        assert_eq!(message, "s, offset 0: 2 bytes follow the last field");
    }
}
