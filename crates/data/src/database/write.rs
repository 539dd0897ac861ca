//! Writing a dataset as databases.

use std::fs;
use std::path::{Path, PathBuf};

use heed::{EnvFlags, PutFlags};
use prost::Message as _;

use crate::lmdb::datum::Message;
use crate::lmdb::environment::environment;
use crate::lmdb::folder::{Images, fault};
use crate::storage::{Pixels, Storage};
use crate::{DataError, Dataset, Split};

/// Images that go into one transaction.
const TRANSACTION: usize = 2048;

/// Writes a dataset for Caffe: the folder `path` with a database `train` and one `test` in it, or, where there is one
/// split only, the database itself. Entries are `Datum` messages: images in memory as bytes (blue first) or floats,
/// image files as they are (`encoded`), under keys that count from `00000000`.
///
/// Images keep their order, except that training images that are sorted by class, as in an image folder, are
/// shuffled (by `seed`): Caffe reads a database from beginning to end.
///
/// Everything is written beside `path` first, compared with what was to be written, and then takes its place.
///
/// # Errors
/// [`DataError::Lmdb`] or [`DataError::Io`] where writing fails, and those of reading the images;
/// [`DataError::NotReplaced`] where something other than such a folder is at `path`.
pub fn write_lmdb(dataset: &Dataset, path: &Path, seed: u64) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    if path.exists() && !is_ours(path) {
        return Err(DataError::NotReplaced { path: path.into() });
    }
    let folder = slq_file::temporary_folder_beside(path).map_err(io)?;
    let train = if by_class(&dataset.train) { dataset.train.shuffled(seed) } else { dataset.train.clone() };
    let parts = match dataset.one_split {
        true => vec![(train, folder.path().to_path_buf())],
        false => {
            vec![(train, folder.path().join("train")), (dataset.test.clone(), folder.path().join("test"))]
        }
    };
    for (split, place) in parts {
        fs::create_dir_all(&place).map_err(io)?;
        write(&split, &place).map_err(|e| renamed(e, folder.path(), path))?;
    }
    slq_file::persist_folder(folder, path).map_err(io)
}

/// Whether the labels run from class to class: sorted, and of more than one class.
fn by_class(split: &Split) -> bool {
    let labels = split.labels();
    labels.is_sorted() && labels.first() != labels.last()
}

/// A folder that holds nothing but databases, as written here, may be replaced.
fn is_ours(path: &Path) -> bool {
    let only = |folder: &Path, allowed: &[&str]| match fs::read_dir(folder) {
        Ok(mut entries) => entries.all(|e| e.is_ok_and(|e| allowed.iter().any(|a| e.file_name() == *a))),
        Err(_) => false,
    };
    const FILES: [&str; 2] = ["data.mdb", "lock.mdb"];
    let database = |folder: &Path| !folder.exists() || only(folder, &FILES);
    only(path, &FILES)
        || (only(path, &["train", "test"]) && database(&path.join("train")) && database(&path.join("test")))
}

/// The error with the final folder's name in place of the temporary one's.
fn renamed(error: DataError, from: &Path, to: &Path) -> DataError {
    let moved = |path: PathBuf| path.strip_prefix(from).map(|rest| to.join(rest)).unwrap_or(path);
    match error {
        DataError::Lmdb { path, problem } => DataError::Lmdb { path: moved(path), problem },
        DataError::Io { path, source } => DataError::Io { path: moved(path), source },
        other => other,
    }
}

fn write(split: &Split, folder: &Path) -> Result<(), DataError> {
    let broken = |e: heed::Error| fault(folder, e);
    // Values of more than half a page get whole pages: two more than they fill are enough for each.
    let room =
        (0..split.len()).map(|i| split.storage.stored_bytes(split.index[i] as usize) as u64 + (3 << 12));
    let env = environment(folder, room.sum::<u64>() + (64 << 20), EnvFlags::empty()).map_err(broken)?;
    let mut txn = env.write_txn().map_err(broken)?;
    let images: Images = env.create_database(&mut txn, None).map_err(broken)?;
    let digits = split.len().saturating_sub(1).to_string().len().max(8);
    let key = |i: usize| format!("{i:0digits$}").into_bytes();
    for i in 0..split.len() {
        if i > 0 && i.is_multiple_of(TRANSACTION) {
            txn.commit().map_err(broken)?;
            txn = env.write_txn().map_err(broken)?;
        }
        let value = message(split, i)?;
        images.put_with_flags(&mut txn, PutFlags::APPEND, &key(i), &value).map_err(broken)?;
    }
    txn.commit().map_err(broken)?;
    let txn = env.read_txn().map_err(broken)?;
    let mut count = 0;
    for (i, entry) in images.iter(&txn).map_err(broken)?.enumerate() {
        let (found, value) = entry.map_err(broken)?;
        if i >= split.len() || found != key(i) || value != message(split, i)? {
            return Err(fault(folder, format_args!("entry {i} did not read back as written")));
        }
        count += 1;
    }
    drop(txn);
    if count != split.len() {
        return Err(fault(folder, format_args!("{count} entries read back, {} were written", split.len())));
    }
    env.prepare_for_closing().wait();
    Ok(())
}

/// Image `i` of the split as a message.
fn message(split: &Split, i: usize) -> Result<Vec<u8>, DataError> {
    let label = i32::try_from(split.labels[i]).map_err(|_| DataError::LabelRange {
        place: split.image_name(i),
        index: i,
        label: split.labels[i].into(),
        classes: i32::MAX as usize,
    })?;
    let stored = split.index[i] as usize;
    let mut message = Message { label: Some(label), ..Message::default() };
    match &*split.storage {
        Storage::Files(files) => {
            if let Some((bytes, shape)) = files.file_for_caffe(stored)? {
                (message.data, message.encoded) = (Some(bytes), Some(true));
                set_shape(&mut message, shape);
                return Ok(message.encode_to_vec());
            }
        }
        Storage::Database(entries) => {
            let bytes = entries.message(stored)?;
            let mut same = Message::decode(bytes.as_slice()).map_err(|e| fault(Path::new(""), e))?;
            same.label = Some(label);
            return Ok(same.encode_to_vec());
        }
        Storage::Bytes { .. } | Storage::Floats { .. } => {}
    }
    let mut scratch = Vec::new();
    let image = split.storage.image(stored, &mut scratch)?;
    set_shape(&mut message, image.shape);
    match image.pixels {
        Pixels::Bytes(pixels) => message.data = Some(blue_first(pixels, image.shape[0])),
        Pixels::Floats(pixels) => message.float_data = blue_first(pixels, image.shape[0]),
    }
    Ok(message.encode_to_vec())
}

/// The planes with blue first, where there are three.
fn blue_first<T: Copy>(pixels: &[T], channels: usize) -> Vec<T> {
    match channels {
        3 => pixels.rchunks_exact((pixels.len() / 3).max(1)).flatten().copied().collect(),
        _ => pixels.to_vec(),
    }
}

fn set_shape(message: &mut Message, shape: [usize; 3]) {
    let [c, h, w] = shape.map(|d| i32::try_from(d).ok());
    (message.channels, message.height, message.width) = (c, h, w);
}
