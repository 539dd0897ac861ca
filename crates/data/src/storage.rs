//! Storage of the pixels of a split: in memory, in files, in a database.

use std::fmt;
use std::sync::Arc;

use rayon::prelude::*;
use sha2::digest::Update;

use crate::DataError;
use crate::decode::{self, Header, MAX_FILE};
use crate::lmdb::entries::Entries;
use crate::tree::Tree;

/// The images behind a split.
pub(crate) enum Storage {
    /// 8-bit images of one size, planar.
    Bytes { data: Vec<u8>, shape: [usize; 3] },
    /// Float images of one size, planar.
    Floats { data: Vec<f32>, shape: [usize; 3] },
    /// Image files, decoded when they are needed.
    Files(Files),
    /// Images in a database, decoded when they are needed.
    Database(Entries),
}

/// Image files of a tree.
#[derive(Debug)]
pub(crate) struct Files {
    tree: Arc<Tree>,
    /// Positions in the tree.
    files: Vec<u32>,
    channels: usize,
    size: Option<[usize; 2]>,
}

// Without the pixels.
impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Storage::Bytes { .. } => "bytes",
            Storage::Floats { .. } => "floats",
            Storage::Files(_) => "files",
            Storage::Database(_) => "database entries",
        };
        write!(f, "{} {kind} of {} channels, size {:?}", self.len(), self.channels(), self.size())
    }
}

/// An image file's bytes, and its channels, height and width.
pub(crate) type Encoded = (Vec<u8>, [usize; 3]);

/// One image, planar (channels, height, width).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Image<'a> {
    pub pixels: Pixels<'a>,
    pub shape: [usize; 3],
}

