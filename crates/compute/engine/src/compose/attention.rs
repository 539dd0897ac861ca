//! Attention and rotary positions, as the ONNX standard defines them from operator set 23 on.

use slq_graph::DType;
use slq_graph::op::{Attention, BinaryOp, Op, PadMode, Reduction, Rotary, UnaryOp};

use crate::emit::Emit;
use crate::error::EngineError;
use crate::program::Operand;

/// Input `i`, which may be omitted.
fn optional(inputs: &[Option<Operand>], i: usize) -> Option<Operand> {
    inputs.get(i).cloned().flatten()
}

fn required(emit: &Emit, inputs: &[Option<Operand>], i: usize) -> Result<Operand, EngineError> {
    optional(inputs, i).ok_or_else(|| emit.unsupported(format!("input {i} is missing")))
}

/// `[batch, heads, length, size]`, of data whose heads may lie in their last axis.
fn by_heads(emit: &mut Emit, x: &Operand, heads: Option<usize>) -> Result<Operand, EngineError> {
    match (x.shape.as_slice(), heads) {
        (&[_, _, _, _], _) => Ok(x.clone()),
        (&[batch, length, all], Some(heads)) => {
            let split = x.seen_as(&[batch, length, heads, all / heads.max(1)]);
            Ok(emit.transpose(&split, &[0, 2, 1, 3]))
        }
        (shape, _) => Err(emit.unsupported(format!("data of shape {shape:?} have no heads"))),
    }
}

pub(super) fn attention(
    emit: &mut Emit,
    op: &Attention,
    inputs: &[Option<Operand>],
) -> Result<Vec<Operand>, EngineError> {
    let mut of = |i: usize, heads: Option<usize>| {
        let x = required(emit, inputs, i)?;
        by_heads(emit, &x, heads)
    };
    let q = of(0, op.heads.map(|h| h[0]))?;
    let mut k = of(1, op.heads.map(|h| h[1]))?;
    let mut v = of(2, op.heads.map(|h| h[1]))?;
    let mut past = 0;
    if let (Some(keys), Some(values)) = (optional(inputs, 4), optional(inputs, 5)) {
        past = keys.shape[2];
        k = emit.concat(&[keys, k], 2);
        v = emit.concat(&[values, v], 2);
    }
    let present = [k.clone(), v.clone()];
    let (&[batch, heads, length, size], &[_, groups, total, _]) = (q.shape.as_slice(), k.shape.as_slice())
    else {
        return Err(emit.unsupported("queries and keys have not four axes"));
    };
    let width = v.shape[3];
    let mut repeated = |x: &Operand, size: usize| {
        let split = x.seen_as(&[batch, groups, 1, total, size]);
        let wide = emit.expand(&split, &[batch, groups, heads / groups, total, size]);
        wide.seen_as(&[batch, heads, total, size])
    };
    let (k, v) = (repeated(&k, size), repeated(&v, width));
    let q = emit.scaled(&q, op.scale.unwrap_or(1.0 / (size as f32).sqrt()))?;
    let turned = emit.transpose(&k, &[0, 1, 3, 2]);
    let mut products = emit.matmul(&q, &turned, &[batch, heads, length, total]);
    if op.softcap > 0.0 {
        let small = emit.scaled(&products, 1.0 / op.softcap)?;
        let bounded = emit.unary(UnaryOp::Tanh, &small);
        products = emit.scaled(&bounded, op.softcap)?;
    }
    let mut shown = products.clone();
    let hidden = hidden(emit, op, optional(inputs, 3), [batch, length, total, past])?;
    let mut scores = products;
    if let Some((bias, _)) = &hidden {
        scores = emit.binary(BinaryOp::Add, &scores, bias)?;
    }
    if op.products == 2 {
        shown = match hidden.as_ref().and_then(|(_, whole)| whole.clone()) {
            // What was taken out of rows that see nothing.
            Some(whole) => emit.binary(BinaryOp::Add, &shown, &whole)?,
            None => scores.clone(),
        };
    }
    let shape = scores.shape.clone();
    let softmax = Op::Softmax { axis: 3, flatten: false, log: false };
    let mut shares = emit.one(softmax, &scores, &shape);
    if let Some((_, Some(whole))) = &hidden {
        let (seen, zero) = (rows_that_see(emit, whole)?, emit.constant(vec![0.0], &[1]));
        shares = emit.step(Op::Where, vec![Some(seen), Some(shares), Some(zero)], &shape);
    }
    if op.products == 3 {
        shown = shares.clone();
    }
    let mut y = emit.matmul(&shares, &v, &[batch, heads, length, width]);
    if op.heads.is_some() {
        y = emit.transpose(&y, &[0, 2, 1, 3]).seen_as(&[batch, length, heads * width]);
    }
    let [key, value] = present;
    Ok(vec![y, key, value, shown])
}

