//! Reading: the header first, everything else when it is wanted.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Seek};
use std::sync::OnceLock;

use slq_graph::{Graph, Tensor, TensorData, Weight};

use crate::codes::PackedCodes;
use crate::error::{Fault, Place, SlqError};
use crate::header::{self, Kind, PREFIX, Section};
use crate::network::{self, Form, Network, WeightInfo};
use crate::source::{InMemory, Seekable, Source};
use crate::values;

/// An open `.slq` file.
///
/// Opening reads the header and the network section; weights are read and decoded when they are asked for, each with
/// its checksum. All methods take `&self`: several threads may decode from one reader.
pub struct Reader<S> {
    source: S,
    sections: Vec<Section>,
    network: Network,
    /// Weights of each section, by their position.
    members: Vec<Vec<usize>>,
    positions: HashMap<String, usize>,
    /// Decoded sections that hold several weights.
    shared: Vec<OnceLock<Vec<TensorData>>>,
}

impl<B: AsRef<[u8]>> Reader<InMemory<B>> {
    /// Opens a file that is in memory.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn from_bytes(bytes: B) -> Result<Self, SlqError> {
        Self::open(InMemory(bytes))
    }
}

impl<R: Read + Seek> Reader<Seekable<R>> {
    /// Opens a file or another seekable stream.
    ///
    /// # Errors
    /// As [`Reader::open`], and [`SlqError::Io`].
    pub fn from_stream(stream: R) -> Result<Self, SlqError> {
        Self::open(Seekable::new(stream)?)
    }
}

impl<S: Source> Reader<S> {
    /// Opens a file: reads its header and the network without weights.
    ///
    /// # Errors
    /// [`SlqError::NotSlq`], [`SlqError::NewerVersion`], [`SlqError::FileLength`], [`SlqError::Checksum`],
    /// [`SlqError::Expansion`], or [`SlqError::Malformed`] with section and offset.
    pub fn open(source: S) -> Result<Self, SlqError> {
        let file = source.size();
        let short = || {
            let fault = Fault::Ends { needed: PREFIX as u64, left: file };
            SlqError::Malformed { place: Place { section: header::NAME.into(), offset: 0 }, fault }
        };
        let magic = source.read_at(0, file.min(4) as usize)?;
        if *magic != header::MAGIC[..magic.len()] || magic.is_empty() {
            return Err(SlqError::NotSlq);
        }
        drop(magic);
        if file < PREFIX as u64 {
            return Err(short());
        }
        let mut prefix = [0; PREFIX];
        prefix.copy_from_slice(&source.read_at(0, PREFIX)?);
        let length = header::length(&prefix, file)?;
        let sections = header::read(&source.read_at(0, length)?, file)?;
        let label = "section 0 (network)";
        let network = network::decode(&section(&source, &sections, 0, label)?, label, file)?;
        let mut reader = Self {
            source,
            members: vec![Vec::new(); sections.len()],
            shared: sections.iter().map(|_| OnceLock::new()).collect(),
            sections,
            positions: network.weights.iter().enumerate().map(|(i, w)| (w.name.clone(), i)).collect(),
            network,
        };
        reader.assign()?;
        Ok(reader)
    }

    /// Finds the weights of each section, and refuses files in which they do not fit each other.
    fn assign(&mut self) -> Result<(), SlqError> {
        for (i, weight) in self.network.weights.iter().enumerate() {
            let kind = match weight.form {
                Form::Values => Kind::Values,
                Form::Palette { .. } | Form::Dictionary { .. } => Kind::Codes,
            };
            let fits = self.sections.get(weight.section).is_some_and(|s| s.kind == kind);
            let members = self.members.get_mut(weight.section).filter(|_| fits);
            let members = members.filter(|m| kind == Kind::Values || m.is_empty());
            let Some(members) = members else {
                let reason = format!("section {} does not hold such a weight", weight.section);
                let place = Place { section: "section 0 (network)".into(), offset: 0 };
                return Err(SlqError::Malformed {
                    place,
                    fault: Fault::Weight { name: weight.name.clone(), reason },
                });
            };
            members.push(i);
        }
        Ok(())
    }

    /// The network without its weights: nodes, inputs and outputs, metadata.
    pub fn network(&self) -> &Graph {
        &self.network.graph
    }

    /// All weights, in the network's order.
    pub fn weights(&self) -> &[WeightInfo] {
        &self.network.weights
    }

    /// What is known of a weight.
    ///
    /// # Errors
    /// [`SlqError::UnknownWeight`].
    pub fn info(&self, name: &str) -> Result<&WeightInfo, SlqError> {
        let found = self.positions.get(name).map(|&i| &self.network.weights[i]);
        found.ok_or_else(|| SlqError::UnknownWeight { name: name.into() })
    }

    /// Bytes of the section that holds a weight, which may hold others too.
    ///
    /// # Errors
    /// [`SlqError::UnknownWeight`].
    pub fn stored_bytes(&self, name: &str) -> Result<u64, SlqError> {
        Ok(self.sections[self.info(name)?.section].length)
    }

