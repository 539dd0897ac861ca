//! Reading of files, gzip'd or not, with a bound on the size of their content.

use std::io::Read;

use flate2::read::MultiGzDecoder;

use crate::DataError;

/// No deflate stream grows by more than this factor (258 bytes for 2 bits, rounded up).
pub(crate) const MAX_INFLATION: u64 = 1032;

/// The content of a file that may be gzip'd: a header of known length, then as much data as the header announces.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    file: &'a str,
    reader: Reader<'a>,
    /// The most that can still come.
    bound: u64,
}

#[derive(Debug)]
enum Reader<'a> {
    Plain(&'a [u8]),
    Gzip(Box<MultiGzDecoder<&'a [u8]>>),
}

impl<'a> Content<'a> {
    /// `file` is for messages.
    pub fn new(file: &'a str, bytes: &'a [u8]) -> Content<'a> {
        let len = bytes.len() as u64;
        if bytes.starts_with(&[0x1f, 0x8b]) {
            let reader = Reader::Gzip(Box::new(MultiGzDecoder::new(bytes)));
            return Content { file, reader, bound: len.saturating_mul(MAX_INFLATION) };
        }
        Content { file, reader: Reader::Plain(bytes), bound: len }
    }

    /// The next `len` bytes, read only if there can be so many.
    pub fn take(&mut self, len: u64) -> Result<Vec<u8>, DataError> {
        let truncated = |found| DataError::Truncated { file: self.file.into(), announced: len, found };
        if len > self.bound {
            return Err(truncated(self.bound));
        }
        let mut data = Vec::new();
        match &mut self.reader {
            Reader::Plain(bytes) => (&mut *bytes).take(len).read_to_end(&mut data),
            Reader::Gzip(gzip) => gzip.by_ref().take(len).read_to_end(&mut data),
        }
        .map_err(|source| DataError::Gzip { file: self.file.into(), source })?;
        if (data.len() as u64) < len {
            return Err(truncated(data.len() as u64));
        }
        self.bound -= len;
        Ok(data)
    }

    /// Checks that nothing follows (for gzip, its checksum too). `announced` is for the message.
    pub fn end(mut self, announced: u64) -> Result<(), DataError> {
        let mut byte = [0];
        let read = match &mut self.reader {
            Reader::Plain(bytes) => bytes.read(&mut byte),
            Reader::Gzip(gzip) => gzip.read(&mut byte),
        };
        match read {
            Ok(0) => Ok(()),
            Ok(_) => Err(DataError::TrailingData { file: self.file.into(), announced }),
            Err(source) => Err(DataError::Gzip { file: self.file.into(), source }),
        }
    }
}
