//! Validation of a database's pages before the LMDB library maps them.
//!
//! The library trusts its files: a page number past the end is a bus error, an offset past the page reads foreign
//! memory. Here every page of the tree is read with ordinary reads and its numbers are compared with the file. The
//! layout is that of LMDB 0.9 on 64-bit little-endian machines: pages begin with 16 bytes (number, flags, the bounds
//! of the free space), then come the offsets of the nodes; pages 0 and 1 describe the environment.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::folder::fault;
use crate::DataError;

const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// Bytes before the contents of a page, and before the key of a node.
const HEADER: usize = 16;
const NODE: usize = 8;
/// Flags of pages.
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
/// Keys of one size without nodes, and pages within a page: trees with duplicates have them. The library returns no value for
/// the first.
const LEAF2: u16 = 0x20;
const SUBPAGE: u16 = 0x40;
/// Flag of a node whose value has pages of its own.
const BIG: u16 = 1;
/// The root of a tree without entries.
const NO_PAGE: u64 = u64::MAX;
/// Most levels of a tree; a hundred keys a page make 32 more than any database has.
const MAX_DEPTH: usize = 32;

/// Checks the file `path` of a database: every page number and offset that the library follows stays within the file.
///
/// # Errors
/// [`DataError::Lmdb`] naming the page; [`DataError::Io`].
pub(crate) fn check(path: &Path) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    let mut tree = Tree { path, file: &mut file, length, page_size: 0, pages_left: 0 };
    tree.check()
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
#[derive(Clone, Copy)]
struct Meta {
    page_size: usize,
    /// Flags of the tree: sorted duplicates, integer keys and the like.
    flags: u16,
    depth: usize,
    entries: u64,
    root: u64,
    last_page: u64,
    transaction: u64,
}

/// `None` where the bytes are no description page.
fn meta(page: &[u8]) -> Option<Meta> {
    let known = u16_at(page, 10)? & META != 0
        && u32_at(page, HEADER)? == MAGIC
        && u32_at(page, HEADER + 4)? == VERSION;
    // Two trees of 48 bytes follow address and map size: free pages, then the main tree.
    let (free, main) = (HEADER + 24, HEADER + 24 + 48);
    known.then_some(Meta {
        page_size: u32_at(page, free)? as usize,
        flags: u16_at(page, main + 4)?,
        depth: u16_at(page, main + 6)?.into(),
        entries: u64_at(page, main + 32)?,
        root: u64_at(page, main + 40)?,
        last_page: u64_at(page, main + 48)?,
        transaction: u64_at(page, main + 56)?,
    })
}

struct Tree<'a> {
    path: &'a Path,
    file: &'a mut File,
    length: u64,
    page_size: usize,
    /// Pages that may still be visited: no more than the file has, so that a cycle ends.
    pages_left: u64,
}

/// An entry of a page.
enum Entry {
    Child(u64),
    Inline,
    Big(u64, u32),
    Other,
}