    /// Reads and decodes one weight.
    ///
    /// # Errors
    /// [`SlqError::UnknownWeight`], [`SlqError::Io`], [`SlqError::Checksum`], [`SlqError::Malformed`].
    pub fn weight(&self, name: &str) -> Result<Weight, SlqError> {
        self.decode(self.info(name)?)
    }

    /// Reads the codebooks of one weight and finds its codes.
    ///
    /// # Errors
    /// [`SlqError::NoCodes`] where the weight is stored as values; otherwise as [`Reader::weight`].
    pub fn codes(&self, name: &str) -> Result<PackedCodes<'_>, SlqError> {
        let info = self.info(name)?;
        let (k, groups) = match info.form {
            Form::Palette { k, groups } => (k, groups),
            Form::Dictionary { k } => (k, 1),
            Form::Values => return Err(SlqError::NoCodes { name: name.into() }),
        };
        let label = self.label(info.section);
        let section = section(&self.source, &self.sections, info.section, &label)?;
        PackedCodes::read(section, &label, &info.shape, (k, groups))
    }

    /// Reads and decodes everything.
    ///
    /// # Errors
    /// As [`Reader::weight`].
    pub fn graph(&self) -> Result<Graph, SlqError> {
        let mut graph = self.network.graph.clone();
        for info in &self.network.weights {
            graph.weights.insert(info.name.clone(), self.decode(info)?);
        }
        Ok(graph)
    }

    /// Reads every byte of the file and compares all checksums.
    ///
    /// # Errors
    /// [`SlqError::Checksum`] with the first section that differs, [`SlqError::Io`].
    pub fn verify(&self) -> Result<(), SlqError> {
        for i in 0..self.sections.len() {
            section(&self.source, &self.sections, i, &self.label(i))?;
        }
        Ok(())
    }

    fn decode(&self, info: &WeightInfo) -> Result<Weight, SlqError> {
        let fail = |fault: Fault| {
            let place = Place { section: self.label(info.section), offset: 0 };
            SlqError::Malformed { place, fault }
        };
        let (data, palette) = match info.form {
            Form::Values => (self.values(info)?, None),
            Form::Dictionary { .. } => (TensorData::F32(self.codes(&info.name)?.values()?), None),
            Form::Palette { .. } => {
                let palette = self.codes(&info.name)?.palette()?;
                let data = TensorData::floats(info.dtype, palette.decode());
                let fault =
                    || fail(Fault::Weight { name: info.name.clone(), reason: "it is not of floats".into() });
                (data.ok_or_else(fault)?, Some(palette))
            }
        };
        let tensor = Tensor::new(info.shape.clone(), data).map_err(|e| fail(e.into()))?;
        Ok(Weight { tensor, palette, rates: info.rates })
    }

    fn values(&self, info: &WeightInfo) -> Result<TensorData, SlqError> {
        let members = &self.members[info.section];
        let read = || {
            let label = self.label(info.section);
            let section = section(&self.source, &self.sections, info.section, &label)?;
            let weights: Vec<&WeightInfo> = members.iter().map(|&i| &self.network.weights[i]).collect();
            values::read(&section, &label, &weights)
        };
        if members.len() == 1 {
            return Ok(read()?.swap_remove(0));
        }
        let shared = &self.shared[info.section];
        if shared.get().is_none() {
            // Another thread may be faster: its values are the same.
            let _ = shared.set(read()?);
        }
        let at = members.iter().position(|&i| self.network.weights[i].name == info.name);
        let values = shared.get().zip(at).and_then(|(values, at)| values.get(at));
        values.cloned().ok_or_else(|| SlqError::UnknownWeight { name: info.name.clone() })
    }

    /// The name of a section in errors.
    fn label(&self, index: usize) -> String {
        let members = &self.members[index];
        let first = || &self.network.weights[members[0]].name;
        let of = match (self.sections[index].kind, members.len()) {
            (Kind::Network, _) => "network".into(),
            (Kind::Padding, _) => "padding".into(),
            (Kind::Codes | Kind::Values, 0) => "of no weight".into(),
            (Kind::Codes, _) => format!("codes of `{}`", first()),
            (Kind::Values, 1) => format!("values of `{}`", first()),
            (Kind::Values, n) => format!("values of `{}` and {} more", first(), n - 1),
        };
        format!("section {index} ({of})")
    }
}

/// The bytes of a section, if they have its checksum.
fn section<'a, S: Source>(
    source: &'a S,
    sections: &[Section],
    index: usize,
    label: &str,
) -> Result<Cow<'a, [u8]>, SlqError> {
    let Section { offset, length, checksum, .. } = sections[index];
    let length = usize::try_from(length).map_err(|_| {
        let fault = Fault::Count { what: "bytes of section", count: length, limit: usize::MAX as u64 };
        SlqError::Malformed { place: Place { section: label.into(), offset: 0 }, fault }
    })?;
    let bytes = source.read_at(offset, length)?;
    let found = crc32fast::hash(&bytes);
    if found != checksum {
        return Err(SlqError::Checksum { section: label.into(), stored: checksum, found });
    }
    Ok(bytes)
}
