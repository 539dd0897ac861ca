//! Writing: values in the order of their keys, pages from left to right, the upper levels at the end.

use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::{BIG, BRANCH, Datum, HEADER, LEAF, MAGIC, META, NO_PAGE, NODE, OVERFLOW, VERSION};
use crate::error::CaffeError;

const PAGE: usize = 4096;
/// Bytes of a key: the image's number in decimal digits.
const KEY: usize = 10;
/// Largest node that shares a page, by LMDB's rule that a page holds at least two.
const MAX_NODE: usize = (PAGE - HEADER) / 2 / 2 * 2 - 2;
/// Entries of a branch page; 24 bytes each, so that they fit with room to spare.
const FANOUT: usize = 128;

/// Writes a database of images one after the other. Nothing appears at the target before
/// [`LmdbWriter::finish`].
#[derive(Debug)]
pub struct LmdbWriter {
    folder: PathBuf,
    out: BufWriter<NamedTempFile>,
    next_page: u64,
    entries: u64,
    overflow_pages: u64,
    /// Nodes of the leaf that is being filled.
    nodes: Vec<Vec<u8>>,
    filled: usize,
    /// First key and page number of the pages of the level below.
    level: Vec<(u64, u64)>,
    first: u64,
}

impl LmdbWriter {
    /// Begins a database that will be the folder `folder`.
    ///
    /// # Errors
    /// [`CaffeError::Io`].
    pub fn create(folder: &Path) -> Result<Self, CaffeError> {
        std::fs::create_dir_all(folder).map_err(CaffeError::io("create", folder))?;
        let file = NamedTempFile::new_in(folder).map_err(CaffeError::io("write", folder))?;
        let mut out = BufWriter::with_capacity(1 << 18, file);
        out.write_all(&[0; 2 * PAGE]).map_err(CaffeError::io("write", folder))?;
        Ok(Self {
            folder: folder.into(),
            out,
            next_page: 2,
            entries: 0,
            overflow_pages: 0,
            nodes: Vec::new(),
            filled: HEADER,
            level: Vec::new(),
            first: 0,
        })
    }

    fn emit(&mut self, bytes: &[u8]) -> Result<(), CaffeError> {
        self.out.write_all(bytes).map_err(CaffeError::io("write", &self.folder))
    }

    /// Adds an image under the next key: its number, in ten digits.
    ///
    /// # Errors
    /// [`CaffeError::Io`]; [`CaffeError::TooLarge`] for an image beyond protobuf's 2 GB.
    pub fn push(&mut self, datum: &Datum) -> Result<(), CaffeError> {
        let value = datum.encode();
        let Some(length) = u32::try_from(value.len()).ok().filter(|&l| l <= i32::MAX as u32) else {
            let (bytes, limit) = (value.len() as u64, crate::wire::MAX_FILE);
            return Err(CaffeError::TooLarge { path: self.folder.clone(), bytes, limit });
        };
        let big = NODE + KEY + value.len() > MAX_NODE;
        let mut node = Vec::with_capacity(NODE + KEY + if big { 8 } else { value.len() + 1 });
        node.extend(length.to_le_bytes());
        node.extend((if big { BIG } else { 0 }).to_le_bytes());
        node.extend((KEY as u16).to_le_bytes());
        node.extend(format!("{:0KEY$}", self.entries).bytes());
        if big {
            let pages = (HEADER + value.len()).div_ceil(PAGE);
            let first = self.next_page;
            self.next_page += pages as u64;
            self.overflow_pages += pages as u64;
            let mut header = header(first, OVERFLOW, 0, 0);
            header[12..].copy_from_slice(&(pages as u32).to_le_bytes());
            self.emit(&header)?;
            self.emit(&value)?;
            self.emit(&vec![0; pages * PAGE - HEADER - value.len()])?;
            node.extend(first.to_le_bytes());
        } else {
            node.extend(&value);
        }
        node.resize(node.len().next_multiple_of(2), 0);
        if self.filled + node.len() + 2 > PAGE {
            self.leaf()?;
        }
        if self.nodes.is_empty() {
            self.first = self.entries;
        }
        self.filled += node.len() + 2;
        self.nodes.push(node);
        self.entries += 1;
        Ok(())
    }

    fn leaf(&mut self) -> Result<(), CaffeError> {
        let nodes = std::mem::take(&mut self.nodes);
        let number = self.page(LEAF, &nodes)?;
        self.level.push((self.first, number));
        self.filled = HEADER;
        Ok(())
    }