impl Tree<'_> {
    fn bad<T>(&self, page: u64, problem: &str) -> Result<T, DataError> {
        Err(fault(self.path, format_args!("page {page}: {problem}")))
    }

    fn bytes(&mut self, page: u64, length: usize) -> Result<Vec<u8>, DataError> {
        let offset = page.checked_mul(self.page_size as u64);
        let fits = offset.and_then(|o| o.checked_add(length as u64)).is_some_and(|end| end <= self.length);
        let (true, Some(offset)) = (fits, offset) else {
            return self.bad(page, "lies past the end of the file");
        };
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(offset)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|source| DataError::Io { path: self.path.into(), source })?;
        Ok(bytes)
    }

    fn check(&mut self) -> Result<(), DataError> {
        if self.length < 256 {
            return self.bad(0, "the file is too short for an LMDB database");
        }
        let first = meta(&self.bytes(0, 256)?);
        let Some(first) = first else { return self.bad(0, "not an LMDB database of 64-bit layout") };
        if !(512..=1 << 16).contains(&first.page_size) || !first.page_size.is_power_of_two() {
            return self.bad(0, "an impossible page size");
        }
        self.page_size = first.page_size;
        let Some(second) = meta(&self.bytes(1, 256)?) else { return self.bad(1, "not a description page") };
        // The library takes the younger one, and falls back to the other.
        for (page, meta) in [first, second].iter().enumerate() {
            let page = page as u64;
            if meta.transaction == 0 && meta.root == NO_PAGE {
                continue;
            }
            if meta.page_size != self.page_size {
                return self.bad(page, "the description pages disagree about the page size");
            }
            if meta
                .last_page
                .checked_add(1)
                .and_then(|n| n.checked_mul(self.page_size as u64))
                .is_none_or(|n| n > self.length)
            {
                return self.bad(page, "the database is longer than the file: it was cut off");
            }
        }
        let meta = if second.transaction > first.transaction { second } else { first };
        if meta.flags != 0 {
            return self.bad(0, "a database with duplicate or integer keys, which Caffe does not write");
        }
        if meta.root == NO_PAGE {
            return Ok(());
        }
        if meta.depth > MAX_DEPTH {
            return self.bad(0, "a tree of impossible depth");
        }
        self.pages_left = self.length / self.page_size as u64;
        let found = self.walk(meta.root, meta.depth)?;
        if found != meta.entries {
            return self.bad(0, "the number of entries differs from the one announced");
        }
        Ok(())
    }

    /// Checks what lies below page `number`, which is `depth` levels above nothing; counts the entries.
    fn walk(&mut self, number: u64, depth: usize) -> Result<u64, DataError> {
        if depth == 0 || self.pages_left == 0 {
            return self.bad(number, "the tree is deeper than announced, or turns back on itself");
        }
        self.pages_left -= 1;
        let page = self.bytes(number, self.page_size)?;
        let (Some(flags), Some(lower)) = (u16_at(&page, 10), u16_at(&page, 12)) else {
            return self.bad(number, "not a page of the tree");
        };
        let (branch, lower) = (flags & BRANCH != 0, usize::from(lower));
        let kind = if depth == 1 { LEAF } else { BRANCH };
        if u64_at(&page, 0) != Some(number)
            || flags & (BRANCH | LEAF | OVERFLOW | META | LEAF2 | SUBPAGE) != kind
        {
            return self.bad(number, "not a page of the tree");
        }
        if lower < HEADER
            || lower > page.len()
            || !(lower - HEADER).is_multiple_of(2)
            || (branch && lower < HEADER + 4)
        {
            return self.bad(number, "its free space begins where it cannot");
        }
        let mut entries = 0;
        for slot in (HEADER..lower).step_by(2) {
            let entry = if branch { child(&page, slot) } else { value(&page, slot) };
            match entry {
                None => return self.bad(number, "an entry lies outside of its page"),
                Some(Entry::Child(child)) => entries += self.walk(child, depth - 1)?,
                Some(Entry::Inline) => entries += 1,
                Some(Entry::Big(first, length)) => {
                    self.big(first, length)?;
                    entries += 1;
                }
                Some(Entry::Other) => {
                    return self.bad(number, "named databases and duplicate keys do not occur in Caffe's");
                }
            }
        }
        Ok(entries)
    }

    /// A value on pages of its own.
    fn big(&mut self, first: u64, length: u32) -> Result<(), DataError> {
        let header = self.bytes(first, HEADER)?;
        let pages = u32_at(&header, 12).unwrap_or(0);
        let room = u64::from(pages) * self.page_size as u64;
        let end = first.checked_add(pages.into()).and_then(|p| p.checked_mul(self.page_size as u64));
        if u16_at(&header, 10).unwrap_or(0) & OVERFLOW == 0
            || u64_at(&header, 0) != Some(first)
            || HEADER as u64 + u64::from(length) > room
            || end.is_none_or(|end| end > self.length)
        {
            return self.bad(first, "a large value that lies past the end of the file, or is none");
        }
        Ok(())
    }
}

/// The fields of the node that `slot` points at: a word, flags, and where its value begins, behind the key.
fn node(page: &[u8], slot: usize) -> Option<(u32, u16, usize)> {
    let at = usize::from(u16_at(page, slot)?);
    let (low, high) = (u16_at(page, at)?, u16_at(page, at + 2)?);
    let (flags, key) = (u16_at(page, at + 4)?, usize::from(u16_at(page, at + 6)?));
    let value = at + NODE + key;
    page.get(at..value)?;
    Some((u32::from(low) | u32::from(high) << 16, flags, value))
}

/// A node of a branch page: the number of a page below it.
fn child(page: &[u8], slot: usize) -> Option<Entry> {
    let (word, flags, _) = node(page, slot)?;
    Some(Entry::Child(u64::from(word) | u64::from(flags) << 32))
}

/// A node of a leaf page: a key with its value.
fn value(page: &[u8], slot: usize) -> Option<Entry> {
    let (word, flags, value) = node(page, slot)?;
    match flags {
        0 => page.get(value..value.checked_add(word as usize)?).map(|_| Entry::Inline),
        BIG => Some(Entry::Big(u64_at(page, value)?, word)),
        _ => Some(Entry::Other),
    }
}
