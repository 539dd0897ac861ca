//! The blob file `weights/weight.bin`: a header of 64 bytes, then blobs, each a record of 64 bytes and its data, all aligned
//! to 64 bytes.

use std::io::{self, Write};

use crate::mil::DataType;

/// Alignment of records and data, and the size of header and record.
pub const ALIGNMENT: usize = 64;
/// First four bytes of a record.
pub const SENTINEL: u32 = 0xdead_beef;
/// Version of the layout.
pub const VERSION: u32 = 2;

/// The code of an element type in a record; `None` for types that no blob holds here.
pub fn type_code(data_type: DataType) -> Option<u32> {
    Some(match data_type {
        DataType::Float32 => 2,
        DataType::Uint8 => 3,
        DataType::Uint1 => 9,
        DataType::Uint2 => 10,
        DataType::Uint4 => 11,
        DataType::Uint3 => 12,
        DataType::Uint6 => 13,
        DataType::Int32 => 14,
        _ => return None,
    })
}

/// Writes blobs one after the other; the caller puts [`header`] at the front when their number is known.
pub struct BlobWriter<W> {
    out: W,
    at: u64,
    count: u32,
}

impl<W: Write> BlobWriter<W> {
    /// Starts with a header of zeros.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0; ALIGNMENT])?;
        Ok(Self { out, at: ALIGNMENT as u64, count: 0 })
    }

    /// Appends a blob of `data` in pieces, `len` bytes in all, of which the last `unused_bits` bits hold no element.
    /// Returns the offset of its record, which is what a value names.
    pub fn append(
        &mut self,
        data_type: DataType,
        len: usize,
        unused_bits: u64,
        pieces: impl IntoIterator<Item = Vec<u8>>,
    ) -> io::Result<u64> {
        let code = type_code(data_type).ok_or_else(|| io::Error::other("no blob holds this type"))?;
        self.align()?;
        let record = self.at;
        let mut bytes = Vec::with_capacity(ALIGNMENT);
        bytes.extend(SENTINEL.to_le_bytes());
        bytes.extend(code.to_le_bytes());
        for field in [len as u64, record + ALIGNMENT as u64, unused_bits] {
            bytes.extend(field.to_le_bytes());
        }
        bytes.resize(ALIGNMENT, 0);
        self.put(&bytes)?;
        for piece in pieces {
            self.put(&piece)?;
        }
        match self.at == record + ALIGNMENT as u64 + len as u64 {
            true => self.count += 1,
            false => return Err(io::Error::other("a blob is not as long as its record says")),
        }
        Ok(record)
    }

    /// The writer and the number of blobs; the last blob's data are filled up, too.
    pub fn finish(mut self) -> io::Result<(W, u32)> {
        self.align()?;
        self.out.flush()?;
        Ok((self.out, self.count))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn align(&mut self) -> io::Result<()> {
        let fill = self.at.next_multiple_of(ALIGNMENT as u64) - self.at;
        self.put(&[0; ALIGNMENT][..usize::try_from(fill).unwrap_or(0)])
    }
}

/// The header of a file of `count` blobs.
pub fn header(count: u32) -> [u8; ALIGNMENT] {
    let mut bytes = [0; ALIGNMENT];
    bytes[..4].copy_from_slice(&count.to_le_bytes());
    bytes[4..8].copy_from_slice(&VERSION.to_le_bytes());
    bytes
}

/// The data of the blob whose record lies at `offset` of `file`; `None` where record or data do not lie in the file or the
/// record is of another type.
pub fn read(file: &[u8], offset: u64, data_type: DataType) -> Option<&[u8]> {
    let at = usize::try_from(offset).ok()?;
    let record = file.get(at..at.checked_add(ALIGNMENT)?)?;
    let long = |i: usize| record.get(i..i + 8)?.try_into().ok().map(u64::from_le_bytes);
    let short = |i: usize| record.get(i..i + 4)?.try_into().ok().map(u32::from_le_bytes);
    if short(0)? != SENTINEL || Some(short(4)?) != type_code(data_type) {
        return None;
    }
    let (len, start) = (usize::try_from(long(8)?).ok()?, usize::try_from(long(16)?).ok()?);
    file.get(start..start.checked_add(len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_data_are_aligned_and_found_again() {
        let mut out = BlobWriter::new(Vec::new()).unwrap();
        let a = out.append(DataType::Uint3, 41, 4, [vec![7; 40], vec![9]]).unwrap();
        let b = out.append(DataType::Float32, 4, 0, [1.5f32.to_le_bytes().to_vec()]).unwrap();
        let (mut file, count) = out.finish().unwrap();
        file[..ALIGNMENT].copy_from_slice(&header(count));
        assert_eq!((a, b, count, file.len()), (64, 192, 2, 320));
        assert_eq!(file[..8], [2, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(file[64..72], [0xef, 0xbe, 0xad, 0xde, 12, 0, 0, 0]);
        assert_eq!(
            file[72..96],
            [[41, 0, 0, 0, 0, 0, 0, 0], [128, 0, 0, 0, 0, 0, 0, 0], [4, 0, 0, 0, 0, 0, 0, 0]].concat()
        );
        assert_eq!(read(&file, a, DataType::Uint3).unwrap().len(), 41);
        assert_eq!(read(&file, b, DataType::Float32).unwrap(), 1.5f32.to_le_bytes());
        assert_eq!(read(&file, b, DataType::Uint3), None);
        assert_eq!(read(&file, 65, DataType::Uint3), None);
        assert_eq!(read(&file, u64::MAX, DataType::Uint3), None);
    }

    #[test]
    fn a_blob_of_another_length_is_an_error() {
        let mut out = BlobWriter::new(Vec::new()).unwrap();
        assert!(out.append(DataType::Uint8, 3, 0, [vec![0; 2]]).is_err());
        assert!(BlobWriter::new(Vec::new()).unwrap().append(DataType::String, 0, 0, []).is_err());
    }
}
