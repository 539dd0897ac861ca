//! A graph to the bytes of the network section.

use std::collections::HashMap;

use slq_graph::{Attribute, Dim, Graph, Metadata, Node, Tensor, TrainingRates, ValueInfo};

use super::words::KNOWN;
use super::{Form, WeightInfo, deflate, flag};
use crate::bytes::{put_bytes, put_number, put_signed};
use crate::error::SlqError;
use crate::planes::{self, type_number};

/// The section of `graph`, whose weights are `weights`.
pub(crate) fn encode(graph: &Graph, weights: &[WeightInfo]) -> Result<Vec<u8>, SlqError> {
    // Every field by name: one that is added to the graph cannot be forgotten here.
    let Graph { name, inputs, outputs, nodes, weights: _, metadata } = graph;
    let mut out = Encoder::new();
    out.text(name);
    out.metadata(metadata);
    out.values(inputs)?;
    out.values(outputs)?;
    out.weights(weights)?;
    let names = inputs.iter().map(|v| v.name.as_str());
    let mut references = References::new(names, weights.iter().map(|w| w.name.as_str()));
    out.number(nodes.len());
    for node in nodes {
        out.node(node, &mut references)?;
    }
    Ok(deflate::pack(&out.bytes))
}

/// Values that nodes may read, by how far they are from where the next one is expected.
struct References<'a> {
    activations: HashMap<&'a str, usize>,
    weights: HashMap<&'a str, usize>,
    written: usize,
    /// The weight behind the one read last.
    next_weight: usize,
}

impl<'a> References<'a> {
    fn new(inputs: impl Iterator<Item = &'a str>, weights: impl Iterator<Item = &'a str>) -> Self {
        let activations: HashMap<&str, usize> = inputs.enumerate().map(|(i, name)| (name, i)).collect();
        let written = activations.len();
        let weights = weights.enumerate().map(|(i, name)| (name, i)).collect();
        Self { activations, weights, written, next_weight: 0 }
    }
}

struct Encoder<'a> {
    bytes: Vec<u8>,
    texts: HashMap<&'a str, usize>,
}

impl<'a> Encoder<'a> {
    fn new() -> Self {
        let texts = KNOWN.iter().enumerate().map(|(i, &text)| (text, i)).collect();
        Self { bytes: Vec::new(), texts }
    }

    fn number(&mut self, value: usize) {
        put_number(&mut self.bytes, value as u64);
    }

    /// 0 and the text for a new one; 1 .. for a known one; then how long ago it appeared.
    fn text(&mut self, text: &'a str) {
        let count = self.texts.len();
        match self.texts.get(text) {
            Some(&known) if known < KNOWN.len() => self.number(known + 1),
            Some(&known) => self.number(KNOWN.len() + count - known),
            None => {
                self.texts.insert(text, count);
                self.number(0);
                put_bytes(&mut self.bytes, text.as_bytes());
            }
        }
    }

    fn metadata(&mut self, metadata: &'a Metadata) {
        let Metadata { opset, domains, producer, doc, properties } = metadata;
        put_signed(&mut self.bytes, *opset);
        self.number(domains.len());
        for (domain, version) in domains {
            self.text(domain);
            put_signed(&mut self.bytes, *version);
        }
        self.text(producer);
        self.text(doc);
        self.number(properties.len());
        for (key, value) in properties {
            self.text(key);
            self.text(value);
        }
    }

    fn values(&mut self, values: &'a [ValueInfo]) -> Result<(), SlqError> {
        self.number(values.len());
        for ValueInfo { name, dtype, shape } in values {
            self.text(name);
            let number = type_number(*dtype);
            self.bytes.push(number.ok_or_else(|| unsupported("the element type of value", name))?);
            let Some(shape) = shape else {
                self.number(0);
                continue;
            };
            self.number(shape.len() + 1);
            for dim in shape {
                match dim {
                    Dim::Unknown => self.number(0),
                    Dim::Symbol(name) => {
                        self.number(1);
                        self.text(name);
                    }
                    Dim::Known(extent) => {
                        let number = extent.checked_add(2);
                        self.number(number.ok_or_else(|| unsupported("the shape of value", name))?);
                    }
                }
            }
        }
        Ok(())
    }

