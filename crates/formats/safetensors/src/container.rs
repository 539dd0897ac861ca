//! The container: a header's length, a header, and the tensors' bytes without gaps. Lengths are checked against
//! the file before anything is allocated.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use slq_graph::Tensor;

use crate::dtype;
use crate::error::SafetensorsError;

/// The largest header that is read; a network of a million tensors stays below.
const LARGEST_HEADER: u64 = 100_000_000;

/// An open file and what its header says.
pub(crate) struct Container {
    path: PathBuf,
    file: File,
    /// Where the tensors' bytes begin.
    start: u64,
    metadata: Metadata,
}

impl Container {
    pub fn open(path: &Path) -> Result<Self, SafetensorsError> {
        let io = |source| SafetensorsError::Io { path: path.into(), source };
        let mut file = File::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let mut length = [0; 8];
        if size < 8 {
            return Err(SafetensorsError::HeaderLength { path: path.into(), header: 8, file: size });
        }
        file.read_exact(&mut length).map_err(io)?;
        let header = u64::from_le_bytes(length);
        if header > size - 8 {
            return Err(SafetensorsError::HeaderLength { path: path.into(), header, file: size });
        }
        if header > LARGEST_HEADER {
            return Err(SafetensorsError::HeaderTooLarge {
                path: path.into(),
                header,
                limit: LARGEST_HEADER,
            });
        }
        let mut text = Vec::new();
        file.by_ref().take(header).read_to_end(&mut text).map_err(io)?;
        // This checks shapes against offsets, and that the tensors follow each other without gaps.
        let metadata: Metadata = serde_json::from_slice(&text)
            .map_err(|source| SafetensorsError::Header { path: path.into(), source })?;
        let (described, found) = (metadata.data_len() as u64, size - 8 - header);
        if described != found {
            return Err(SafetensorsError::DataLength { path: path.into(), described, found });
        }
        Ok(Self { path: path.into(), file, start: 8 + header, metadata })
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Key/value pairs, sorted by key.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let pairs = self.metadata.metadata().iter().flatten();
        pairs.map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// Names of the tensors in the order of their bytes.
    pub fn names(&self) -> Vec<String> {
        self.metadata.offset_keys()
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.metadata.info(name)
    }

    /// The bytes of a tensor; none for one that does not exist.
    pub fn bytes(&mut self, name: &str) -> Result<Vec<u8>, SafetensorsError> {
        let (from, to) = self.metadata.info(name).map_or((0, 0), |i| i.data_offsets);
        let io = |source| SafetensorsError::Io { path: self.path.clone(), source };
        self.file.seek(SeekFrom::Start(self.start + from as u64)).map_err(io)?;
        // Offsets lie within the file: the header was checked against it.
        let mut bytes = vec![0; to - from];
        self.file.read_exact(&mut bytes).map_err(io)?;
        Ok(bytes)
    }

    /// A tensor as it is stored.
    pub fn tensor(&mut self, name: &str) -> Result<Tensor, SafetensorsError> {
        let path = self.path.clone();
        let info = self.metadata.info(name).map(|i| (i.dtype, i.shape.clone()));
        let (theirs, shape) = info.ok_or_else(|| SafetensorsError::Tensor {
            path: path.clone(),
            weight: name.into(),
            tensor: name.into(),
            needed: "a tensor".into(),
        })?;
        let dtype = dtype::from_file(theirs).ok_or_else(|| SafetensorsError::ElementType {
            path: path.clone(),
            tensor: name.into(),
            dtype: theirs.to_string(),
        })?;
        let data = dtype::from_bytes(dtype, self.bytes(name)?)
            .map_err(|value| SafetensorsError::Boolean { path: path.clone(), tensor: name.into(), value })?;
        Tensor::new(shape, data).map_err(|source| SafetensorsError::Weight {
            path,
            weight: name.into(),
            source: Box::new(source),
        })
    }
}

/// The header of a file with these tensors, (name, element type, shape, bytes), in this order. The same input
/// gives the same bytes.
pub(crate) fn header(
    properties: &BTreeMap<String, String>,
    tensors: &[(String, &'static str, Vec<usize>, usize)],
) -> Result<Vec<u8>, serde_json::Error> {
    use serde::ser::{SerializeMap, Serializer};
    #[derive(serde::Serialize)]
    struct Info<'a> {
        dtype: &'a str,
        shape: &'a [usize],
        data_offsets: [usize; 2],
    }
    let mut text = Vec::new();
    let mut json = serde_json::Serializer::new(&mut text);
    let mut map = json.serialize_map(None)?;
    map.serialize_entry("__metadata__", properties)?;
    let mut at = 0;
    for (name, dtype, shape, bytes) in tensors {
        map.serialize_entry(name, &Info { dtype, shape, data_offsets: [at, at + bytes] })?;
        at += bytes;
    }
    map.end()?;
    // Tensors start at a multiple of 8, as other writers have it.
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok(text)
}
