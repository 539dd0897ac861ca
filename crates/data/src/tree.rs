//! A folder or a zip archive as a sorted list of files.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use crate::DataError;
use crate::gzip::MAX_INFLATION;

/// Folders below the top one that are looked into: an outer folder, a split, a class and two more.
const MAX_DEPTH: usize = 6;

/// Files and folders, by their path below the top, with `/` between the parts. Hidden ones are left out.
#[derive(Debug)]
pub(crate) struct Tree {
    top: PathBuf,
    archive: Option<Mutex<ZipArchive<BufReader<File>>>>,
    /// Sorted by path.
    pub files: Vec<Entry>,
    pub folders: BTreeSet<String>,
}

/// One file of a tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub path: String,
    /// Bytes of content; in an archive, as its directory says.
    pub size: u64,
    /// Position in the archive's directory.
    slot: usize,
}

impl Tree {
    /// The files below a folder.
    pub fn folder(top: &Path) -> Result<Tree, DataError> {
        let mut tree = Tree { top: top.into(), archive: None, files: Vec::new(), folders: BTreeSet::new() };
        tree.walk(top, "", &mut Vec::new())?;
        tree.files.sort();
        Ok(tree)
    }

    /// The files of a list, in its order; relative paths begin at `top`, and so do absolute ones that lead nowhere: Caffe
    /// puts the root folder before each line, and many lists begin theirs with a slash.
    pub fn listed(top: &Path, paths: Vec<String>) -> Result<Tree, DataError> {
        let mut files = Vec::with_capacity(paths.len());
        for mut path in paths {
            if path.starts_with('/') && !Path::new(&path).exists() {
                path = path.trim_start_matches('/').to_owned();
            }
            let full = top.join(&path);
            let metadata = full.metadata().map_err(|source| DataError::Io { path: full.clone(), source })?;
            if !metadata.is_file() {
                let found = "not a file".into();
                return Err(DataError::Unrecognised { path: full, found });
            }
            files.push(Entry { path, size: metadata.len(), slot: 0 });
        }
        Ok(Tree { top: top.into(), archive: None, files, folders: BTreeSet::new() })
    }

