//! Bounded reading of binary protobuf files: blobs of caffemodels and mean files.
//!
//! A caffemodel is walked field by field on disk. Every length is checked against the enclosing message and
//! the file before anything is read or allocated for it, and only names and blobs are kept: the layers'
//! settings come from the prototxt.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use slq_graph::element_count;

use crate::error::CaffeError;

/// Protobuf's own bound on a message.
pub(crate) const MAX_FILE: u64 = i32::MAX as u64;
const MAX_LAYERS: usize = 100_000;
const MAX_BLOBS: usize = 256;
const MAX_AXES: usize = 32;

/// An array of a binary file. Double data are rounded to single precision.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Blob {
    /// Shape; four axes where the file has the old `num`, `channels`, `height`, `width`.
    pub shape: Vec<usize>,
    /// Elements, row-major.
    pub data: Vec<f32>,
}

/// A layer's name and blobs.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct LayerBlobs {
    /// The layer's name.
    pub name: String,
    /// Its blobs.
    pub blobs: Vec<Blob>,
}

/// The layers of the caffemodel at `path`.
pub(crate) fn read_model(path: &Path) -> Result<Vec<LayerBlobs>, CaffeError> {
    with_file(path, |reader, end| reader.model(end))
}

/// The single blob of the file at `path`, such as a mean image.
pub(crate) fn read_blob(path: &Path) -> Result<Blob, CaffeError> {
    with_file(path, |reader, end| reader.blob(end))
}

fn with_file<T>(
    path: &Path,
    read: impl FnOnce(&mut Wire<BufReader<File>>, u64) -> Result<T, Bad>,
) -> Result<T, CaffeError> {
    let file = File::open(path).map_err(CaffeError::io("open", path))?;
    let meta = file.metadata().map_err(CaffeError::io("read", path))?;
    if !meta.is_file() {
        let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(CaffeError::Io { action: "read as a file", path: path.into(), source });
    }
    if meta.len() > MAX_FILE {
        return Err(CaffeError::TooLarge { path: path.into(), bytes: meta.len(), limit: MAX_FILE });
    }
    let mut reader = Wire { inner: BufReader::with_capacity(1 << 16, file), pos: 0 };
    read(&mut reader, meta.len()).map_err(|bad| match bad {
        Bad::Io(source) => CaffeError::Io { action: "read", path: path.into(), source },
        Bad::Format(reason) => CaffeError::Binary { path: path.into(), offset: reader.pos, reason },
    })
}

/// Why reading stopped.
#[derive(Debug)]
pub(crate) enum Bad {
    Io(std::io::Error),
    Format(String),
}

fn bad<T>(reason: impl Into<String>) -> Result<T, Bad> {
    Err(Bad::Format(reason.into()))
}

/// How a field's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Varint,
    Fixed64,
    Bytes,
    Fixed32,
}

/// A reader that knows its position; `end` arguments are the exclusive end of the enclosing message.
pub(crate) struct Wire<R> {
    inner: R,
    pos: u64,
}

impl<R: Read + Seek> Wire<BufReader<R>> {
    fn model(&mut self, end: u64) -> Result<Vec<LayerBlobs>, Bad> {
        let mut layers = Vec::new();
        while let Some((field, layout)) = self.field(end)? {
            match (field, layout) {
                (100, Layout::Bytes) => layers.push(self.layer(end, 1, 7, None)?),
                (2, Layout::Bytes) => layers.push(self.layer(end, 4, 6, Some(1))?),
                _ => self.skip(layout, end)?,
            }
            if layers.len() > MAX_LAYERS {
                return bad(format!("more than {MAX_LAYERS} layers"));
            }
        }
        Ok(layers)
    }

    /// A layer whose name and blobs have the given field numbers; `nested` is the field of the oldest layer
    /// description inside a V1 layer.
    fn layer(&mut self, end: u64, name: u32, blobs: u32, nested: Option<u32>) -> Result<LayerBlobs, Bad> {
        let end = self.message(end)?;
        let mut found = LayerBlobs::default();
        while let Some((field, layout)) = self.field(end)? {
            if layout != Layout::Bytes {
                self.skip(layout, end)?;
            } else if field == name {
                found.name = self.string(end)?;
            } else if field == blobs {
                let inner = self.message(end)?;
                found.blobs.push(self.blob(inner)?);
            } else if Some(field) == nested {
                let inner = self.layer(end, 1, 50, None)?;
                found.name = inner.name;
                found.blobs.extend(inner.blobs);
            } else {
                self.skip(layout, end)?;
            }
            if found.blobs.len() > MAX_BLOBS {
                return bad(format!("layer `{}` has more than {MAX_BLOBS} blobs", found.name));
            }
        }
        Ok(found)
    }

