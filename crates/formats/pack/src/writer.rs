//! Writing: every weight to the section it is best stored in, then the header.

use std::collections::{HashMap, HashSet};

use slq_graph::{Graph, Palette, TensorData, Weight};

use crate::MAX_EXPANSION;
use crate::codes::{self, Coded};
use crate::dictionary::Dictionary;
use crate::error::SlqError;
use crate::header::{self, Kind};
use crate::network::{self, Form, WeightInfo};
use crate::piece::{self, Effort, Piece};
use crate::planes;
use crate::report::{Note, Report, SectionReport};
use crate::rounding::{self, FloatStorage, Rounded};
use crate::values::{self, Stored};

/// How a file is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// How much the writer tries, and how slow reading may become.
    pub effort: Effort,
    /// How float parameters without a palette are stored. Constants that are no parameters stay exact.
    pub floats: FloatStorage,
}

/// A file in memory.
#[derive(Debug, Clone)]
pub struct Packed {
    /// The file.
    pub bytes: Vec<u8>,
    /// What takes how many bytes, and what is not stored as it was given.
    pub report: Report,
}

/// Bytes up to which a weight shares its section with others.
const SMALL: usize = 1 << 16;
/// Bytes of values that share a section, at most.
const SHARED: usize = 1 << 18;

