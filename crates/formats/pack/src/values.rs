//! A section of values: one large weight or several small ones of one element type, as byte planes.

use slq_graph::{DType, TensorData};

use crate::bytes::Input;
use crate::entropy::draft::Draft;
use crate::entropy::stream::{Source, Stream};
use crate::error::{Fault, SlqError};
use crate::network::WeightInfo;
use crate::piece::Piece;
use crate::planes;
use crate::rounding::{Rounded, step_value};

const EXACT: u8 = 0;
const HALF: u8 = 1;
const STEPS: u8 = 2;

/// The values of one weight as they are stored.
pub(crate) enum Stored<'a> {
    Exact(&'a TensorData),
    Rounded(&'a Rounded),
}

/// Element type of data.
fn dtype(data: &TensorData) -> DType {
    match data {
        TensorData::I64(_) => DType::I64,
        TensorData::I32(_) => DType::I32,
        TensorData::U8(_) => DType::U8,
        TensorData::Bool(_) => DType::Bool,
        TensorData::Raw(dtype, _) => *dtype,
        _ => DType::F32,
    }
}

/// Bytes of data as they are.
pub(crate) fn bytes(data: &TensorData) -> usize {
    let count = match data {
        TensorData::F32(v) => v.len(),
        TensorData::I64(v) => v.len(),
        TensorData::I32(v) => v.len(),
        TensorData::U8(v) => v.len(),
        TensorData::Bool(v) => v.len(),
        TensorData::Raw(_, v) => return v.len(),
        _ => 0,
    };
    count * dtype(data).size()
}

/// The pieces of a section of these weights, which are all stored in one way and of one element type.
pub(crate) fn draft(weights: &[Stored<'_>], limit: u64) -> Vec<Piece> {
    let (tag, dtype) = match weights.first() {
        None => return Vec::new(),
        Some(Stored::Exact(data)) => (EXACT, dtype(data)),
        Some(Stored::Rounded(Rounded::Half(_))) => (HALF, DType::F16),
        Some(Stored::Rounded(Rounded::Steps { .. })) => (STEPS, DType::U8),
    };
    let mut head = vec![tag];
    let mut all = vec![Vec::new(); dtype.size()];
    let mut ends = Vec::new();
    for weight in weights {
        match weight {
            Stored::Exact(data) => planes::split(data, &mut all),
            Stored::Rounded(rounded) => {
                if let Rounded::Steps { first, step, .. } = rounded {
                    head.extend(first.to_le_bytes());
                    head.extend(step.to_le_bytes());
                }
                planes::split(&rounded.data(), &mut all);
            }
        }
        ends.push(all[0].len());
    }
    let mut pieces = vec![Piece::Bytes(head)];
    for (j, plane) in all.iter().enumerate() {
        let source = Source::Plane { ends: &ends, higher: &all[..j] };
        pieces.push(Piece::Stream(Draft::new(plane, 256, source, limit)));
    }
    pieces
}

/// The values of the weights of a section.
pub(crate) fn read(section: &[u8], name: &str, weights: &[&WeightInfo]) -> Result<Vec<TensorData>, SlqError> {
    let mut input = Input::new(section, name);
    let tag = input.byte()?;
    let declared = weights.first().map_or(DType::F32, |w| w.dtype);
    if weights.iter().any(|w| w.dtype != declared) {
        return Err(input.fail_at(0, Fault::Layout("weights of one section must have one element type")));
    }
    let stored = match tag {
        EXACT => declared,
        HALF if declared == DType::F32 => DType::F16,
        STEPS if declared == DType::F32 => DType::U8,
        tag => return Err(input.fail_at(0, Fault::Tag { what: "form of values", value: tag.into() })),
    };
    let steps: Vec<(f32, f32)> = match tag {
        STEPS => weights.iter().map(|_| Ok((input.f32()?, input.f32()?))).collect::<Result<_, SlqError>>()?,
        _ => Vec::new(),
    };
    let mut total = 0usize;
    let ends: Vec<usize> = weights
        .iter()
        .map(|w| {
            total = total.saturating_add(w.count());
            total
        })
        .collect();
    let mut all: Vec<Vec<u8>> = Vec::with_capacity(stored.size());
    for _ in 0..stored.size() {
        let stream = Stream::read(&mut input, total, 256)?;
        let plane = stream.decode_all(section, Source::Plane { ends: &ends, higher: &all })?;
        all.push(plane);
    }
    input.finish()?;
    let mut start = 0;
    let mut values = Vec::with_capacity(weights.len());
    for (i, &end) in ends.iter().enumerate() {
        let data = planes::join(stored, &all, start..end);
        let data = data.ok_or_else(|| input.fail(Fault::Tag { what: "Boolean", value: 2 }))?;
        values.push(match (tag, data) {
            (HALF, TensorData::Raw(_, bytes)) => TensorData::F32(
                bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            ),
            (STEPS, TensorData::U8(codes)) => {
                let (first, step) = steps[i];
                TensorData::F32(codes.iter().map(|&code| step_value(first, step, code)).collect())
            }
            (_, data) => data,
        });
        start = end;
    }
    Ok(values)
}
