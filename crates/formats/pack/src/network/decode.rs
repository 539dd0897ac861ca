//! The bytes of the network section to a graph without weights.

use std::collections::{BTreeMap, HashSet};

use slq_graph::{Attribute, Dim, Graph, Metadata, Node, Tensor, TrainingRates, ValueInfo, element_count};

use super::words::KNOWN;
use super::{Form, Network, WeightInfo, cost, deflate, flag};
use crate::MAX_EXPANSION;
use crate::bytes::Input;
use crate::error::{Fault, SlqError};
use crate::planes;

/// Decodes a section of a file of `file` bytes; `name` stands for the section in errors.
pub(crate) fn decode(section: &[u8], name: &str, file: u64) -> Result<Network, SlqError> {
    let limit = file.saturating_mul(MAX_EXPANSION);
    let bytes = deflate::unpack(section, name, limit)?;
    let mut reader =
        Decoder { input: Input::new(&bytes, name), texts: Vec::new(), memory: 2 * bytes.len() as u64, file };
    let network = reader.network()?;
    reader.input.finish()?;
    Ok(Network { memory: reader.memory, ..network })
}

struct Decoder<'a> {
    input: Input<'a>,
    /// Texts that have appeared, beside the known ones.
    texts: Vec<&'a str>,
    /// Bytes of memory that the content takes so far, counted before they are taken.
    memory: u64,
    file: u64,
}

/// Names of the values that nodes may read.
struct Names {
    activations: Vec<String>,
    weights: Vec<String>,
    next_weight: usize,
}