    fn weights(&mut self, weights: &'a [WeightInfo]) -> Result<(), SlqError> {
        self.number(weights.len());
        let mut section = 0;
        for weight in weights {
            self.text(&weight.name);
            let number = type_number(weight.dtype);
            let number = number.ok_or_else(|| unsupported("the element type of weight", &weight.name))?;
            let plain = weight.rates == TrainingRates::default();
            let form = match weight.form {
                Form::Values => 0,
                Form::Palette { .. } => flag::PALETTE,
                Form::Dictionary { .. } => flag::DICTIONARY,
            };
            self.bytes.push(number | form | if plain { 0 } else { flag::RATES });
            self.shape(&weight.shape);
            if !plain {
                let TrainingRates { lr_mult, decay_mult } = weight.rates;
                self.bytes.extend(lr_mult.to_le_bytes());
                self.bytes.extend(decay_mult.to_le_bytes());
            }
            match weight.form {
                Form::Values => {}
                Form::Palette { k, groups } => {
                    self.number(k);
                    self.number(groups);
                }
                Form::Dictionary { k } => self.number(k),
            }
            put_signed(&mut self.bytes, weight.section as i64 - section);
            section = weight.section as i64;
        }
        Ok(())
    }

    fn shape(&mut self, shape: &[usize]) {
        self.number(shape.len());
        shape.iter().for_each(|&dim| self.number(dim));
    }

    fn node(&mut self, node: &'a Node, references: &mut References<'a>) -> Result<(), SlqError> {
        let Node { name, op, domain, inputs, outputs, attributes } = node;
        self.text(op);
        self.text(domain);
        self.text(name);
        self.number(inputs.len());
        for input in inputs {
            self.input(input, references);
        }
        self.number(outputs.len());
        for output in outputs {
            self.text(output);
            references.activations.insert(output, references.written);
            references.written += 1;
        }
        self.number(attributes.len());
        for (name, attribute) in attributes {
            self.text(name);
            self.attribute(name, attribute)?;
        }
        Ok(())
    }

    /// 0 for an omitted input, 1 and a text for a value that nothing has written, then even numbers for how long ago
    /// an activation was written and odd ones for how far a weight is from the expected one.
    fn input(&mut self, input: &'a str, references: &mut References<'a>) {
        if input.is_empty() {
            self.number(0);
        } else if let Some(&written) = references.activations.get(input) {
            self.number(2 + 2 * (references.written - 1 - written));
        } else if let Some(&weight) = references.weights.get(input) {
            let distance = weight as i64 - references.next_weight as i64;
            self.number(3 + 2 * ((distance << 1) ^ (distance >> 63)) as usize);
            references.next_weight = weight + 1;
        } else {
            self.number(1);
            self.text(input);
        }
    }

    fn attribute(&mut self, name: &str, attribute: &'a Attribute) -> Result<(), SlqError> {
        match attribute {
            Attribute::Int(value) => {
                self.bytes.push(1);
                put_signed(&mut self.bytes, *value);
            }
            Attribute::Float(value) => {
                self.bytes.push(2);
                self.bytes.extend(value.to_le_bytes());
            }
            Attribute::String(text) => {
                self.bytes.push(3);
                self.blob(text);
            }
            Attribute::Ints(values) => {
                self.list(4, values.len());
                values.iter().for_each(|&v| put_signed(&mut self.bytes, v));
            }
            Attribute::Floats(values) => {
                self.list(5, values.len());
                values.iter().for_each(|v| self.bytes.extend(v.to_le_bytes()));
            }
            Attribute::Strings(texts) => {
                self.list(6, texts.len());
                texts.iter().for_each(|text| self.blob(text));
            }
            Attribute::Tensor(tensor) => {
                self.bytes.push(7);
                self.tensor(name, tensor)?;
            }
            Attribute::Opaque(bytes) => {
                self.bytes.push(8);
                self.blob(bytes);
            }
            _ => return Err(unsupported("attribute", name)),
        }
        Ok(())
    }

    fn list(&mut self, kind: u8, count: usize) {
        self.bytes.push(kind);
        self.number(count);
    }

    fn blob(&mut self, bytes: &[u8]) {
        put_bytes(&mut self.bytes, bytes);
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<(), SlqError> {
        let dtype = tensor.dtype();
        let number = type_number(dtype).ok_or_else(|| unsupported("the element type of attribute", name))?;
        self.bytes.push(number);
        self.shape(tensor.shape());
        let mut parts = vec![Vec::new(); dtype.size()];
        planes::split(tensor.data(), &mut parts);
        if !planes::is_whole(tensor.data()) {
            return Err(unsupported("the incomplete last element of attribute", name));
        }
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        Ok(())
    }
}

fn unsupported(what: &str, name: &str) -> SlqError {
    SlqError::Unsupported { what: format!("{what} `{name}`") }
}
