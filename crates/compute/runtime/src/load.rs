//! From codes to packed matrices.

use std::sync::Arc;

use slq_engine::{PackedWeight, packed_form};
use slq_graph::{Graph, Palette, Tensor, Weight};
use slq_kernels::packed::{Order, PackError, PackedBuilder, PackedMatrix};
use slq_pack::{Form, Reader, Source, WeightInfo};

use crate::error::RuntimeError;
use crate::expand::Expand;
use crate::report::{Expanded, Reason, Report};

/// A palettized weight, before its codes are read.
struct Candidate {
    name: String,
    shape: Vec<usize>,
    count: usize,
    codebooks: usize,
    form: Result<([usize; 2], Order), Reason>,
}

impl Candidate {
    fn new(graph: &Graph, name: &str, shape: &[usize], codebooks: usize) -> Self {
        let form = packed_form(graph, name, shape).map_err(Reason::Graph).and_then(|(size, order)| {
            let [rows, _] = size;
            if !rows.is_multiple_of(codebooks.max(1)) || (order == Order::Columns && codebooks > 1) {
                return Err(Reason::Codebooks(PackError::Groups { groups: codebooks, rows }));
            }
            Ok((size, order))
        });
        let count = shape.iter().product();
        Self { name: name.into(), shape: shape.to_vec(), count, codebooks, form }
    }

    fn expanded(&self, reason: Reason) -> Expanded {
        Expanded { name: self.name.clone(), bytes: 4 * self.count, reason }
    }
}

/// What a network is made of.
#[derive(Default)]
pub(crate) struct Parts {
    pub graph: Graph,
    pub packed: Vec<PackedWeight>,
    pub report: Report,
}

impl Parts {
    fn float(&mut self, name: &str, weight: Weight) {
        self.graph.weights.insert(name.into(), Weight { palette: None, ..weight });
    }

    fn pack(&mut self, candidate: &Candidate, matrix: PackedMatrix) {
        self.report.packed.push((candidate.name.clone(), matrix.bytes()));
        let (name, shape) = (candidate.name.clone(), candidate.shape.clone());
        self.packed.push(PackedWeight { name, shape, matrix: Arc::new(matrix) });
    }
}

/// Whether each candidate is expanded, and why.
fn reasons(candidates: &[Candidate], expand: Expand) -> Vec<Option<Reason>> {
    let able: Vec<usize> = (0..candidates.len()).filter(|&i| candidates[i].form.is_ok()).collect();
    let counts: Vec<usize> = able.iter().map(|&i| candidates[i].count).collect();
    let mut reasons: Vec<Option<Reason>> =
        candidates.iter().map(|c| c.form.as_ref().err().cloned()).collect();
    for (&i, chosen) in able.iter().zip(expand.choose(&counts)) {
        reasons[i] = chosen.then_some(Reason::Chosen);
    }
    reasons
}

/// Reads a container; the codes of one weight are in memory at a time, beside what is packed already.
pub(crate) fn slq<S: Source>(reader: &Reader<S>, expand: Expand) -> Result<Parts, RuntimeError> {
    let mut parts = Parts { graph: reader.network().clone(), ..Parts::default() };
    let mut candidates = Vec::new();
    for info in reader.weights() {
        let groups = match info.form {
            Form::Palette { groups, .. } => groups,
            Form::Dictionary { .. } => 1,
            _ => continue,
        };
        let candidate = Candidate::new(&parts.graph, &info.name, &info.shape, groups);
        // A dictionary is how a weight is stored, not a palette: where floats are needed, they are what it is.
        if candidate.form.is_ok() || matches!(info.form, Form::Palette { .. }) {
            candidates.push(candidate);
        }
    }
    let reasons = reasons(&candidates, expand);
    // The largest first: what is read takes most memory while little is packed.
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(candidates[i].count), i));
    for i in order {
        let candidate = &candidates[i];
        match (&reasons[i], &candidate.form) {
            (None, Ok((size, order))) => {
                let matrix = matrix(reader, candidate, *size, *order)?;
                parts.pack(candidate, matrix);
            }
            (reason, _) => {
                let reason = reason.clone().unwrap_or(Reason::Chosen);
                parts.report.expanded.push(candidate.expanded(reason));
            }
        }
    }
    let palettized: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
    let packed: Vec<&str> = parts.report.packed.iter().map(|(name, _)| name.as_str()).collect();
    let floats: Vec<&WeightInfo> =
        reader.weights().iter().filter(|w| !packed.contains(&w.name.as_str())).collect();
    for info in floats {
        let weight = reader.weight(&info.name)?;
        if !palettized.contains(&info.name.as_str()) {
            parts.report.float_bytes += bytes(&weight.tensor);
        }
        parts.float(&info.name, weight);
    }
    Ok(parts)
}

/// Packs the codes of one weight, block by block.
fn matrix<S: Source>(
    reader: &Reader<S>,
    candidate: &Candidate,
    size: [usize; 2],
    order: Order,
) -> Result<PackedMatrix, RuntimeError> {
    let fail = |source| RuntimeError::Codes { name: candidate.name.clone(), source };
    let codes = reader.codes(&candidate.name)?;
    let mut builder = PackedBuilder::new(size, order, codes.codebook(), candidate.codebooks).map_err(fail)?;
    let mut block = Vec::new();
    for b in 0..codes.blocks() {
        block.resize(codes.range(b).len(), 0);
        codes.decode_block(b, &mut block)?;
        builder.push(&block).map_err(fail)?;
    }
    builder.finish().map_err(fail)
}

/// Takes a graph apart whose fixed palettes become packed weights.
pub(crate) fn graph(mut graph: Graph, expand: Expand) -> Result<Parts, RuntimeError> {
    let weights = std::mem::take(&mut graph.weights);
    let fixed = |w: &Weight| w.palette.as_ref().is_some_and(Palette::is_fully_fixed);
    let candidates: Vec<Candidate> = weights
        .iter()
        .filter(|(_, w)| fixed(w))
        .map(|(name, w)| {
            let groups = w.palette.as_ref().map_or(1, Palette::groups);
            let mut candidate = Candidate::new(&graph, name, w.tensor.shape(), groups);
            if w.tensor.as_f32().is_none() {
                candidate.form = Err(Reason::Type);
            }
            candidate
        })
        .collect();
    let mut parts = Parts { graph, ..Parts::default() };
    let mut chosen = candidates.iter().zip(reasons(&candidates, expand));
    for (name, weight) in weights {
        if !fixed(&weight) {
            parts.report.float_bytes += bytes(&weight.tensor);
            parts.float(&name, weight);
            continue;
        }
        let Some((candidate, reason)) = chosen.next() else { continue };
        match (reason, &candidate.form, &weight.palette) {
            (None, Ok((size, order)), Some(palette)) => {
                let (book, groups) = (palette.codebook(), palette.groups());
                let matrix = PackedMatrix::new(*size, *order, book, groups, palette.codes())
                    .map_err(|source| RuntimeError::Codes { name, source })?;
                parts.pack(candidate, matrix);
            }
            (reason, ..) => {
                parts.report.expanded.push(candidate.expanded(reason.unwrap_or(Reason::Chosen)));
                parts.float(&name, weight);
            }
        }
    }
    Ok(parts)
}

/// Refuses weights that are not finite, as opening a model does.
pub(crate) fn check(parts: &Parts) -> Result<(), RuntimeError> {
    Ok(slq_graph::validate::non_finite_weights(&parts.graph)?)
}

/// Bytes of a tensor.
fn bytes(tensor: &Tensor) -> usize {
    tensor.len() * tensor.dtype().size()
}
