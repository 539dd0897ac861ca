//! An open database, and images that stay in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use heed::{Env, EnvFlags, WithoutTls};

use super::check::check;
use super::datum::{Datum, Pixels};
use super::environment::environment;
use super::folder::{Images, fault, file_of};
use crate::{DataError, decode};

/// An open environment and its database.
pub(crate) struct Reader {
    env: Env<WithoutTls>,
    images: Images,
    pub folder: PathBuf,
}

/// Environments that are open: the library must not open one twice.
static OPEN: LazyLock<Mutex<BTreeMap<PathBuf, Weak<Reader>>>> = LazyLock::new(Mutex::default);

impl Reader {
    pub fn open(folder: &Path) -> Result<Arc<Reader>, DataError> {
        let file = file_of(folder).ok_or_else(|| DataError::NotFound { path: folder.join("data.mdb") })?;
        let io = |source| DataError::Io { path: file.clone(), source };
        let real = folder.canonicalize().map_err(io)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = open.get(&real).and_then(Weak::upgrade) {
            return Ok(reader);
        }
        check(&file)?;
        let length = file.metadata().map_err(io)?.len();
        let attempt = || environment(&real, length, EnvFlags::READ_ONLY);
        let env = match attempt() {
            // The last user of the environment is just closing it.
            Err(heed::Error::EnvAlreadyOpened) => {
                if let Some(closing) = heed::env_closing_event(&real) {
                    closing.wait();
                }
                attempt()
            }
            other => other,
        };
        let env = env.map_err(|e| fault(&file, e))?;
        let images = env.read_txn().and_then(|txn| env.open_database(&txn, None));
        let images = images.map_err(|e| fault(&file, e))?.ok_or_else(|| fault(&file, "no database"))?;
        let reader = Arc::new(Reader { env, images, folder: folder.into() });
        open.insert(real, Arc::downgrade(&reader));
        Ok(reader)
    }

    fn at(&self, key: &[u8]) -> String {
        format!("entry {}", String::from_utf8_lossy(key))
    }

    /// Calls `f` with every entry, in the order of the keys.
    pub fn scan(&self, mut f: impl FnMut(&[u8], Datum<'_>) -> Result<(), String>) -> Result<(), DataError> {
        let broken = |e: heed::Error| fault(&self.folder, e);
        let txn = self.env.read_txn().map_err(broken)?;
        for entry in self.images.iter(&txn).map_err(broken)? {
            let (key, value) = entry.map_err(broken)?;
            let handled = Datum::read(value).and_then(|datum| f(key, datum));
            handled.map_err(|problem| fault(&self.folder, format_args!("{}: {problem}", self.at(key))))?;
        }
        Ok(())
    }

    /// Calls `f` with the entry `key`.
    fn get<T>(&self, key: &[u8], f: impl FnOnce(Datum<'_>) -> Result<T, String>) -> Result<T, DataError> {
        let bad = |problem: String| fault(&self.folder, format_args!("{}: {problem}", self.at(key)));
        let txn = self.env.read_txn().map_err(|e| bad(e.to_string()))?;
        let value = self.images.get(&txn, key).map_err(|e| bad(e.to_string()))?;
        let datum = Datum::read(value.ok_or_else(|| bad("is gone".into()))?);
        datum.and_then(f).map_err(bad)
    }
}

/// Images that stay in their database and are read when they are needed.
pub(crate) struct Entries {
    pub(crate) reader: Arc<Reader>,
    pub(crate) keys: Vec<Box<[u8]>>,
    /// Channels that images are given with.
    pub channels: usize,
    /// Height and width, if all images agree.
    pub size: Option<[usize; 2]>,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The name of image `i` in messages.
    pub fn name(&self, i: usize) -> String {
        format!("{}, {}", self.reader.folder.display(), self.reader.at(&self.keys[i]))
    }

    /// What identifies image `i`: the database and the key.
    pub fn identity(&self, i: usize) -> (String, &[u8]) {
        (self.reader.folder.display().to_string(), &self.keys[i])
    }

    /// Decodes image `i` into planes, colours in RGB order; returns height and width.
    pub fn decode(&self, i: usize, out: &mut Vec<u8>) -> Result<[usize; 2], DataError> {
        self.reader.get(&self.keys[i], |datum| self.planes(&datum, out))
    }

    fn planes(&self, datum: &Datum<'_>, out: &mut Vec<u8>) -> Result<[usize; 2], String> {
        let [channels, height, width] = datum.shape;
        match datum.pixels {
            Pixels::Encoded(file) => decode::decode(file, self.channels, out).map_err(|e| e.to_string()),
            Pixels::Raw(data) if channels == self.channels => {
                out.clear();
                rgb(data, channels, |plane| out.extend_from_slice(plane));
                Ok([height, width])
            }
            _ => Err(format!("the image has {channels} channels, others have {}", self.channels)),
        }
    }

    /// Bytes of the message of image `i`; 0 where it cannot be read.
    pub fn stored_bytes(&self, i: usize) -> usize {
        self.message(i).map_or(0, |m| m.len())
    }

    /// The message of image `i` as it stands in the database.
    pub fn message(&self, i: usize) -> Result<Vec<u8>, DataError> {
        let txn = self.reader.env.read_txn().map_err(|e| fault(&self.reader.folder, e))?;
        let value = self.reader.images.get(&txn, &self.keys[i]).map_err(|e| fault(&self.reader.folder, e))?;
        value.map(<[u8]>::to_vec).ok_or_else(|| DataError::NotFound { path: self.name(i).into() })
    }
}

/// The planes of an image in RGB order: databases hold blue first.
fn rgb(data: &[u8], channels: usize, plane: impl FnMut(&[u8])) {
    let size = (data.len() / channels.max(1)).max(1);
    match channels {
        3 => data.rchunks_exact(size).for_each(plane),
        _ => data.chunks_exact(size).for_each(plane),
    }
}
