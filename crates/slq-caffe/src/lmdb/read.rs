//! Reading: one walk over the tree finds where every value lies; values are read when asked for.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{BIG, BRANCH, Datum, HEADER, LEAF, MAGIC, META, NO_PAGE, NODE, OVERFLOW, VERSION};
use crate::error::CaffeError;

/// Levels of a tree; 200 keys a page make 32 levels absurd.
const MAX_DEPTH: usize = 32;

/// A database of images, in the order of its keys.
#[derive(Debug)]
pub struct Lmdb {
    path: PathBuf,
    file: Mutex<File>,
    /// Position and length of each value.
    values: Vec<(u64, u32)>,
}

impl Lmdb {
    /// Opens the database at `path`: the folder, or the `data.mdb` in it.
    ///
    /// # Errors
    /// [`CaffeError::Io`]; [`CaffeError::Binary`] for a file that is truncated, garbled or of another kind.
    pub fn open(path: &Path) -> Result<Self, CaffeError> {
        let path = if path.is_dir() { path.join("data.mdb") } else { path.to_path_buf() };
        let mut file = File::open(&path).map_err(CaffeError::io("open", &path))?;
        let length = file.metadata().map_err(CaffeError::io("read", &path))?.len();
        let mut tree = Tree { path: &path, file: &mut file, length, page_size: 0, pages_left: 0 };
        let values = tree.values()?;
        Ok(Self { file: Mutex::new(file), path, values })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The image at `index`, or `None` past the last.
    ///
    /// # Errors
    /// [`CaffeError::Io`]; [`CaffeError::Binary`] for a value that is not an image.
    pub fn datum(&self, index: usize) -> Result<Option<Datum>, CaffeError> {
        let Some(&(offset, length)) = self.values.get(index) else { return Ok(None) };
        let mut bytes = vec![0; length as usize];
        {
            // A poisoned lock guards nothing but the file's position, which is set next.
            let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
            file.seek(SeekFrom::Start(offset)).map_err(CaffeError::io("read", &self.path))?;
            file.read_exact(&mut bytes).map_err(CaffeError::io("read", &self.path))?;
        }
        Datum::decode(&bytes).map(Some).map_err(|reason| CaffeError::Binary {
            path: self.path.clone(),
            offset,
            reason: format!("image {index}: {reason}"),
        })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// What a description page says of the main tree.
struct Meta {
    page_size: usize,
    transaction: u64,
    depth: usize,
    entries: u64,
    root: u64,
}

/// `None` where the bytes are no description page.
fn meta(page: &[u8]) -> Option<Meta> {
    let known = u16_at(page, 10)? & META != 0
        && u32_at(page, HEADER)? == MAGIC
        && u32_at(page, HEADER + 4)? == VERSION;
    // Two trees follow address and map size, of 48 bytes each: free pages, then the main tree.
    let (free, main) = (HEADER + 24, HEADER + 24 + 48);
    known.then_some(Meta {
        page_size: u32_at(page, free)? as usize,
        depth: u16_at(page, main + 6)?.into(),
        entries: u64_at(page, main + 32)?,
        root: u64_at(page, main + 40)?,
        transaction: u64_at(page, main + 56)?,
    })
}

struct Tree<'a> {
    path: &'a Path,
    file: &'a mut File,
    length: u64,
    page_size: usize,
    /// Tree pages that may still be visited: no more than the file has, so that a cycle ends.
    pages_left: u64,
}

impl Tree<'_> {
    fn bad<T>(&self, page: u64, reason: &str) -> Result<T, CaffeError> {
        let offset = page.saturating_mul(self.page_size as u64);
        Err(CaffeError::Binary { path: self.path.into(), offset, reason: reason.into() })
    }

    fn bytes(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, CaffeError> {
        let end = offset.checked_add(length as u64);
        if end.is_none_or(|end| end > self.length) {
            let reason = format!("{length} bytes from here on lie past the end of the file");
            return Err(CaffeError::Binary { path: self.path.into(), offset, reason });
        }
        let mut bytes = vec![0; length];
        self.file.seek(SeekFrom::Start(offset)).map_err(CaffeError::io("read", self.path))?;
        self.file.read_exact(&mut bytes).map_err(CaffeError::io("read", self.path))?;
        Ok(bytes)
    }

    fn page(&mut self, number: u64) -> Result<Vec<u8>, CaffeError> {
        match number.checked_mul(self.page_size as u64) {
            Some(offset) => self.bytes(offset, self.page_size),
            None => self.bad(number, "a page number past the end of the file"),
        }
    }

    fn values(&mut self) -> Result<Vec<(u64, u32)>, CaffeError> {
        let first = meta(&self.bytes(0, 256)?);
        let Some(first) = first else { return self.bad(0, "not an LMDB database of 64-bit layout") };
        if !(512..=1 << 16).contains(&first.page_size) || !first.page_size.is_power_of_two() {
            return self.bad(0, "an impossible page size");
        }
        self.page_size = first.page_size;
        self.pages_left = self.length / self.page_size as u64;
        let second = meta(&self.page(1)?).filter(|m| m.transaction > first.transaction);
        let meta = second.unwrap_or(first);
        let mut values = Vec::new();
        if meta.root == NO_PAGE {
            return Ok(values);
        }
        if meta.depth > MAX_DEPTH {
            return self.bad(0, "a tree of impossible depth");
        }
        self.walk(meta.root, meta.depth, &mut values)?;
        if values.len() as u64 != meta.entries {
            return self.bad(0, "the number of entries differs from the one announced");
        }
        Ok(values)
    }

    /// Collects the values below page `number`, which is `depth` levels above nothing.
    fn walk(&mut self, number: u64, depth: usize, values: &mut Vec<(u64, u32)>) -> Result<(), CaffeError> {
        if depth == 0 || self.pages_left == 0 {
            return self.bad(number, "the tree is deeper than announced, or turns back on itself");
        }
        self.pages_left -= 1;
        let page = self.page(number)?;
        let (flags, lower) = (u16_at(&page, 10).unwrap_or(0), u16_at(&page, 12).unwrap_or(0) as usize);
        if lower < HEADER || lower > page.len() || flags & (BRANCH | LEAF) == 0 {
            return self.bad(number, "not a page of the tree");
        }
        for slot in (HEADER..lower).step_by(2) {
            let node = self.node(&page, slot, flags & BRANCH != 0);
            let Some(node) = node else { return self.bad(number, "an entry outside of its page") };
            match node {
                Entry::Child(child) => self.walk(child, depth - 1, values)?,
                Entry::Inline(at, length) => {
                    values.push((number * self.page_size as u64 + at as u64, length));
                }
                Entry::Big(first, length) => values.push((self.big(first, length)?, length)),
                Entry::Other => return self.bad(number, "named databases and duplicate keys do not occur"),
            }
        }
        Ok(())
    }

    fn node(&self, page: &[u8], slot: usize, branch: bool) -> Option<Entry> {
        let at = usize::from(u16_at(page, slot)?);
        let (low, high) = (u16_at(page, at)?, u16_at(page, at + 2)?);
        let (flags, key) = (u16_at(page, at + 4)?, usize::from(u16_at(page, at + 6)?));
        let word = u32::from(low) | u32::from(high) << 16;
        if branch {
            return Some(Entry::Child(u64::from(word) | u64::from(flags) << 32));
        }
        let value = at + NODE + key;
        match flags {
            0 => page.get(value..value.checked_add(word as usize)?).map(|_| Entry::Inline(value, word)),
            BIG => Some(Entry::Big(u64_at(page, value)?, word)),
            _ => Some(Entry::Other),
        }
    }

    /// Position of a value on pages of its own.
    fn big(&mut self, first: u64, length: u32) -> Result<u64, CaffeError> {
        let Some(offset) = first.checked_mul(self.page_size as u64) else {
            return self.bad(first, "a page number past the end of the file");
        };
        let header = self.bytes(offset, HEADER)?;
        let value = offset + HEADER as u64;
        if u16_at(&header, 10).unwrap_or(0) & OVERFLOW == 0 || value + u64::from(length) > self.length {
            return self.bad(first, "a large value that lies past the end, or is none");
        }
        Ok(value)
    }
}

/// An entry of a page.
enum Entry {
    Child(u64),
    Inline(usize, u32),
    Big(u64, u32),
    Other,
}
