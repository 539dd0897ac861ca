//! From a graph's weights to a file.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::io::{BufWriter, Write};
use std::path::Path;

use slq_codebook::Palette;
use slq_graph::{DType, Graph, TensorData, Weight};

use crate::error::SafetensorsError;
use crate::manifest::{self, Entry, PaletteEntry};
use crate::{container, dtype, read};

/// Where a tensor's bytes come from; they are made when they are written, one tensor at a time.
enum Bytes<'a> {
    Values(&'a TensorData),
    Codebook(TensorData),
    Packed(Vec<u8>),
}

impl Bytes<'_> {
    fn get(&self) -> Cow<'_, [u8]> {
        match self {
            Bytes::Values(data) => data.to_le_bytes(),
            Bytes::Codebook(data) => data.to_le_bytes(),
            Bytes::Packed(bytes) => bytes.as_slice().into(),
        }
    }
}

struct Stored<'a> {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Bytes<'a>,
}

/// Writes all weights of `graph`, with their palettes, and the graph's properties.
///
/// The file is written under a temporary name in the same folder, read back, compared weight by weight, and then
/// renamed: `path` holds all of it or what it held before. The same graph gives the same bytes.
///
/// # Errors
/// [`SafetensorsError::Io`]; [`SafetensorsError::NameClash`] for weights that are called like the codes of
/// another; [`SafetensorsError::ReadBack`].
pub fn write(graph: &Graph, path: &Path) -> Result<(), SafetensorsError> {
    let mut entries = Vec::new();
    let mut stored = Vec::new();
    for (name, weight) in &graph.weights {
        entries.push(lay_out(path, name, weight, &mut stored)?);
    }
    let mut names = HashSet::new();
    for tensor in &stored {
        if tensor.name == "__metadata__" || !names.insert(tensor.name.as_str()) {
            return Err(SafetensorsError::NameClash { path: path.into(), tensor: tensor.name.clone() });
        }
    }
    // Wide elements first, so that every tensor is aligned to its element; the list keeps the weights' order.
    stored.sort_by_key(|t| std::cmp::Reverse(t.dtype.size()));
    let properties = properties(graph, &entries)
        .map_err(|source| SafetensorsError::Manifest { path: path.into(), source })?;
    let io = |source| SafetensorsError::Io { path: path.into(), source };
    let file = slq_file::temporary_beside(path).map_err(io)?;
    write_tensors(file.as_file(), &properties, &stored).map_err(io)?;
    read_back(graph, file.path(), path)?;
    slq_file::persist(file, path).map_err(io)
}

fn lay_out<'a>(
    path: &Path,
    name: &str,
    weight: &'a Weight,
    stored: &mut Vec<Stored<'a>>,
) -> Result<Entry, SafetensorsError> {
    let tensor = &weight.tensor;
    let palette = weight.palette.as_ref();
    if !palette.is_some_and(Palette::is_fully_fixed) {
        stored.push(Stored {
            name: name.into(),
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            bytes: Bytes::Values(tensor.data()),
        });
    }
    let mut entry = Entry { name: name.into(), shape: tensor.shape().to_vec(), palette: None };
    let Some(palette) = palette else { return Ok(entry) };
    let packed = |name: String, values: &[u8], bits: u8| {
        let bytes = slq_codebook::pack(values, bits.into());
        let bytes = bytes.map_err(|source| SafetensorsError::Codes {
            path: path.into(),
            weight: entry.name.clone(),
            source,
        })?;
        Ok(Stored { name, dtype: DType::U8, shape: vec![bytes.len()], bytes: Bytes::Packed(bytes) })
    };
    stored.push(packed(manifest::codes(name), palette.codes(), palette.bits())?);
    if !palette.is_fully_fixed() {
        let flags: Vec<u8> = palette.fixed().iter().map(|&f| f.into()).collect();
        stored.push(packed(manifest::fixed(name), &flags, 1)?);
    }
    let (groups, size) = (palette.groups(), palette.codebook_size());
    // Centroids in the weight's own type; a weight that is not of floats fails when the file is read back.
    let dtype = if tensor.dtype().is_float() { tensor.dtype() } else { DType::F32 };
    let book = palette.codebook().to_vec();
    stored.push(Stored {
        name: manifest::codebook(name),
        dtype,
        shape: vec![groups, size],
        bytes: Bytes::Codebook(TensorData::floats(dtype, book).unwrap_or(TensorData::F32(Vec::new()))),
    });
    entry.palette =
        Some(PaletteEntry { bits: palette.bits(), groups, size, fixed: palette.is_fully_fixed() });
    Ok(entry)
}

fn properties(graph: &Graph, entries: &[Entry]) -> Result<BTreeMap<String, String>, serde_json::Error> {
    let own = graph.metadata.properties.iter().map(|(k, v)| (k.clone(), v.clone()));
    let mut properties: BTreeMap<String, String> = own.collect();
    properties.insert(manifest::VERSION_KEY.into(), manifest::VERSION.into());
    properties.insert(manifest::WEIGHTS_KEY.into(), serde_json::to_string(entries)?);
    Ok(properties)
}

fn write_tensors(
    file: &std::fs::File,
    properties: &BTreeMap<String, String>,
    stored: &[Stored],
) -> std::io::Result<()> {
    let size = |t: &Stored| t.shape.iter().product::<usize>() * t.dtype.size();
    let infos: Vec<_> =
        stored.iter().map(|t| (t.name.clone(), dtype::name(t.dtype), t.shape.clone(), size(t))).collect();
    let header = container::header(properties, &infos)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(&header)?;
    for tensor in stored {
        out.write_all(&tensor.bytes.get())?;
    }
    out.flush()?;
    drop(out);
    file.sync_all()
}

fn read_back(graph: &Graph, written: &Path, path: &Path) -> Result<(), SafetensorsError> {
    let differs = |weight: &str| SafetensorsError::ReadBack { path: path.into(), weight: weight.into() };
    let contents = read::read_with(written, &read::ReadOptions::default())?;
    if contents.weights.len() != graph.weights.len() {
        return Err(differs("(their number)"));
    }
    for ((name, weight), (found_name, found)) in graph.weights.iter().zip(&contents.weights) {
        let palettes = match (&weight.palette, &found.palette) {
            (Some(a), Some(b)) => a.is_identical(b),
            (a, b) => a.is_none() && b.is_none(),
        };
        let tensors = weight.tensor.shape() == found.tensor.shape()
            && weight.tensor.data().is_identical(found.tensor.data());
        if name != found_name || !palettes || !tensors {
            return Err(differs(name));
        }
    }
    Ok(())
}