/// 1 for rows of an added mask that see something.
fn rows_that_see(emit: &mut Emit, mask: &Operand) -> Result<Operand, EngineError> {
    let mut shape = mask.shape.clone();
    let axis = shape.len() - 1;
    shape[axis] = 1;
    let largest = Op::Reduce { reduction: Reduction::Max, axes: vec![axis], keep_dims: true };
    let largest = emit.one(largest, mask, &shape);
    let bottom = emit.constant(vec![f32::NEG_INFINITY], &[1]);
    emit.binary(BinaryOp::Greater, &largest, &bottom)
}

/// What is added to the products, and where rows may see nothing the same before those rows were filled with zeros (a softmax
/// over nothing but minus infinity is no number).
fn hidden(
    emit: &mut Emit,
    op: &Attention,
    mask: Option<Operand>,
    [batch, length, total, past]: [usize; 4],
) -> Result<Option<(Operand, Option<Operand>)>, EngineError> {
    emit.room(batch.saturating_mul(length).saturating_mul(total))?;
    let fixed = fixed_mask(op, [batch, length, total, past]);
    let blind = |values: &[f32]| values.chunks(total.max(1)).any(|row| row.iter().all(|v| *v < 0.0));
    let may_be_blind = mask.is_some() || fixed.as_ref().is_some_and(|(_, values)| blind(values));
    let mut bias = fixed.map(|(shape, values)| emit.constant(values, &shape));
    if let Some(mask) = mask {
        let boolean = emit.dtype(3) == Some(DType::Bool);
        let mask = filled(emit, &mask, total, if boolean { 0.0 } else { f32::NEG_INFINITY });
        let mask = if boolean {
            let (zero, bottom) =
                (emit.constant(vec![0.0], &[1]), emit.constant(vec![f32::NEG_INFINITY], &[1]));
            let shape = mask.shape.clone();
            emit.step(Op::Where, vec![Some(mask), Some(zero), Some(bottom)], &shape)
        } else {
            mask
        };
        bias = Some(match bias {
            Some(bias) => emit.binary(BinaryOp::Add, &bias, &mask)?,
            None => mask,
        });
    }
    let Some(whole) = bias else { return Ok(None) };
    if !may_be_blind {
        return Ok(Some((whole, None)));
    }
    let (seen, zero) = (rows_that_see(emit, &whole)?, emit.constant(vec![0.0], &[1]));
    let shape = whole.shape.clone();
    let bias = emit.step(Op::Where, vec![Some(seen), Some(whole.clone()), Some(zero)], &shape);
    Ok(Some((bias, Some(whole))))
}

/// A mask whose last axis is filled up to `total`.
fn filled(emit: &mut Emit, mask: &Operand, total: usize, value: f32) -> Operand {
    let mut shape = mask.shape.clone();
    let axis = shape.len() - 1;
    if shape[axis] >= total {
        return mask.clone();
    }
    let (before, mut after) = (vec![0; shape.len()], vec![0; shape.len()]);
    after[axis] = (total - shape[axis]) as i64;
    shape[axis] = total;
    emit.one(Op::Pad { before, after, mode: PadMode::Constant(value) }, mask, &shape)
}