/// The pixels of one image.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pixels<'a> {
    Bytes(&'a [u8]),
    Floats(&'a [f32]),
}

impl Storage {
    pub fn len(&self) -> usize {
        match self {
            Storage::Bytes { data, shape } => data.len() / volume(*shape),
            Storage::Floats { data, shape } => data.len() / volume(*shape),
            Storage::Files(files) => files.files.len(),
            Storage::Database(entries) => entries.len(),
        }
    }

    pub fn channels(&self) -> usize {
        match self {
            Storage::Bytes { shape, .. } | Storage::Floats { shape, .. } => shape[0],
            Storage::Files(files) => files.channels,
            Storage::Database(entries) => entries.channels,
        }
    }

    /// Height and width, if all images agree.
    pub fn size(&self) -> Option<[usize; 2]> {
        match self {
            Storage::Bytes { shape, .. } | Storage::Floats { shape, .. } => Some([shape[1], shape[2]]),
            Storage::Files(files) => files.size,
            Storage::Database(entries) => entries.size,
        }
    }

    /// Feeds what identifies image `i` to a hash: its pixels, or the name and size of its file, or
    /// database and key.
    pub fn identify(&self, i: usize, hash: &mut impl Update) {
        match self {
            Storage::Bytes { data, shape } => hash.update(&data[i * volume(*shape)..][..volume(*shape)]),
            Storage::Floats { data, shape } => {
                let image = &data[i * volume(*shape)..][..volume(*shape)];
                image.iter().for_each(|value| hash.update(&value.to_le_bytes()));
            }
            Storage::Files(files) => {
                let entry = &files.tree.files[files.files[i] as usize];
                hash.update(&(entry.path.len() as u64).to_le_bytes());
                hash.update(entry.path.as_bytes());
                hash.update(&entry.size.to_le_bytes());
            }
            Storage::Database(entries) => {
                let (database, key) = entries.identity(i);
                for part in [database.as_bytes(), key] {
                    hash.update(&(part.len() as u64).to_le_bytes());
                    hash.update(part);
                }
            }
        }
    }

    /// The name of image `i` in messages.
    pub fn name(&self, i: usize) -> String {
        match self {
            Storage::Bytes { .. } | Storage::Floats { .. } => format!("image {i}"),
            Storage::Files(files) => files.name(i),
            Storage::Database(entries) => entries.name(i),
        }
    }

    /// Image `i`; `scratch` holds the pixels where they must be decoded first.
    pub fn image<'a>(&'a self, i: usize, scratch: &'a mut Vec<u8>) -> Result<Image<'a>, DataError> {
        Ok(match self {
            Storage::Bytes { data, shape } => {
                let size = volume(*shape);
                Image { pixels: Pixels::Bytes(&data[i * size..][..size]), shape: *shape }
            }
            Storage::Floats { data, shape } => {
                let size = volume(*shape);
                Image { pixels: Pixels::Floats(&data[i * size..][..size]), shape: *shape }
            }
            Storage::Files(files) => {
                let [height, width] = files.decode(i, scratch)?;
                Image { pixels: Pixels::Bytes(scratch), shape: [files.channels, height, width] }
            }
            Storage::Database(entries) => {
                let [height, width] = entries.decode(i, scratch)?;
                Image { pixels: Pixels::Bytes(scratch), shape: [entries.channels, height, width] }
            }
        })
    }

    /// About how many bytes image `i` takes where it is stored.
    pub fn stored_bytes(&self, i: usize) -> usize {
        match self {
            Storage::Bytes { shape, .. } => volume(*shape),
            Storage::Floats { shape, .. } => 5 * volume(*shape),
            Storage::Files(files) => files.stored_bytes(i),
            Storage::Database(entries) => entries.stored_bytes(i),
        }
    }
}

/// Images of one size are decoded at once if one of them and all of them are not larger than this.
pub(crate) const SMALL_IMAGE: usize = 3 * 128 * 128;
pub(crate) const SMALL_SET: usize = 1 << 30;

/// Headers that are read before asking whether to go on.
const CHUNK: usize = 2048;

impl Files {
    /// Reads the headers of image files (at least one), until it is known whether there are colours and whether the sizes
    /// differ.
    pub fn survey(tree: Arc<Tree>, files: Vec<u32>) -> Result<Files, DataError> {
        let mut first: Option<Header> = None;
        let mut surveyed = Files { tree, files, channels: 1, size: None };
        let mut one_size = true;
        for start in (0..surveyed.files.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(surveyed.files.len());
            let headers: Vec<Result<Header, DataError>> =
                (start..end).into_par_iter().map(|i| surveyed.header(i)).collect();
            for header in headers {
                let header = header?;
                one_size &= first.get_or_insert(header).size == header.size;
                surveyed.channels = surveyed.channels.max(if header.colour { 3 } else { 1 });
            }
            if !one_size && surveyed.channels == 3 {
                break;
            }
        }
        surveyed.size = first.map(|header| header.size).filter(|_| one_size);
        Ok(surveyed)
    }

    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Loads the images into memory, with `channels` channels, if they are small and of one size.
    pub fn load(mut self, channels: usize) -> Result<Storage, DataError> {
        self.channels = channels;
        let Some([height, width]) = self.size else { return Ok(Storage::Files(self)) };
        let shape = [channels, height, width];
        let size = volume(shape);
        if size == 0 || size > SMALL_IMAGE || size.saturating_mul(self.files.len()) > SMALL_SET {
            return Ok(Storage::Files(self));
        }
        let mut data = vec![0; size * self.files.len()];
        let failed = data
            .par_chunks_exact_mut(size)
            .enumerate()
            .map_init(Vec::new, |scratch, (i, out)| {
                let found = self.decode(i, scratch)?;
                // The header is read again: the file may have changed in between.
                if found != [height, width] {
                    return Err(DataError::SizesDiffer);
                }
                out.copy_from_slice(scratch);
                Ok(())
            })
            .find_map_first(Result::err);
        failed.map_or(Ok(Storage::Bytes { data, shape }), Err)
    }

    fn name(&self, i: usize) -> String {
        self.tree.name(self.files[i] as usize)
    }

    /// The bytes of image file `i` with its channels, height and width; `None` for a format that OpenCV, and so Caffe,
    /// does not decode everywhere.
    pub fn file_for_caffe(&self, i: usize) -> Result<Option<Encoded>, DataError> {
        let bytes = self.tree.read(self.files[i] as usize, MAX_FILE)?;
        let common = [&b"\xff\xd8"[..], b"\x89PNG", b"BM"].iter().any(|magic| bytes.starts_with(magic));
        if !common {
            return Ok(None);
        }
        let Header { colour, size: [height, width] } =
            decode::header(&bytes).map_err(|e| self.unreadable(i, e))?;
        Ok(Some((bytes, [if colour { 3 } else { 1 }, height, width])))
    }

    /// Bytes of image `i` as a message: the file's, or those of its pixels.
    fn stored_bytes(&self, i: usize) -> usize {
        let entry = &self.tree.files[self.files[i] as usize];
        let pixels = || self.header(i).map_or(0, |h| self.channels * h.size[0] * h.size[1]);
        let name = entry.path.to_ascii_lowercase();
        let copied = [".jpg", ".jpeg", ".png", ".bmp"].iter().any(|ending| name.ends_with(ending));
        usize::try_from(entry.size).unwrap_or(0).max(if copied { 0 } else { pixels() })
    }

    fn header(&self, i: usize) -> Result<Header, DataError> {
        let bytes = self.tree.read(self.files[i] as usize, MAX_FILE)?;
        decode::header(&bytes).map_err(|e| self.unreadable(i, e))
    }

    fn decode(&self, i: usize, out: &mut Vec<u8>) -> Result<[usize; 2], DataError> {
        let bytes = self.tree.read(self.files[i] as usize, MAX_FILE)?;
        decode::decode(&bytes, self.channels, out).map_err(|e| self.unreadable(i, e))
    }

    fn unreadable(&self, i: usize, source: image::ImageError) -> DataError {
        let bytes = self.tree.read(self.files[i] as usize, MAX_FILE);
        if let Some(what) = bytes.ok().and_then(|b| slq_file::stand_in_bytes(&b[..b.len().min(512)])) {
            return DataError::StandIn { file: self.name(i), what };
        }
        DataError::Image { file: self.name(i), source: Box::new(source) }
    }
}

fn volume(shape: [usize; 3]) -> usize {
    shape.iter().product()
}