impl Decoder<'_> {
    fn network(&mut self) -> Result<Network, SlqError> {
        let name = self.text()?;
        let metadata = self.metadata()?;
        let inputs = self.values("inputs")?;
        let outputs = self.values("outputs")?;
        let weights = self.weights()?;
        let mut names = Names {
            activations: inputs.iter().map(|v| v.name.clone()).collect(),
            weights: weights.iter().map(|w| w.name.clone()).collect(),
            next_weight: 0,
        };
        let nodes = self.list("nodes", 6, |this| this.node(&mut names))?;
        let graph = Graph { name, inputs, outputs, nodes, metadata, ..Graph::default() };
        Ok(Network { graph, weights, memory: 0 })
    }

    fn charge(&mut self, bytes: u64) -> Result<(), SlqError> {
        self.memory = self.memory.saturating_add(bytes);
        if self.memory > self.file.saturating_mul(MAX_EXPANSION) {
            let (file, declared) = (self.file, self.memory);
            return Err(SlqError::Expansion { file, declared, limit: MAX_EXPANSION });
        }
        Ok(())
    }

    /// A count of items of at least `least` bytes, and the items.
    fn list<T>(
        &mut self,
        what: &'static str,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, SlqError>,
    ) -> Result<Vec<T>, SlqError> {
        let count = self.input.count(what, least)?;
        (0..count).map(|_| item(self)).collect()
    }

    fn text(&mut self) -> Result<String, SlqError> {
        let at = self.input.position();
        let index = self.input.size()?;
        let text = match index.checked_sub(KNOWN.len() + 1) {
            None if index == 0 => {
                let bytes = self.input.counted()?;
                let text = std::str::from_utf8(bytes).map_err(|_| self.input.fail_at(at, Fault::Text))?;
                self.texts.push(text);
                text
            }
            None => KNOWN[index - 1],
            Some(ago) => {
                let count = self.texts.len();
                let found = count.checked_sub(ago + 1).map(|i| self.texts[i]);
                let fault = Fault::Reference { what: "text", index: ago as u64, count: count as u64 };
                found.ok_or_else(|| self.input.fail_at(at, fault))?
            }
        };
        self.charge(cost::ITEM + text.len() as u64)?;
        Ok(text.into())
    }

    fn metadata(&mut self) -> Result<Metadata, SlqError> {
        let opset = self.input.signed()?;
        let domains = self.list("operator domains", 2, |this| {
            this.charge(cost::ENTRY)?;
            Ok((this.text()?, this.input.signed()?))
        })?;
        let (producer, doc) = (self.text()?, self.text()?);
        let at = self.input.position();
        let pairs = self.list("properties", 2, |this| {
            this.charge(cost::ENTRY)?;
            Ok((this.text()?, this.text()?))
        })?;
        let mut properties = indexmap::IndexMap::new();
        for (key, value) in pairs {
            if let Some(name) = properties.insert(key.clone(), value).and(Some(key)) {
                return Err(self.input.fail_at(at, Fault::Duplicate { what: "property", name }));
            }
        }
        Ok(Metadata { opset, domains, producer, doc, properties })
    }

    fn values(&mut self, what: &'static str) -> Result<Vec<ValueInfo>, SlqError> {
        self.list(what, 3, |this| {
            this.charge(cost::ENTRY)?;
            let name = this.text()?;
            let dtype = this.dtype()?;
            let shape = match this.input.size()?.checked_sub(1) {
                None => None,
                Some(rank) => {
                    this.dimensions(rank)?;
                    Some((0..rank).map(|_| this.dim()).collect::<Result<_, _>>()?)
                }
            };
            Ok(ValueInfo { name, dtype, shape })
        })
    }

    /// Room for `rank` dimensions, each of at least one byte.
    fn dimensions(&mut self, rank: usize) -> Result<(), SlqError> {
        let left = self.input.left();
        if rank > left {
            let fault = Fault::Count { what: "dimensions", count: rank as u64, limit: left as u64 };
            return Err(self.input.fail(fault));
        }
        self.charge(cost::ITEM * rank as u64)
    }

    fn dim(&mut self) -> Result<Dim, SlqError> {
        Ok(match self.input.size()? {
            0 => Dim::Unknown,
            1 => Dim::Symbol(self.text()?),
            extent => Dim::Known(extent - 2),
        })
    }

    fn dtype(&mut self) -> Result<slq_graph::DType, SlqError> {
        let at = self.input.position();
        let byte = self.input.byte()?;
        let fault = Fault::Tag { what: "element type", value: byte.into() };
        planes::type_of(byte).ok_or_else(|| self.input.fail_at(at, fault))
    }

    fn shape(&mut self) -> Result<Vec<usize>, SlqError> {
        let rank = self.input.size()?;
        self.dimensions(rank)?;
        (0..rank).map(|_| self.input.size()).collect()
    }

    fn weights(&mut self) -> Result<Vec<WeightInfo>, SlqError> {
        let mut section = 0i64;
        let mut names = HashSet::new();
        self.list("weights", 4, |this| {
            this.charge(cost::ENTRY)?;
            let start = this.input.clone();
            let weight = this.weight(&mut section)?;
            if !names.insert(weight.name.clone()) {
                return Err(start.fail(Fault::Duplicate { what: "weight", name: weight.name }));
            }
            Ok(weight)
        })
    }

    fn weight(&mut self, section: &mut i64) -> Result<WeightInfo, SlqError> {
        let start = self.input.clone();
        let name = self.text()?;
        let at = self.input.position();
        let flags = self.input.byte()?;
        let tag = |what| Fault::Tag { what, value: flags.into() };
        let dtype = planes::type_of(flags & flag::DTYPE);
        let dtype = dtype.ok_or_else(|| self.input.fail_at(at, tag("element type")))?;
        let shape = self.shape()?;
        let mut rates = TrainingRates::default();
        if flags & flag::RATES != 0 {
            rates = TrainingRates { lr_mult: self.input.f32()?, decay_mult: self.input.f32()? };
        }
        let form = match flags & !(flag::DTYPE | flag::RATES) {
            0 => Form::Values,
            flag::PALETTE => Form::Palette { k: self.input.size()?, groups: self.input.size()? },
            flag::DICTIONARY => Form::Dictionary { k: self.input.size()? },
            _ => return Err(self.input.fail_at(at, tag("form of weight"))),
        };
        *section = section.saturating_add(self.input.signed()?);
        let bad = |reason: &str| start.fail(Fault::Weight { name: name.clone(), reason: reason.into() });
        let count = element_count(&shape).ok_or_else(|| bad("its shape overflows"))?;
        let (k, groups) = match form {
            Form::Values => (1, 1),
            Form::Palette { k, groups } => (k, groups),
            Form::Dictionary { k } => (k, 1),
        };
        let typed = match form {
            // Centroids are 32-bit floats that the weight's own type can hold.
            Form::Palette { .. } => dtype.is_float(),
            _ => dtype == slq_graph::DType::F32,
        };
        let possible = (1..=256).contains(&k) && groups > 0 && count.is_multiple_of(groups);
        if form != Form::Values && !(possible && typed) {
            return Err(bad("its codebooks do not fit its shape or type"));
        }
        // Values, codes, which of them are fixed, codebooks; planes while they are joined.
        let bytes = (count as u64).saturating_mul(2 * dtype.size().max(4) as u64 + 2);
        let books = (groups as u64).saturating_mul(k as u64).saturating_mul(8);
        self.charge(bytes.saturating_add(books))?;
        let section = usize::try_from(*section).map_err(|_| bad("its section does not exist"))?;
        Ok(WeightInfo { name, dtype, shape, rates, form, section })
    }

    fn node(&mut self, names: &mut Names) -> Result<Node, SlqError> {
        self.charge(cost::NODE)?;
        let (op, domain, name) = (self.text()?, self.text()?, self.text()?);
        let inputs = self.list("inputs", 1, |this| this.input_name(names))?;
        let outputs = self.list("outputs", 1, Self::text)?;
        names.activations.extend(outputs.iter().cloned());
        let at = self.input.position();
        let pairs = self.list("attributes", 2, |this| {
            this.charge(cost::ATTRIBUTE)?;
            Ok((this.text()?, this.attribute()?))
        })?;
        let mut attributes = BTreeMap::new();
        for (key, value) in pairs {
            if let Some(name) = attributes.insert(key.clone(), value).and(Some(key)) {
                return Err(self.input.fail_at(at, Fault::Duplicate { what: "attribute", name }));
            }
        }
        Ok(Node { name, op, domain, inputs, outputs, attributes })
    }

    fn input_name(&mut self, names: &mut Names) -> Result<String, SlqError> {
        let start = self.input.clone();
        let number = self.input.size()?;
        let (what, index, list) = match number {
            0 => {
                self.charge(cost::ITEM)?;
                return Ok(String::new());
            }
            1 => return self.text(),
            n if n % 2 == 0 => {
                let index = names.activations.len().checked_sub(n / 2);
                ("activation", index, &names.activations)
            }
            n => {
                let distance = ((n - 3) / 2) as u64;
                let distance = (distance >> 1) as i64 ^ -((distance & 1) as i64);
                let index = (names.next_weight as i64).checked_add(distance);
                let index = index.and_then(|i| usize::try_from(i).ok());
                names.next_weight = index.unwrap_or_default().saturating_add(1);
                ("weight", index, &names.weights)
            }
        };
        let fault = Fault::Reference { what, index: number as u64, count: list.len() as u64 };
        let name = index.and_then(|i| list.get(i)).cloned().ok_or_else(|| start.fail(fault))?;
        self.charge(cost::ITEM + name.len() as u64)?;
        Ok(name)
    }

    fn attribute(&mut self) -> Result<Attribute, SlqError> {
        let at = self.input.position();
        Ok(match self.input.byte()? {
            1 => Attribute::Int(self.input.signed()?),
            2 => Attribute::Float(self.input.f32()?),
            3 => Attribute::String(self.blob()?),
            4 => Attribute::Ints(self.list("integers", 1, |this| {
                this.charge(cost::ITEM)?;
                this.input.signed()
            })?),
            5 => Attribute::Floats(self.list("floats", 4, |this| {
                this.charge(cost::ITEM)?;
                this.input.f32()
            })?),
            6 => Attribute::Strings(self.list("texts", 1, |this| {
                this.charge(cost::ITEM)?;
                this.blob()
            })?),
            7 => Attribute::Tensor(self.tensor()?),
            8 => Attribute::Opaque(self.blob()?),
            kind => {
                let fault = Fault::Tag { what: "kind of attribute", value: kind.into() };
                return Err(self.input.fail_at(at, fault));
            }
        })
    }

    fn blob(&mut self) -> Result<Vec<u8>, SlqError> {
        let bytes = self.input.counted()?;
        self.charge(bytes.len() as u64)?;
        Ok(bytes.to_vec())
    }

    fn tensor(&mut self) -> Result<Tensor, SlqError> {
        let start = self.input.clone();
        let dtype = self.dtype()?;
        let shape = self.shape()?;
        let bytes = element_count(&shape).and_then(|n| n.checked_mul(dtype.size()));
        let bytes = bytes.ok_or_else(|| start.fail(Fault::Number))?;
        let content = self.input.take(bytes)?;
        self.charge((bytes as u64).saturating_mul(3))?;
        let count = bytes / dtype.size();
        let planes: Vec<Vec<u8>> = match count {
            0 => vec![Vec::new(); dtype.size()],
            _ => content.chunks_exact(count).map(<[u8]>::to_vec).collect(),
        };
        let tag = Fault::Tag { what: "Boolean", value: 2 };
        let data = planes::join(dtype, &planes, 0..count).ok_or_else(|| start.fail(tag))?;
        Tensor::new(shape, data).map_err(|e| start.fail(e.into()))
    }
}