    fn blob(&mut self, end: u64) -> Result<Blob, Bad> {
        let mut legacy: [Option<i64>; 4] = [None; 4];
        let mut shape: Option<Vec<i64>> = None;
        let (mut singles, mut doubles) = (Vec::new(), Vec::new());
        while let Some((field, layout)) = self.field(end)? {
            match (field, layout) {
                (1..=4, Layout::Varint) => legacy[field as usize - 1] = Some(self.varint(end)? as i64),
                (5, Layout::Bytes) => self.packed(end, &mut singles, f32::from_le_bytes)?,
                (5, Layout::Fixed32) => singles.push(f32::from_le_bytes(self.array(end)?)),
                (7, Layout::Bytes) => {
                    let inner = self.message(end)?;
                    self.dims(inner, shape.get_or_insert_default())?;
                }
                (8, Layout::Bytes) => self.packed(end, &mut doubles, |b| f64::from_le_bytes(b) as f32)?,
                (8, Layout::Fixed64) => doubles.push(f64::from_le_bytes(self.array(end)?) as f32),
                _ => self.skip(layout, end)?,
            }
        }
        if !singles.is_empty() && !doubles.is_empty() {
            return bad("a blob has both single and double data");
        }
        let data = if doubles.is_empty() { singles } else { doubles };
        let dims = match shape {
            Some(dims) => dims,
            None if legacy.iter().any(Option::is_some) => legacy.map(|d| d.unwrap_or(0)).to_vec(),
            None => vec![data.len() as i64],
        };
        let dims: Option<Vec<usize>> = dims.iter().map(|&d| usize::try_from(d).ok()).collect();
        match dims {
            Some(dims) if element_count(&dims) == Some(data.len()) => Ok(Blob { shape: dims, data }),
            Some(dims) => bad(format!("a blob of shape {dims:?} has {} values", data.len())),
            None => bad("a blob has a negative extent"),
        }
    }

    fn dims(&mut self, end: u64, dims: &mut Vec<i64>) -> Result<(), Bad> {
        while let Some((field, layout)) = self.field(end)? {
            match (field, layout) {
                (1, Layout::Varint) => dims.push(self.varint(end)? as i64),
                (1, Layout::Bytes) => {
                    let inner = self.message(end)?;
                    while self.pos < inner && dims.len() <= MAX_AXES {
                        dims.push(self.varint(inner)? as i64);
                    }
                }
                _ => self.skip(layout, end)?,
            }
            if dims.len() > MAX_AXES {
                return bad(format!("a blob has more than {MAX_AXES} axes"));
            }
        }
        Ok(())
    }

    /// The number and layout of the next field, or `None` at the end of the message.
    fn field(&mut self, end: u64) -> Result<Option<(u32, Layout)>, Bad> {
        if self.pos == end {
            return Ok(None);
        }
        let key = self.varint(end)?;
        let layout = match key & 7 {
            0 => Layout::Varint,
            1 => Layout::Fixed64,
            2 => Layout::Bytes,
            5 => Layout::Fixed32,
            other => return bad(format!("wire type {other} does not occur in Caffe's files")),
        };
        match u32::try_from(key >> 3) {
            Ok(number) if number > 0 => Ok(Some((number, layout))),
            _ => bad("not a field number"),
        }
    }

    fn varint(&mut self, end: u64) -> Result<u64, Bad> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array(end)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        bad("a number has more than ten bytes")
    }

    fn array<const N: usize>(&mut self, end: u64) -> Result<[u8; N], Bad> {
        if end - self.pos < N as u64 {
            return bad("the file or a message in it ends too early");
        }
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(Bad::Io)?;
        self.pos += N as u64;
        Ok(bytes)
    }

    /// Reads a length and returns the end of the message that follows.
    fn message(&mut self, end: u64) -> Result<u64, Bad> {
        let length = self.varint(end)?;
        if length > end - self.pos {
            return bad(format!("a length of {length} where {} bytes are left", end - self.pos));
        }
        Ok(self.pos + length)
    }

    fn string(&mut self, end: u64) -> Result<String, Bad> {
        let inner = self.message(end)?;
        let mut bytes = vec![0; (inner - self.pos) as usize];
        self.inner.read_exact(&mut bytes).map_err(Bad::Io)?;
        self.pos = inner;
        Ok(crate::text::lenient(bytes))
    }

    fn packed<const N: usize>(
        &mut self,
        end: u64,
        values: &mut Vec<f32>,
        decode: impl Fn([u8; N]) -> f32,
    ) -> Result<(), Bad> {
        let inner = self.message(end)?;
        let bytes = (inner - self.pos) as usize;
        if !bytes.is_multiple_of(N) {
            return bad(format!("{bytes} bytes of data do not divide into values of {N}"));
        }
        values.reserve_exact(bytes / N);
        let mut buffer = [0u8; 1 << 13];
        while self.pos < inner {
            let take = buffer.len().min((inner - self.pos) as usize);
            self.inner.read_exact(&mut buffer[..take]).map_err(Bad::Io)?;
            self.pos += take as u64;
            let (chunks, _) = buffer[..take].as_chunks::<N>();
            values.extend(chunks.iter().map(|c| decode(*c)));
        }
        Ok(())
    }

    fn skip(&mut self, layout: Layout, end: u64) -> Result<(), Bad> {
        match layout {
            Layout::Varint => self.varint(end).map(drop),
            Layout::Fixed64 => self.array::<8>(end).map(drop),
            Layout::Fixed32 => self.array::<4>(end).map(drop),
            Layout::Bytes => {
                let inner = self.message(end)?;
                self.inner.seek_relative((inner - self.pos) as i64).map_err(Bad::Io)?;
                self.pos = inner;
                Ok(())
            }
        }
    }
}