    /// Writes a tree page and returns its number.
    fn page(&mut self, kind: u16, nodes: &[Vec<u8>]) -> Result<u64, CaffeError> {
        let mut page = vec![0; PAGE];
        let mut upper = PAGE;
        for (i, node) in nodes.iter().enumerate() {
            upper -= node.len();
            page[upper..upper + node.len()].copy_from_slice(node);
            let slot = HEADER + 2 * i;
            page[slot..slot + 2].copy_from_slice(&(upper as u16).to_le_bytes());
        }
        let lower = HEADER + 2 * nodes.len();
        page[..HEADER].copy_from_slice(&header(self.next_page, kind, lower as u16, upper as u16));
        self.emit(&page)?;
        self.next_page += 1;
        Ok(self.next_page - 1)
    }

    /// Completes the tree and puts the database in place as `data.mdb`.
    ///
    /// # Errors
    /// [`CaffeError::Io`].
    pub fn finish(mut self) -> Result<(), CaffeError> {
        if !self.nodes.is_empty() {
            self.leaf()?;
        }
        let leaves = self.level.len() as u64;
        let (mut depth, mut branches) = (u16::from(leaves > 0), 0u64);
        while self.level.len() > 1 {
            let below = std::mem::take(&mut self.level);
            // Evenly, so that no page has a single entry: LMDB refuses those.
            let pages = below.len().div_ceil(FANOUT);
            let mut upper = Vec::with_capacity(pages);
            for i in 0..pages {
                let part = &below[i * below.len() / pages..(i + 1) * below.len() / pages];
                let nodes: Vec<Vec<u8>> = part
                    .iter()
                    .enumerate()
                    .map(|(j, &(key, page))| branch_node(page, (j > 0).then_some(key)))
                    .collect();
                upper.push((part[0].0, self.page(BRANCH, &nodes)?));
            }
            branches += pages as u64;
            depth += 1;
            self.level = upper;
        }
        let root = self.level.first().map_or(NO_PAGE, |&(_, page)| page);
        let last = self.next_page - 1;
        let main = tree(0, 0, depth, [branches, leaves, self.overflow_pages, self.entries, root]);
        let empty = tree(0, 0, 0, [0, 0, 0, 0, NO_PAGE]);
        let metas = [meta(0, &empty, 1, last), meta(1, &main, last, last)].concat();
        let fail = |e| CaffeError::io("write", &self.folder)(e);
        let mut file = self.out.into_inner().map_err(|e| fail(e.into_error()))?;
        let done = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(&metas))
            .and_then(|()| file.as_file().sync_all());
        done.map_err(fail)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(fail)?;
        }
        let target = self.folder.join("data.mdb");
        file.persist(target).map(drop).map_err(|e| fail(e.error))
    }
}

fn header(number: u64, flags: u16, lower: u16, upper: u16) -> [u8; HEADER] {
    let mut bytes = [0; HEADER];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes[10..12].copy_from_slice(&flags.to_le_bytes());
    bytes[12..14].copy_from_slice(&lower.to_le_bytes());
    bytes[14..].copy_from_slice(&upper.to_le_bytes());
    bytes
}

/// An entry of a branch page; the first of a page has no key.
fn branch_node(page: u64, key: Option<u64>) -> Vec<u8> {
    let mut node = page.to_le_bytes()[..6].to_vec();
    let key = key.map(|k| format!("{k:0KEY$}")).unwrap_or_default();
    node.extend((key.len() as u16).to_le_bytes());
    node.extend(key.bytes());
    node
}

/// The description of a tree: pad, flags, depth; then branch, leaf and overflow pages, entries, root.
fn tree(pad: u32, flags: u16, depth: u16, counts: [u64; 5]) -> Vec<u8> {
    let mut bytes = pad.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(depth.to_le_bytes());
    counts.iter().for_each(|c| bytes.extend(c.to_le_bytes()));
    bytes
}

/// A description page; `number` is also its transaction.
fn meta(number: u64, main: &[u8], last: u64, pages: u64) -> Vec<u8> {
    const INTEGER_KEYS: u16 = 8;
    let mut page = header(number, META, 0, 0).to_vec();
    page.extend(MAGIC.to_le_bytes());
    page.extend(VERSION.to_le_bytes());
    page.extend(0u64.to_le_bytes());
    page.extend(((pages + 1) * PAGE as u64).to_le_bytes());
    page.extend(tree(PAGE as u32, INTEGER_KEYS, 0, [0, 0, 0, 0, NO_PAGE]));
    page.extend(main);
    page.extend(last.to_le_bytes());
    page.extend(number.to_le_bytes());
    page.resize(PAGE, 0);
    page
}
