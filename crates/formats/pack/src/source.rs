//! Where a reader's bytes come from.

use std::borrow::Cow;
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::{Mutex, PoisonError};

/// Bytes of a file, read in parts.
pub trait Source {
    /// Number of bytes.
    fn size(&self) -> u64;

    /// The `length` bytes from `offset` on, which are all there.
    ///
    /// # Errors
    /// Whatever the operating system reports.
    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>>;
}

/// Bytes in memory; sections are borrowed from them.
#[derive(Debug, Clone)]
pub struct InMemory<B>(pub B);

impl<B: AsRef<[u8]>> Source for InMemory<B> {
    fn size(&self) -> u64 {
        self.0.as_ref().len() as u64
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        let bytes = usize::try_from(offset).ok().and_then(|start| {
            let end = start.checked_add(length)?;
            self.0.as_ref().get(start..end)
        });
        bytes.map(Cow::Borrowed).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

/// A file or another seekable stream; each section is read when it is wanted.
#[derive(Debug)]
pub struct Seekable<R> {
    stream: Mutex<R>,
    size: u64,
}

impl<R: Read + Seek> Seekable<R> {
    /// Reads from `stream`, from its beginning to its end.
    ///
    /// # Errors
    /// Whatever the stream reports.
    pub fn new(mut stream: R) -> io::Result<Self> {
        let size = stream.seek(SeekFrom::End(0))?;
        Ok(Self { stream: Mutex::new(stream), size })
    }
}

impl<R: Read + Seek> Source for Seekable<R> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, length: usize) -> io::Result<Cow<'_, [u8]>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A thread that panicked while it read leaves the stream usable: every read seeks first.
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; length];
        stream.read_exact(&mut bytes)?;
        Ok(Cow::Owned(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_from_where_they_should() {
        let bytes: Vec<u8> = (0..100).collect();
        let stream = Seekable::new(io::Cursor::new(&bytes)).unwrap();
        let memory = InMemory(&bytes);
        let sources: [&dyn Source; 2] = [&stream, &memory];
        for source in sources {
            assert_eq!(source.size(), 100);
            assert_eq!(source.read_at(20, 3).unwrap()[..], [20, 21, 22]);
            assert_eq!(source.read_at(100, 0).unwrap()[..], []);
            for (offset, length) in [(99, 2), (101, 0), (u64::MAX, 1), (1, usize::MAX)] {
                assert!(source.read_at(offset, length).is_err(), "{offset}, {length}");
            }
        }
    }
}
