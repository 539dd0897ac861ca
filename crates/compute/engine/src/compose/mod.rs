//! Operators that are made of others: each becomes several steps, so that one backward pass serves them all.

mod attention;
mod einsum;
mod recurrent;
mod resample;
mod windows;

use slq_graph::op::{BinaryOp, Op, UnaryOp};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

/// The steps of `op`; its outputs, of the given shapes.
pub(crate) fn compose(
    emit: &mut Emit,
    op: &Op,
    inputs: &[Option<Operand>],
    shapes: &[Vec<usize>],
) -> Result<Vec<Operand>, EngineError> {
    let shape = shapes.first().cloned().unwrap_or_default();
    let missing = emit.unsupported("input 0 is missing");
    let first = || inputs.first().cloned().flatten().ok_or_else(|| missing.clone());
    Ok(vec![match op {
        Op::Split { axis, sizes } => return Ok(split(emit, &first()?, *axis, sizes)),
        Op::Chain(binary) => chain(emit, *binary, inputs)?,
        Op::Mean => {
            let sum = chain(emit, BinaryOp::Add, inputs)?;
            emit.scaled(&sum, 1.0 / inputs.len().max(1) as f32)?
        }
        Op::Line(op) => windows::line(emit, op, inputs, &shape)?,
        Op::Volume { depth, plane, .. } => windows::volume(emit, depth, plane, inputs, &shape)?,
        Op::Resize(resize) => resample::resize(emit, resize, &first()?)?,
        Op::Rearrange { split, perm, shape } => {
            let split = first()?.seen_as(split);
            emit.transpose(&split, perm).seen_as(shape)
        }
        Op::Tile { repeats } => tile(emit, &first()?, repeats, &shape),
        Op::Trilu { upper, diagonal } => trilu(emit, &first()?, *upper, *diagonal)?,
        Op::TopK { axis, count, largest, .. } => {
            let x = first()?;
            let part = |positions| Op::TopK { axis: *axis, count: *count, largest: *largest, positions };
            return Ok(vec![emit.one(part(false), &x, &shape), emit.one(part(true), &x, &shape)]);
        }
        Op::Recurrent(recurrent) => return recurrent::recurrent(emit, recurrent, inputs, shapes),
        Op::Attention(attention) => return attention::attention(emit, attention, inputs),
        Op::Rotary(rotary) => attention::rotary(emit, *rotary, inputs)?,
        Op::Einsum { operands, result } => einsum::einsum(emit, operands, result, inputs)?,
        // Integers are divided towards zero.
        Op::Binary(BinaryOp::Div) if emit.dtype(0).is_some_and(|t| !t.is_float()) => {
            let quotient = emit.step(op.clone(), inputs.to_vec(), &shape);
            emit.unary(UnaryOp::Truncate, &quotient)
        }
        other => emit.step(other.clone(), inputs.to_vec(), &shape),
    }])
}

fn split(emit: &mut Emit, x: &Operand, axis: usize, sizes: &[usize]) -> Vec<Operand> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(sizes.len());
    for &size in sizes {
        parts.push(emit.slice(x, axis, [start, size, 1]));
        start += size;
    }
    parts
}

/// One operand after the other.
fn chain(emit: &mut Emit, op: BinaryOp, inputs: &[Option<Operand>]) -> Result<Operand, EngineError> {
    let mut operands = inputs.iter().flatten();
    let mut total = operands.next().cloned().ok_or_else(|| emit.unsupported("it has no inputs"))?;
    for next in operands {
        total = emit.binary(op, &total, next)?;
    }
    Ok(total)
}

/// Each axis with an axis of extent 1 before it, along which it is repeated.
fn tile(emit: &mut Emit, x: &Operand, repeats: &[usize], shape: &[usize]) -> Operand {
    let pairs = |first: &dyn Fn(usize) -> usize| {
        x.shape.iter().enumerate().flat_map(|(i, &d)| [first(i), d]).collect::<Vec<usize>>()
    };
    let (narrow, wide) = (pairs(&|_| 1), pairs(&|i| repeats[i]));
    emit.expand(&x.seen_as(&narrow), &wide).seen_as(shape)
}

/// The elements on one side of a diagonal, chosen by a constant mask.
fn trilu(emit: &mut Emit, x: &Operand, upper: bool, diagonal: i64) -> Result<Operand, EngineError> {
    let [rows, columns] = [x.shape[x.shape.len() - 2], x.shape[x.shape.len() - 1]];
    emit.room(rows.saturating_mul(columns))?;
    let kept = |at: usize| {
        let offset = (at % columns) as i64 - (at / columns) as i64;
        if upper { offset >= diagonal } else { offset <= diagonal }
    };
    let mask = (0..rows * columns).map(|at| f32::from(u8::from(kept(at)))).collect();
    let mask = emit.constant(mask, &[rows, columns]);
    let zero = emit.constant(vec![0.0], &[1]);
    Ok(emit.step(Op::Where, vec![Some(mask), Some(x.clone()), Some(zero)], &x.shape))
}
