//! Shapes of windows over one or three axes, recurrent layers, attention, sampling, Einstein sums.

use super::{Rule, broadcast};
use crate::error::GraphError;
use crate::op::{Attention, Op, Padding, Recurrent, Window};

impl Rule<'_> {
    /// The shapes of the inputs with an axis of extent 1 before the last, the output without it.
    pub(super) fn line(&self, op: &Op) -> Result<Vec<usize>, GraphError> {
        let mut wide: Vec<Option<Vec<usize>>> = Vec::with_capacity(self.shapes.len());
        for (i, shape) in self.shapes.iter().enumerate() {
            wide.push(match *shape {
                Some(&[n, c, w]) if i < 2 => Some(vec![n, c, 1, w]),
                Some(_) if i < 2 => return Err(self.refuse("data [N, C, W] are needed")),
                other => other.map(<[usize]>::to_vec),
            });
        }
        let shapes: Vec<Option<&[usize]>> = wide.iter().map(|s| s.as_deref()).collect();
        let inner = Rule { node: self.node, shapes: &shapes }.apply(op)?;
        match inner.first().map(Vec::as_slice) {
            Some(&[n, c, 1, w]) => Ok(vec![n, c, w]),
            _ => Err(self.refuse("the window leaves its axis")),
        }
    }

    /// The shape over planes, and the depth by the same rule along its axis.
    pub(super) fn volume(
        &self,
        depth: &Window,
        output_padding: usize,
        plane: &Op,
    ) -> Result<Vec<usize>, GraphError> {
        let without_depth = |shape: &[usize]| match *shape {
            [n, c, _, h, w] => Ok(vec![n, c, h, w]),
            _ => Err(self.refuse("data [N, C, D, H, W] are needed")),
        };
        let mut flat: Vec<Option<Vec<usize>>> = Vec::with_capacity(self.shapes.len());
        for (i, shape) in self.shapes.iter().enumerate() {
            flat.push(match shape {
                Some(shape) if i < 2 => Some(without_depth(shape)?),
                other => other.map(<[usize]>::to_vec),
            });
        }
        let shapes: Vec<Option<&[usize]>> = flat.iter().map(|s| s.as_deref()).collect();
        let inner = Rule { node: self.node, shapes: &shapes }.apply(plane)?;
        let extent = self.input(0)?[2];
        let out = match plane {
            Op::ConvTranspose { .. } => {
                let Padding::Explicit([before, _, after, _]) = depth.padding else {
                    return Err(self.refuse("the padding of a transposed convolution is not resolved"));
                };
                let full = (extent - 1).checked_mul(depth.strides[0]);
                let full = full.and_then(|n| n.checked_add(depth.reach()[0])?.checked_add(output_padding));
                full.and_then(|n| n.checked_sub(before.checked_add(after)?))
            }
            Op::MaxPool { ceil, .. } | Op::AveragePool { ceil, .. } => {
                depth.output_extent([extent, 1], *ceil).map(|[d, _]| d)
            }
            _ => depth.output_extent([extent, 1], false).map(|[d, _]| d),
        };
        let out = out.ok_or_else(|| self.refuse("the window does not fit into the padded depth"))?;
        match (inner.first().map(Vec::as_slice), self.shapes.get(1).copied().flatten()) {
            (_, Some(weight))
                if !matches!(plane, Op::MaxPool { .. } | Op::AveragePool { .. })
                    && weight[2] != depth.kernel[0] =>
            {
                Err(self.refuse("the weight does not fit the kernel"))
            }
            (Some(&[n, c, h, w]), _) => Ok(vec![n, c, out, h, w]),
            _ => Err(self.refuse("data [N, C, D, H, W] are needed")),
        }
    }

    pub(super) fn gather_elements(&self, axis: usize) -> Result<Vec<usize>, GraphError> {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        let fits = data.len() == indices.len() && (0..data.len()).all(|i| i == axis || indices[i] <= data[i]);
        if fits { Ok(indices.to_vec()) } else { Err(self.refuse("the indices do not fit the data")) }
    }

    pub(super) fn gather_nd(&self, batch_dims: usize) -> Result<Vec<usize>, GraphError> {
        let (data, indices) = (self.input(0)?, self.input(1)?);
        let Some((&depth, lead)) = indices.split_last() else {
            return Err(self.refuse("there are no indices"));
        };
        match data.get(batch_dims.saturating_add(depth)..) {
            Some(rest) => Ok([lead, rest].concat()),
            None => Err(self.refuse("the indices do not fit the data")),
        }
    }

    /// Operators that choose or repeat along an axis of input 0.
    pub(super) fn selection(&self, op: &Op) -> Result<Vec<Vec<usize>>, GraphError> {
        let mut shape = self.input(0)?.to_vec();
        match op {
            Op::ArgExtreme { axis, keep_dims: true, .. } => shape[*axis] = 1,
            Op::ArgExtreme { axis, .. } => {
                shape.remove(*axis);
            }
            Op::TopK { axis, count, .. } => {
                shape[*axis] = *count;
                return Ok(vec![shape.clone(), shape]);
            }
            Op::Tile { repeats } => {
                shape.iter_mut().zip(repeats).for_each(|(d, &r)| *d = d.saturating_mul(r))
            }
            _ => {}
        }
        Ok(vec![shape])
    }

    pub(super) fn recurrent(&self, op: &Recurrent) -> Result<Vec<Vec<usize>>, GraphError> {
        let (directions, hidden, gates) = (op.reverse.len(), op.hidden, op.cell.gates());
        let &[first, second, inputs] = self.input(0)? else {
            return Err(self.refuse("the data must have three axes"));
        };
        let (steps, batch) = if op.batch_first { (second, first) } else { (first, second) };
        let state = if op.batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        let rows = gates.checked_mul(hidden).ok_or_else(|| self.refuse("the state is too large"))?;
        let needed: [(usize, &[usize]); 6] = [
            (1, &[directions, rows, inputs]),
            (2, &[directions, rows, hidden]),
            (3, &[directions, rows.saturating_mul(2)]),
            (5, &state),
            (6, &state),
            (7, &[directions, hidden.saturating_mul(3)]),
        ];
        for (i, shape) in needed {
            if let Some(found) = self.optional(i)?.filter(|&found| found != shape) {
                return Err(self.refuse(format!("input {i} has shape {found:?} where {shape:?} is needed")));
            }
        }
        let all = if op.batch_first {
            vec![batch, steps, directions, hidden]
        } else {
            vec![steps, directions, batch, hidden]
        };
        Ok(vec![all, state.to_vec(), state.to_vec()])
    }

    /// Batch, heads, length and size of Q, K or V.
    fn heads(&self, index: usize, heads: Option<usize>) -> Result<[usize; 4], GraphError> {
        match *self.input(index)? {
            [batch, heads, length, size] => Ok([batch, heads, length, size]),
            [batch, length, all] => {
                let heads = heads.filter(|h| all % h == 0);
                let heads = heads.ok_or_else(|| self.refuse(format!("input {index} has no such heads")))?;
                Ok([batch, heads, length, all / heads])
            }
            _ => Err(self.refuse(format!("input {index} must have three or four axes"))),
        }
    }

    pub(super) fn attention(&self, op: &Attention) -> Result<Vec<Vec<usize>>, GraphError> {
        let [batch, heads, length, size] = self.heads(0, op.heads.map(|h| h[0]))?;
        let kv = op.heads.map(|h| h[1]);
        let (k, v) = (self.heads(1, kv)?, self.heads(2, kv)?);
        let ranks = [0, 1, 2].map(|i| self.input(i).map(<[usize]>::len).unwrap_or(0));
        if ranks[1] != ranks[0] || ranks[2] != ranks[0] {
            return Err(self.refuse("queries, keys and values differ in their number of axes"));
        }
        if k[0] != batch || v[0] != batch || k[3] != size || k[1] != v[1] || k[2] != v[2] || heads % k[1] != 0
        {
            return Err(self.refuse("queries, keys and values do not fit together"));
        }
        let mut past = 0;
        if let Some(shape) = self.optional(4)? {
            past = shape.get(2).copied().unwrap_or(0);
            let fits = *shape == [batch, k[1], past, size]
                && self.optional(5)? == Some(&[batch, v[1], past, v[3]][..]);
            if !fits {
                return Err(self.refuse("past keys and values do not fit the present ones"));
            }
        }
        let total = k[2].checked_add(past).ok_or_else(|| self.refuse("the past is too long"))?;
        let products = [batch, heads, length, total];
        if let Some(mask) = self.optional(3)? {
            let mut wide = mask.to_vec();
            match wide.last_mut() {
                // Shorter masks are filled up.
                Some(last) if *last <= total => *last = total,
                _ => return Err(self.refuse("the mask does not fit the products")),
            }
            if broadcast(&wide, &products).as_deref() != Some(&products[..]) {
                return Err(self.refuse("the mask does not fit the products"));
            }
        }
        if !op.lengths.is_empty() && op.lengths.len() != batch {
            return Err(self.refuse("the lengths do not fit the batch"));
        }
        let width = heads.checked_mul(v[3]).ok_or_else(|| self.refuse("the heads are too large"))?;
        let y =
            if op.heads.is_some() { vec![batch, length, width] } else { vec![batch, heads, length, v[3]] };
        let present = |size: usize| vec![batch, k[1], total, size];
        Ok(vec![y, present(size), present(v[3]), products.to_vec()])
    }

    pub(super) fn rotary(&self) -> Result<Vec<usize>, GraphError> {
        Ok(self.input(0)?.to_vec())
    }

    pub(super) fn grid_sample(&self) -> Result<Vec<usize>, GraphError> {
        match (self.input(0)?, self.input(1)?) {
            (&[n, c, _, _], &[m, h, w, 2]) if n == m => Ok(vec![n, c, h, w]),
            _ => Err(self.refuse("data [N, C, H, W] and a grid [N, H', W', 2] are needed")),
        }
    }

    pub(super) fn einsum(&self, operands: &[Vec<usize>], result: &[usize]) -> Result<Vec<usize>, GraphError> {
        let mut extents: Vec<Option<usize>> = Vec::new();
        for (i, labels) in operands.iter().enumerate() {
            let shape = self.input(i)?;
            if shape.len() != labels.len() {
                return Err(self.refuse("the equation does not fit the operands"));
            }
            for (&label, &extent) in labels.iter().zip(shape) {
                if extents.len() <= label {
                    extents.resize(label + 1, None);
                }
                match extents[label] {
                    Some(known) if known != extent => {
                        return Err(self.refuse("the extents of an axis of the equation differ"));
                    }
                    _ => extents[label] = Some(extent),
                }
            }
        }
        let extent = |&label: &usize| extents.get(label).copied().flatten();
        let shape: Option<Vec<usize>> = result.iter().map(extent).collect();
        shape.ok_or_else(|| self.refuse("the result has an axis that no operand has"))
    }
}