    fn walk(&mut self, folder: &Path, prefix: &str, above: &mut Vec<PathBuf>) -> Result<(), DataError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| DataError::Io { path, source }
        };
        let real = folder.canonicalize().map_err(io(folder))?;
        if above.len() > MAX_DEPTH || above.contains(&real) {
            return Err(DataError::TooDeep { folder: folder.into() });
        }
        above.push(real);
        for entry in std::fs::read_dir(folder).map_err(io(folder))? {
            let path = entry.map_err(io(folder))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
                return Err(DataError::Name { path });
            };
            if hidden(name) {
                continue;
            }
            let below = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let metadata = path.metadata().map_err(io(&path))?;
            if metadata.is_dir() {
                self.walk(&path, &below, above)?;
                self.folders.insert(below);
            } else if metadata.is_file() {
                self.files.push(Entry { path: below, size: metadata.len(), slot: 0 });
            }
        }
        above.pop();
        Ok(())
    }

    /// The files in a zip archive.
    pub fn zip(top: &Path) -> Result<Tree, DataError> {
        let file = File::open(top).map_err(|source| DataError::Io { path: top.into(), source })?;
        let archive = ZipArchive::new(BufReader::new(file)).map_err(|e| zip_error(top.display(), e))?;
        let mut files = Vec::with_capacity(archive.len());
        let mut folders = BTreeSet::new();
        let (held, mut packed) = (bytes_of(top)?, 0u64);
        for slot in 0..archive.len() {
            let entry = archive.by_index_data(slot).map_err(|e| zip_error(top.display(), e))?;
            // Entries that share their bytes would be inflated again and again.
            packed = packed.saturating_add(entry.compressed_size());
            if packed > held {
                let file = top.display().to_string();
                return Err(DataError::Truncated { file, announced: packed, found: held });
            }
            let raw = || String::from_utf8_lossy(entry.name_raw()).into_owned();
            let escapes = || DataError::ZipPath { path: top.into(), entry: raw() };
            // The zip crate turns absolute names into relative ones; here they are as suspect as those with "..".
            if entry.name_raw().starts_with(b"/") || entry.name_raw().starts_with(b"\\") {
                return Err(escapes());
            }
            let safe = entry.enclosed_name().filter(|_| !entry.is_symlink()).ok_or_else(escapes)?;
            let mut parts = Vec::new();
            for part in safe.components() {
                parts.push(part.as_os_str().to_str().ok_or_else(escapes)?);
            }
            if parts.is_empty() || parts.iter().any(|part| hidden(part)) {
                continue;
            }
            let parents = if entry.is_dir() { parts.len() } else { parts.len() - 1 };
            if parents > MAX_DEPTH {
                return Err(DataError::TooDeep { folder: top.join(&safe) });
            }
            for depth in 1..=parents {
                folders.insert(parts[..depth].join("/"));
            }
            if !entry.is_dir() {
                let path = parts.join("/");
                let most = match entry.compression() {
                    CompressionMethod::Stored => entry.compressed_size(),
                    _ => entry.compressed_size().saturating_mul(MAX_INFLATION),
                };
                if entry.size() > most {
                    let file = format!("{}: {path}", top.display());
                    return Err(DataError::Truncated { file, announced: entry.size(), found: most });
                }
                files.push(Entry { path, size: entry.size(), slot });
            }
        }
        files.sort();
        Ok(Tree { top: top.into(), archive: Some(Mutex::new(archive)), files, folders })
    }

    /// The folder or archive.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// What to call a file in a message.
    pub fn name(&self, file: usize) -> String {
        self.place(&self.files[file].path)
    }

    /// What to call a path below the top in a message.
    pub fn place(&self, below: &str) -> String {
        match (&self.archive, below) {
            (_, "") => self.top.display().to_string(),
            (None, _) => self.top.join(below).display().to_string(),
            (Some(_), _) => format!("{}: {below}", self.top.display()),
        }
    }

    /// The whole content of a file of at most `limit` bytes.
    pub fn read(&self, file: usize, limit: u64) -> Result<Vec<u8>, DataError> {
        let entry = &self.files[file];
        if entry.size > limit {
            return Err(DataError::TooLarge { file: self.name(file), bytes: entry.size, limit });
        }
        let Some(archive) = &self.archive else {
            return read_limited(&self.top.join(&entry.path), limit, || self.name(file));
        };
        let mut data = Vec::new();
        // A panic elsewhere leaves the archive as it was: every read starts by seeking.
        let mut archive = archive.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = archive.by_index(entry.slot).map_err(|e| zip_error(self.name(file), e))?;
        let differs = |source| DataError::Content { file: self.name(file), announced: entry.size, source };
        // One byte more than announced, so that a longer content is noticed.
        reader.take(entry.size + 1).read_to_end(&mut data).map_err(differs)?;
        if data.len() as u64 != entry.size {
            let longer = data.len() as u64 > entry.size;
            return Err(differs(std::io::Error::other(if longer {
                "it is longer"
            } else {
                "it is shorter"
            })));
        }
        Ok(data)
    }

    /// Names of the folders directly below `prefix`.
    pub fn subfolders<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.folders.iter().filter_map(move |path| directly_below(prefix, path))
    }

    /// Position and name of the files directly below `prefix`.
    pub fn files_in<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        let files = self.files.iter().enumerate();
        files.filter_map(move |(i, entry)| Some((i, directly_below(prefix, &entry.path)?)))
    }
}

/// The part of `path` below the folder `prefix` (the top if empty), if it is below.
pub(crate) fn below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    if prefix.is_empty() { Some(path) } else { path.strip_prefix(prefix)?.strip_prefix('/') }
}

fn directly_below<'a>(prefix: &str, path: &'a str) -> Option<&'a str> {
    below(prefix, path).filter(|rest| !rest.contains('/'))
}

/// Files that systems and archivers leave behind.
fn hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

fn zip_error(path: impl ToString, source: ZipError) -> DataError {
    DataError::Zip { path: path.to_string(), source: Box::new(source) }
}
/// The size of the file at `path`.
fn bytes_of(path: &Path) -> Result<u64, DataError> {
    Ok(std::fs::metadata(path).map_err(|source| DataError::Io { path: path.into(), source })?.len())
}

/// The content of a file of at most `limit` bytes; `name` is what a larger one is called.
///
/// # Errors
/// [`DataError::Io`], [`DataError::TooLarge`].
pub(crate) fn read_limited(
    path: &Path,
    limit: u64,
    name: impl FnOnce() -> String,
) -> Result<Vec<u8>, DataError> {
    let mut data = Vec::new();
    File::open(path)
        .and_then(|f| f.take(limit + 1).read_to_end(&mut data))
        .map_err(|source| DataError::Io { path: path.into(), source })?;
    match data.len() as u64 {
        bytes if bytes > limit => Err(DataError::TooLarge { file: name(), bytes, limit }),
        _ => Ok(data),
    }
}