/// How one weight is stored.
pub(crate) enum Storage<'a> {
    Palette(&'a Palette),
    Dictionary(Dictionary),
    Exact(&'a TensorData),
    Rounded(Rounded),
}

impl<'a> Storage<'a> {
    /// The storage of a weight; notes tell what gets lost. `parameter` says whether it may be rounded.
    pub fn of(
        name: &str,
        weight: &'a Weight,
        parameter: bool,
        floats: FloatStorage,
        notes: &mut Vec<Note>,
    ) -> Result<Self, SlqError> {
        if let Some(palette) = &weight.palette {
            if !palette.is_fully_fixed() {
                let (fixed, of) = (palette.fixed_count(), palette.codes().len());
                notes.push(Note::PartlyFixed { weight: name.into(), fixed, of });
            } else {
                check(name, weight, palette)?;
                return Ok(Storage::Palette(palette));
            }
        }
        if !planes::is_whole(weight.tensor.data()) {
            return Err(SlqError::Unsupported {
                what: format!("the incomplete last element of weight `{name}`"),
            });
        }
        let Some(values) = weight.tensor.as_f32() else { return Ok(Storage::Exact(weight.tensor.data())) };
        if let Some(dictionary) = Dictionary::of(values) {
            return Ok(Storage::Dictionary(dictionary));
        }
        if parameter && floats != FloatStorage::Exact {
            match rounding::round(values, floats) {
                Some(rounded) => {
                    let error = rounded.error(values);
                    notes.push(Note::Rounded { weight: name.into(), storage: floats, error });
                    return Ok(Storage::Rounded(rounded));
                }
                None => notes.push(Note::KeptExact { weight: name.into(), storage: floats }),
            }
        }
        Ok(Storage::Exact(weight.tensor.data()))
    }
}

/// Refuses a weight that its palette does not give, bit for bit.
fn check(name: &str, weight: &Weight, palette: &Palette) -> Result<(), SlqError> {
    let refuse = |reason: String| Err(SlqError::Palette { weight: name.into(), reason });
    let Some(values) = weight.tensor.to_f32() else {
        return refuse("a palette needs floats".into());
    };
    if palette.codes().len() != values.len() {
        return refuse(format!("{} codes for {} values", palette.codes().len(), values.len()));
    }
    let (k, run) = (palette.codebook_size(), (values.len() / palette.groups()).max(1));
    let centroid = |i: usize| palette.codebook()[i / run * k + usize::from(palette.codes()[i])];
    match (0..values.len()).find(|&i| centroid(i).to_bits() != values[i].to_bits()) {
        Some(i) => {
            refuse(format!("the value at position {i} is {}, its centroid {}", values[i], centroid(i)))
        }
        None => Ok(()),
    }
}

/// The file of `graph`, in memory.
///
/// A weight whose palette is fully fixed is stored as codes. Any other weight is stored as values, without a palette
/// that it may have: a `.slq` file keeps no state of training. The report says so.
///
/// # Errors
/// [`SlqError::Palette`] for a weight whose fixed values are not those of its palette; [`SlqError::Unsupported`] for
/// element types that the format has no number for.
pub fn write_bytes(graph: &Graph, options: &WriteOptions) -> Result<Packed, SlqError> {
    let plan = Plan::of(graph, options)?;
    let limit = options.effort.decisions();
    let drafts = plan.sections.iter().map(|section| section.draft(&plan.weights, limit)).collect();
    let (mut contents, decisions) = piece::choose(drafts, options.effort);
    let network = network::encode(graph, &plan.infos)?;
    // What the content takes in memory, counted by the reader's rule.
    let memory = network::decode(&network, "network", u64::MAX)?.memory;
    let kinds = plan.sections.iter().map(|s| if s.coded { Kind::Codes } else { Kind::Values });
    let mut kinds: Vec<Kind> = std::iter::once(Kind::Network).chain(kinds).collect();
    contents.insert(0, network);
    let size = contents.iter().map(|c| c.len() as u64).sum::<u64>();
    let mut notes = plan.notes;
    let needed = memory.div_ceil(MAX_EXPANSION);
    if needed > size {
        let padding = (needed - size) as usize;
        notes.push(Note::Padded { bytes: padding as u64 });
        kinds.push(Kind::Padding);
        contents.push(vec![0; padding]);
    }
    let sections: Vec<(Kind, &[u8])> =
        kinds.iter().copied().zip(contents.iter().map(Vec::as_slice)).collect();
    let mut bytes = header::write(&sections);
    let mut reports = vec![SectionReport::new("header", bytes.len())];
    contents.iter().for_each(|content| bytes.extend_from_slice(content));
    reports.extend(sections.iter().enumerate().map(|(i, (kind, content))| {
        let members = plan.sections.get(i.wrapping_sub(1)).filter(|_| *kind != Kind::Padding);
        let mut report = SectionReport::new(kind.name(), content.len());
        for &member in members.iter().flat_map(|s| &s.members) {
            report.weights.push(plan.infos[member].name.clone());
            report.values += plan.infos[member].count() as u64;
            report.order0_bytes += plan.weights[member].order0_bytes();
        }
        report
    }));
    let report = Report { bytes: bytes.len() as u64, sections: reports, decisions, notes };
    Ok(Packed { bytes, report })
}

/// Where everything goes.
struct Plan<'a> {
    weights: Vec<Storage<'a>>,
    infos: Vec<WeightInfo>,
    sections: Vec<Planned>,
    notes: Vec<Note>,
}

/// A section to be written.
struct Planned {
    coded: bool,
    members: Vec<usize>,
    shapes: Vec<Vec<usize>>,
    bytes: usize,
}

