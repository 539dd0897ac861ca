//! Reading a database as a split.

use std::path::Path;

use rayon::prelude::*;

use crate::lmdb::datum::{Datum, Pixels};
use crate::lmdb::entries::{Entries, Reader};
use crate::lmdb::folder::fault;
use crate::storage::{SMALL_IMAGE, SMALL_SET, Storage};
use crate::{DataError, Split, decode};

/// What the entries of a database hold.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools)] // facts that do not depend on one another
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

impl Split {
    /// The images of a Caffe database: the folder of an LMDB whose values are `Datum` messages, raw or encoded, in the
    /// order of its keys. Raw colour images are taken to hold blue first, as Caffe writes them.
    ///
    /// # Errors
    /// [`DataError::Lmdb`] naming page or entry for a database that is damaged or holds something else;
    /// [`DataError::NotFound`], [`DataError::Empty`], [`DataError::Io`].
    pub fn open_lmdb(folder: &Path) -> Result<Split, DataError> {
        open(folder)
    }
}

fn open(folder: &Path) -> Result<Split, DataError> {
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
        if encoded || raw {
            return Err(one_kind(folder));
        }
        return load_floats(entries, labels);
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

/// Float images beside others, or of several sizes.
fn one_kind(folder: &Path) -> DataError {
    fault(folder, "float images must be of one size, and not stand beside others")
}

fn load_floats(entries: Entries, labels: Vec<u32>) -> Result<Split, DataError> {
    let folder = entries.reader.folder.clone();
    let Some([h, w]) = entries.size else { return Err(one_kind(&folder)) };
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