/// The mask that follows from positions alone: causal, a window, lengths.
fn fixed_mask(op: &Attention, [batch, length, total, past]: [usize; 4]) -> Option<(Vec<usize>, Vec<f32>)> {
    let [left, right] = op.window;
    if !op.causal && left.is_none() && right.is_none() && op.lengths.is_empty() {
        return None;
    }
    let rows = if op.lengths.is_empty() { 1 } else { batch };
    let mut values = Vec::with_capacity(rows * length * total);
    for b in 0..rows {
        let valid = op.lengths.get(b).copied();
        // The position of the first query among the keys.
        let offset = valid.map_or(past as i64, |valid| valid as i64 - length as i64);
        for i in 0..length {
            let own = i as i64 + offset;
            for j in 0..total {
                let key = j as i64;
                let seen = (!op.causal || key <= own)
                    && left.is_none_or(|w| own - key <= w as i64)
                    && right.is_none_or(|w| key - own <= w as i64)
                    && valid.is_none_or(|valid| j < valid);
                values.push(if seen { 0.0 } else { f32::NEG_INFINITY });
            }
        }
    }
    Some((vec![rows, 1, length, total], values))
}

/// Pairs of elements of each head, turned by an angle that grows with the position.
pub(super) fn rotary(
    emit: &mut Emit,
    op: Rotary,
    inputs: &[Option<Operand>],
) -> Result<Operand, EngineError> {
    let given = required(emit, inputs, 0)?;
    // Positions are axis 2 of four axes, and axis 1 of three whose heads are split.
    let (x, heads_axis) = match (given.shape.as_slice(), op.heads) {
        (&[batch, length, all], Some(heads)) if all % heads == 0 => {
            (given.seen_as(&[batch, length, heads, all / heads]), 2)
        }
        (&[_, _, _, _], _) => (given.clone(), 1),
        (shape, _) => return Err(emit.unsupported(format!("data of shape {shape:?} have no heads"))),
    };
    let size = x.shape[3];
    let turned = if op.turned == 0 { size } else { op.turned };
    if turned > size || turned % 2 != 0 {
        return Err(
            emit.unsupported(format!("{turned} of {size} elements of a head cannot be turned in pairs"))
        );
    }
    let half = turned / 2;
    let positions = optional(inputs, 3);
    let table = |emit: &mut Emit, i: usize| {
        let mut table = required(emit, inputs, i)?;
        if let Some(positions) = &positions {
            let shape = [&positions.shape[..], &table.shape[1..]].concat();
            let look_up = vec![Some(table), Some(positions.clone())];
            table = emit.step(Op::Gather { axis: 0 }, look_up, &shape);
        }
        let &[batch, length, width] = table.shape.as_slice() else {
            return Err(emit.unsupported("its tables have not three axes"));
        };
        if width != half {
            return Err(emit.unsupported(format!("its tables have {width} columns where {half} are needed")));
        }
        let rows = [x.shape[0], x.shape[3 - heads_axis]];
        if ![batch, length].iter().zip(rows).all(|(&d, row)| d == 1 || d == row) {
            let reason =
                format!("its tables are for {batch} x {length} positions and the data have {rows:?}");
            return Err(emit.unsupported(reason));
        }
        let mut shape = vec![batch, length, width];
        shape.insert(heads_axis, 1);
        Ok(table.seen_as(&shape))
    };
    let (cos, sin) = (table(emit, 1)?, table(emit, 2)?);
    let part = |emit: &mut Emit, which: usize| {
        let range = if op.interleaved { [which, half, 2] } else { [which * half, half, 1] };
        emit.slice(&x, 3, range)
    };
    let (a, b) = (part(emit, 0), part(emit, 1));
    let product = |emit: &mut Emit, table: &Operand, x: &Operand| emit.binary(BinaryOp::Mul, table, x);
    let (ca, sb) = (product(emit, &cos, &a)?, product(emit, &sin, &b)?);
    let (sa, cb) = (product(emit, &sin, &a)?, product(emit, &cos, &b)?);
    let real = emit.binary(BinaryOp::Sub, &ca, &sb)?;
    let imaginary = emit.binary(BinaryOp::Add, &sa, &cb)?;
    let mut shape = x.shape.clone();
    shape[3] = turned;
    let mut pairs = [&x.shape[..3], &[half, 1]].concat();
    let y = if op.interleaved {
        let parts = [real.seen_as(&pairs), imaginary.seen_as(&pairs)];
        pairs[4] = 2;
        emit.concat(&parts, 4).seen_as(&shape)
    } else {
        emit.concat(&[real, imaginary], 3)
    };
    let y = if turned < size {
        let rest = emit.slice(&x, 3, [turned, size - turned, 1]);
        emit.concat(&[y, rest], 3)
    } else {
        y
    };
    Ok(y.seen_as(&given.shape))
}