impl<'a> Plan<'a> {
    fn of(graph: &'a Graph, options: &WriteOptions) -> Result<Self, SlqError> {
        let parameters: HashSet<&str> = graph.parameters().into_iter().collect();
        let roles = roles(graph);
        let mut plan =
            Plan { weights: Vec::new(), infos: Vec::new(), sections: Vec::new(), notes: Vec::new() };
        // The section that small weights of one kind go to next.
        let mut open: HashMap<(u8, slq_graph::DType, &str), usize> = HashMap::new();
        for (name, weight) in &graph.weights {
            let parameter = parameters.contains(name.as_str());
            let storage = Storage::of(name, weight, parameter, options.floats, &mut plan.notes)?;
            let dtype = weight.tensor.dtype();
            let bytes = weight.tensor.len() * dtype.size();
            let (form, tag) = match &storage {
                Storage::Palette(p) => (Form::Palette { k: p.codebook_size(), groups: p.groups() }, None),
                Storage::Dictionary(d) => (Form::Dictionary { k: d.values.len() }, None),
                Storage::Exact(_) => (Form::Values, Some(0)),
                Storage::Rounded(Rounded::Half(_)) => (Form::Values, Some(1)),
                Storage::Rounded(Rounded::Steps { .. }) => (Form::Values, Some(2)),
            };
            let key = tag.filter(|_| bytes <= SMALL);
            let key = key.map(|tag| (tag, dtype, roles.get(name.as_str()).copied().unwrap_or_default()));
            let room = |index: &&usize| plan.sections[**index].bytes + bytes <= SHARED;
            let index = key.and_then(|key| open.get(&key).filter(room).copied());
            let index = index.unwrap_or_else(|| {
                let coded = form != Form::Values;
                plan.sections.push(Planned { coded, members: Vec::new(), shapes: Vec::new(), bytes: 0 });
                plan.sections.len() - 1
            });
            if let Some(key) = key {
                open.insert(key, index);
            }
            let section = &mut plan.sections[index];
            section.members.push(plan.weights.len());
            section.shapes.push(weight.tensor.shape().to_vec());
            section.bytes += bytes;
            plan.weights.push(storage);
            plan.infos.push(WeightInfo {
                name: name.clone(),
                dtype,
                shape: weight.tensor.shape().to_vec(),
                rates: weight.rates,
                form,
                // Behind the network.
                section: index + 1,
            });
        }
        Ok(plan)
    }
}

/// What each weight is to the first node that reads it: weights of one role resemble each other.
fn roles(graph: &Graph) -> HashMap<&str, &'static str> {
    const NORM: [&str; 5] = ["", "scale", "bias", "mean", "variance"];
    let mut roles = HashMap::new();
    for node in &graph.nodes {
        for (i, input) in node.inputs.iter().enumerate() {
            let role = match node.op.as_str() {
                "BatchNormalization" => NORM.get(i).copied().unwrap_or_default(),
                _ => "",
            };
            roles.entry(input.as_str()).or_insert(role);
        }
    }
    roles
}

impl Planned {
    fn draft(&self, weights: &[Storage<'_>], limit: u64) -> Vec<Piece> {
        let stored = |&member: &usize| match &weights[member] {
            Storage::Exact(data) => Some(Stored::Exact(data)),
            Storage::Rounded(rounded) => Some(Stored::Rounded(rounded)),
            Storage::Palette(_) | Storage::Dictionary(_) => None,
        };
        let coded = self.members.first().and_then(|&member| {
            let shape = self.shapes[0].as_slice();
            match &weights[member] {
                Storage::Palette(p) => {
                    Some(Coded { codebook: p.codebook(), k: p.codebook_size(), codes: p.codes(), shape })
                }
                Storage::Dictionary(d) => {
                    Some(Coded { codebook: &d.values, k: d.values.len(), codes: &d.codes, shape })
                }
                _ => None,
            }
        });
        match coded {
            Some(coded) => codes::draft(&coded, limit),
            None => values::draft(&self.members.iter().filter_map(stored).collect::<Vec<_>>(), limit),
        }
    }
}

impl Storage<'_> {
    /// Codes at their entropy and codebooks, or values as they are.
    fn order0_bytes(&self) -> f64 {
        let coded = |codes: &[u8], k: usize, books: usize| {
            let counts = slq_codebook::histogram(codes, k);
            slq_codebook::entropy_bits(&counts) * codes.len() as f64 / 8.0 + 4.0 * books as f64
        };
        match self {
            Storage::Palette(p) => coded(p.codes(), p.codebook_size(), p.codebook().len()),
            Storage::Dictionary(d) => coded(&d.codes, d.values.len(), d.values.len()),
            Storage::Rounded(Rounded::Half(values)) => 2.0 * values.len() as f64,
            Storage::Rounded(Rounded::Steps { codes, .. }) => codes.len() as f64,
            Storage::Exact(data) => values::bytes(data) as f64,
        }
    }
}
