//! From a file to weights.

use std::collections::HashSet;
use std::path::Path;

use indexmap::IndexMap;
use slq_codebook::Palette;
use slq_graph::{DType, Graph, GraphError, Tensor, TensorData, Weight};

use crate::container::Container;
use crate::dtype;
use crate::error::SafetensorsError;
use crate::manifest::{self, Entry, PaletteEntry};

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Turns 16-bit and 64-bit floats into 32-bit floats. Otherwise they stay as stored, and nothing can be
    /// clustered or trained.
    pub widen: bool,
}

impl ReadOptions {
    /// The same options with `widen` set.
    pub fn widen(self, widen: bool) -> Self {
        Self { widen, ..self }
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Contents {
    /// Weights by name: in the order they were written for files of [`write`](crate::write()), in the order of their
    /// bytes for others.
    pub weights: IndexMap<String, Weight>,
    /// Properties, sorted by key.
    pub properties: IndexMap<String, String>,
    /// Whether [`write`](crate::write()) made the file. Files of others hold plain tensors.
    pub ours: bool,
}

/// The weights in a file; 16-bit and 64-bit floats stay as they are.
///
/// # Errors
/// As [`read_with`].
pub fn read(path: &Path) -> Result<IndexMap<String, Weight>, SafetensorsError> {
    Ok(read_with(path, &ReadOptions::default())?.weights)
}

/// Weights and properties of a file.
///
/// # Errors
/// One variant of [`SafetensorsError`] for each way in which the file can be broken; nothing is allocated for a
/// length that the file does not have.
pub fn read_with(path: &Path, options: &ReadOptions) -> Result<Contents, SafetensorsError> {
    let mut file = Container::open(path)?;
    let mut properties = file.properties();
    let version = properties.remove(manifest::VERSION_KEY);
    let list = properties.remove(manifest::WEIGHTS_KEY);
    let mut weights = match (&version, list) {
        (None, _) => plain(&mut file)?,
        (Some(version), Some(list)) if version == manifest::VERSION => listed(&mut file, &list)?,
        (Some(version), _) => {
            return Err(SafetensorsError::Version { path: path.into(), version: version.clone() });
        }
    };
    if options.widen {
        for weight in weights.values_mut() {
            widen(weight);
        }
    }
    Ok(Contents { weights, properties: properties.into_iter().collect(), ours: version.is_some() })
}

fn widen(weight: &mut Weight) {
    let tensor = std::mem::replace(&mut weight.tensor, Tensor::i64_vector(Vec::new()));
    weight.tensor = tensor.widened();
}

/// Every tensor as a weight.
fn plain(file: &mut Container) -> Result<IndexMap<String, Weight>, SafetensorsError> {
    let names = file.names().into_iter();
    names.map(|name| Ok((name.clone(), file.tensor(&name)?.into()))).collect()
}

/// The weights that the list describes.
fn listed(file: &mut Container, list: &str) -> Result<IndexMap<String, Weight>, SafetensorsError> {
    let path = file.path();
    let entries: Vec<Entry> = serde_json::from_str(list)
        .map_err(|source| SafetensorsError::Manifest { path: path.clone(), source })?;
    let mut used = HashSet::new();
    let mut weights = IndexMap::new();
    for entry in entries {
        let differs = |name: &str| SafetensorsError::Listing { path: path.clone(), name: name.into() };
        if weights.contains_key(&entry.name) {
            return Err(differs(&entry.name));
        }
        let weight = match &entry.palette {
            None => {
                let tensor = file.tensor(&entry.name)?;
                if tensor.shape() != entry.shape {
                    return Err(differs(&entry.name));
                }
                used.insert(entry.name.clone());
                tensor.into()
            }
            Some(palette) => palettized(file, &entry, palette, &mut used)?,
        };
        weights.insert(entry.name, weight);
    }
    match file.names().into_iter().find(|n| !used.contains(n)) {
        Some(name) => Err(SafetensorsError::Listing { path, name }),
        None => Ok(weights),
    }
}

fn palettized(
    file: &mut Container,
    entry: &Entry,
    palette: &PaletteEntry,
    used: &mut HashSet<String>,
) -> Result<Weight, SafetensorsError> {
    let (path, weight) = (file.path(), entry.name.clone());
    let lacks = |tensor: String, needed: String| SafetensorsError::Tensor {
        path: path.clone(),
        weight: weight.clone(),
        tensor,
        needed,
    };
    let codes_error = |source| SafetensorsError::Codes { path: path.clone(), weight: weight.clone(), source };
    let graph_error = |source| SafetensorsError::Weight {
        path: path.clone(),
        weight: weight.clone(),
        source: Box::new(source),
    };
    let palette_error = |source| graph_error(GraphError::Palette(source));
    let count = slq_graph::element_count(&entry.shape)
        .ok_or_else(|| lacks(manifest::codes(&weight), format!("codes for shape {:?}", entry.shape)))?;
    let book_type = file.info(&manifest::codebook(&weight)).and_then(|i| dtype::from_file(i.dtype));
    // Only weights that are fixed as a whole have codebooks of another type than 32-bit floats.
    let book_type = book_type.filter(|t| t.is_float() && palette.fixed).unwrap_or(DType::F32);
    // Types and sizes first: codes are unpacked to at most eight times the bytes the file really has.
    let mut bytes = |tensor: String, dtype: &str, shape: &[usize]| {
        let info = file.info(&tensor).filter(|i| i.dtype.to_string() == dtype && i.shape == shape);
        if info.is_none() {
            return Err(lacks(tensor, format!("{dtype} {shape:?}")));
        }
        let bytes = file.bytes(&tensor)?;
        used.insert(tensor);
        Ok(bytes)
    };
    let book = bytes(manifest::codebook(&weight), dtype::name(book_type), &[palette.groups, palette.size])?;
    let packed_len = |bits: u8| slq_codebook::packed_len(count, bits.into()).map_err(codes_error);
    let packed = bytes(manifest::codes(&weight), "U8", &[packed_len(palette.bits)?])?;
    let codes = slq_codebook::unpack(&packed, palette.bits.into(), count).map_err(codes_error)?;
    let stored = TensorData::from_le_bytes(book_type, book.into());
    let book = Tensor::new(vec![palette.groups, palette.size], stored).map_err(graph_error)?;
    let book = book.to_f32().unwrap_or_default().into_owned();
    if palette.fixed {
        let palette = Palette::fully_fixed(book, palette.groups, codes).map_err(palette_error)?;
        let tensor = Tensor::floats(entry.shape.clone(), book_type, palette.decode()).map_err(graph_error)?;
        return Ok(Weight { palette: Some(palette), ..tensor.into() });
    }
    let values = dtype::floats(&bytes(weight.clone(), "F32", &entry.shape)?);
    let flags = bytes(manifest::fixed(&weight), "U8", &[packed_len(1)?])?;
    let flags = slq_codebook::unpack(&flags, 1, count).map_err(codes_error)?;
    let flags = flags.into_iter().map(|f| f == 1).collect();
    let palette = Palette::new(book, palette.groups, codes, flags).map_err(palette_error)?;
    if let Some(position) = palette.first_off_centroid(&values) {
        return Err(SafetensorsError::NotItsCentroid { path, weight, position });
    }
    let tensor = Tensor::f32(entry.shape.clone(), values).map_err(graph_error)?;
    Ok(Weight { palette: Some(palette), ..tensor.into() })
}

/// Puts the weights of a file into `graph`: values and palettes by name; the rates of training stay. Properties
/// are taken over from files that [`write`](crate::write()) made.
///
/// Every parameter of the graph must be there, in its shape; 16-bit and 64-bit floats are turned into 32-bit
/// floats where the graph has those. Integers that the graph does not know (such as PyTorch's count of batches)
/// are skipped.
///
/// # Errors
/// As [`read_with`]; [`SafetensorsError::UnknownWeight`], [`SafetensorsError::MissingWeight`] and
/// [`SafetensorsError::WeightMismatch`] where file and graph differ. The graph is then unchanged.
pub fn read_into(graph: &mut Graph, path: &Path) -> Result<(), SafetensorsError> {
    let mut contents = read_with(path, &ReadOptions::default())?;
    let float = |t: &Tensor| t.dtype().is_float();
    contents.weights.retain(|name, weight| float(&weight.tensor) || graph.weights.contains_key(name));
    for (name, weight) in &mut contents.weights {
        let Some(target) = graph.weights.get(name) else {
            return Err(SafetensorsError::UnknownWeight { path: path.into(), weight: name.clone() });
        };
        if target.tensor.dtype() == DType::F32 {
            widen(weight);
        }
        let show = |t: &Tensor| format!("{} {:?}", dtype::name(t.dtype()), t.shape());
        let (found, needed) = (show(&weight.tensor), show(&target.tensor));
        if found != needed {
            let (path, weight) = (path.into(), name.clone());
            return Err(SafetensorsError::WeightMismatch { path, weight, found, needed });
        }
    }
    let parameters = graph.parameters().into_iter();
    let missing = parameters.filter(|name| !contents.weights.contains_key(*name));
    if let Some(weight) = missing.min() {
        return Err(SafetensorsError::MissingWeight { path: path.into(), weight: weight.into() });
    }
    for (name, weight) in contents.weights {
        if let Some(target) = graph.weights.get_mut(&name) {
            (target.tensor, target.palette) = (weight.tensor, weight.palette);
        }
    }
    if contents.ours {
        graph.metadata.properties.extend(contents.properties);
    }
    Ok(())
}
