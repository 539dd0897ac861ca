//! A database as a split.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use heed::{Env, EnvFlags, WithoutTls};
use rayon::prelude::*;

use super::datum::{Datum, Pixels};
use super::{Images, check, environment, fault, file_of};
use crate::storage::{SMALL_IMAGE, SMALL_SET, Storage};
use crate::{DataError, Split, decode};

/// An open environment and its database.
struct Reader {
    env: Env<WithoutTls>,
    images: Images,
    folder: PathBuf,
}

/// Environments that are open: the library must not open one twice.
static OPEN: LazyLock<Mutex<BTreeMap<PathBuf, Weak<Reader>>>> = LazyLock::new(Mutex::default);

impl Reader {
    fn open(folder: &Path) -> Result<Arc<Reader>, DataError> {
        let file = file_of(folder).ok_or_else(|| DataError::NotFound { path: folder.join("data.mdb") })?;
        let io = |source| DataError::Io { path: file.clone(), source };
        let real = folder.canonicalize().map_err(io)?;
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reader) = open.get(&real).and_then(Weak::upgrade) {
            return Ok(reader);
        }
        check::check(&file)?;
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

    /// Hands every entry to `f`, in the order of the keys.
    fn scan(&self, mut f: impl FnMut(&[u8], Datum<'_>) -> Result<(), String>) -> Result<(), DataError> {
        let broken = |e: heed::Error| fault(&self.folder, e);
        let txn = self.env.read_txn().map_err(broken)?;
        for entry in self.images.iter(&txn).map_err(broken)? {
            let (key, value) = entry.map_err(broken)?;
            let handled = Datum::read(value).and_then(|datum| f(key, datum));
            handled.map_err(|problem| fault(&self.folder, format_args!("{}: {problem}", self.at(key))))?;
        }
        Ok(())
    }

    /// Hands the entry `key` to `f`.
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
    reader: Arc<Reader>,
    keys: Vec<Box<[u8]>>,
    /// Channels that images are given with.
    pub channels: usize,
    /// Height and width, if all images agree.
    pub size: Option<[usize; 2]>,
}

impl Entries {
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What to call image `i` in a message.
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

/// What a walk over all entries finds.
#[derive(Default)]
struct Survey {
    keys: Vec<Box<[u8]>>,
    labels: Vec<u32>,
    /// Raw colour or an encoded image with colours; raw images otherwise.
    channels: Option<usize>,
    encoded: bool,
    raw: bool,
    floats: bool,
    size: Option<[usize; 2]>,
    sizes_differ: bool,
}

impl Survey {
    fn add(&mut self, key: &[u8], datum: &Datum<'_>) -> Result<(), String> {
        let [mut channels, height, width] = datum.shape;
        let mut size = [height, width];
        match &datum.pixels {
            Pixels::Encoded(file) => {
                let header = decode::header(file).map_err(|e| e.to_string())?;
                (channels, size) = (if header.colour { 3 } else { 1 }, header.size);
                self.encoded = true;
            }
            Pixels::Raw(_) => self.raw = true,
            Pixels::Floats(_) => self.floats = true,
            Pixels::None => return Err("no pixels".into()),
        }
        let known = *self.channels.get_or_insert(channels);
        if known != channels && !(self.encoded && !self.raw && !self.floats) {
            return Err(format!("the image has {channels} channels, others have {known}"));
        }
        self.channels = Some(known.max(channels));
        self.sizes_differ |= *self.size.get_or_insert(size) != size;
        self.keys.push(key.into());
        self.labels.push(datum.label);
        if self.labels.len() > u32::MAX as usize {
            return Err("more than 4 294 967 295 images".into());
        }
        Ok(())
    }
}

/// The images of the database in `folder`, in the order of its keys.
///
/// # Errors
/// [`DataError::Lmdb`] for a database that is damaged or whose entries are no images, naming the entry;
/// [`DataError::NotFound`], [`DataError::Empty`], [`DataError::Io`].
pub(crate) fn open(folder: &Path) -> Result<Split, DataError> {
    let reader = Reader::open(folder)?;
    let mut survey = Survey::default();
    reader.scan(|key, datum| survey.add(key, &datum))?;
    let Survey { keys, labels, channels, encoded, raw, floats, size, sizes_differ } = survey;
    let size = size.filter(|_| !sizes_differ);
    if keys.is_empty() {
        return Err(DataError::Empty { place: folder.display().to_string() });
    }
    let entries = Entries { reader, keys, channels: channels.unwrap_or(1), size };
    if floats {
        return load_floats(entries, labels, encoded || raw);
    }
    let storage = match size.map(|[h, w]| [entries.channels, h, w]) {
        Some(shape) if is_small(shape, entries.len(), 1) => load(&entries, shape)?,
        _ => Storage::Database(entries),
    };
    Ok(Split::whole(storage, labels))
}

fn is_small(shape: [usize; 3], count: usize, bytes: usize) -> bool {
    let size = shape.iter().product::<usize>();
    (1..=SMALL_IMAGE).contains(&size) && size.saturating_mul(count).saturating_mul(bytes) <= SMALL_SET
}

fn load(entries: &Entries, shape: [usize; 3]) -> Result<Storage, DataError> {
    let size: usize = shape.iter().product();
    let mut data = vec![0; size * entries.len()];
    let images = data.par_chunks_exact_mut(size).enumerate();
    let failed = images
        .map_init(Vec::new, |scratch, (i, out)| {
            entries.decode(i, scratch)?;
            match scratch.len() == size {
                true => out.copy_from_slice(scratch),
                false => return Err(DataError::SizesDiffer),
            }
            Ok(())
        })
        .find_map_first(Result::err);
    failed.map_or(Ok(Storage::Bytes { data, shape }), Err)
}

fn load_floats(entries: Entries, labels: Vec<u32>, mixed: bool) -> Result<Split, DataError> {
    let folder = entries.reader.folder.clone();
    let (Some([h, w]), false) = (entries.size, mixed) else {
        return Err(fault(&folder, "float images must be of one size, and not stand beside others"));
    };
    let shape = [entries.channels, h, w];
    if !is_small(shape, entries.len(), 4) {
        return Err(fault(&folder, "more than 1 GiB of float images is not supported; store them as bytes"));
    }
    let mut data = Vec::with_capacity(shape.iter().product::<usize>() * entries.len());
    entries.reader.scan(|_, datum| {
        if let Pixels::Floats(values) = datum.pixels {
            let plane = (values.len() / shape[0]).max(1);
            match shape[0] {
                3 => values.rchunks_exact(plane).for_each(|p| data.extend_from_slice(p)),
                _ => data.extend_from_slice(&values),
            }
        }
        Ok(())
    })?;
    Split::from_floats(data, labels, shape)
}
