//! The shape of each operator's outputs.

mod composite;

use crate::error::GraphError;
use crate::node::Node;
use crate::op::{Normalization, Op, PadMode, Padding, Window};
use crate::tensor::element_count;

/// Most elements that a value may have.
pub const LARGEST_VALUE: usize = 1 << if usize::BITS > 40 { 40 } else { 29 };

struct Rule<'a> {
    node: &'a Node,
    shapes: &'a [Option<&'a [usize]>],
}

/// Shapes of the node's outputs, as many as the operator has.
pub(crate) fn output_shapes(
    node: &Node,
    op: &Op,
    shapes: &[Option<&[usize]>],
) -> Result<Vec<Vec<usize>>, GraphError> {
    let rule = Rule { node, shapes };
    let outputs = output_shapes_of_constants(node, op, shapes)?;
    match outputs.iter().find(|shape| shape.contains(&0)) {
        Some(shape) => Err(rule.refuse(format!("output shape {shape:?} holds no elements"))),
        None => Ok(outputs),
    }
}

/// As [`output_shapes`], for a node that reads constants alone: they may be empty.
pub(crate) fn output_shapes_of_constants(
    node: &Node,
    op: &Op,
    shapes: &[Option<&[usize]>],
) -> Result<Vec<Vec<usize>>, GraphError> {
    let rule = Rule { node, shapes };
    let outputs = rule.apply(op)?;
    for shape in &outputs {
        if element_count(shape).is_none_or(|n| n > LARGEST_VALUE) {
            return Err(GraphError::TooLarge {
                op: node.op.clone(),
                node: node.name.clone(),
                shape: shape.clone(),
                shapes: rule.input_shapes(),
            });
        }
    }
    Ok(outputs)
}

/// Shape of two tensors broadcast against each other, or `None` where they do not fit.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |j| s[j]);
    let pairs = (0..rank).map(|i| (at(a, i), at(b, i)));
    pairs
        .map(|pair| match pair {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

impl Rule<'_> {
    fn input_shapes(&self) -> Vec<Vec<usize>> {
        self.shapes.iter().flatten().map(|s| s.to_vec()).collect()
    }

    fn refuse(&self, reason: impl Into<String>) -> GraphError {
        GraphError::ShapeMismatch {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            reason: reason.into(),
            shapes: self.input_shapes(),
        }
    }

    fn input(&self, index: usize) -> Result<&[usize], GraphError> {
        let name = || self.node.input(index).unwrap_or_default().to_string();
        self.shapes.get(index).copied().flatten().ok_or_else(|| GraphError::UnknownShape {
            op: self.node.op.clone(),
            node: self.node.name.clone(),
            value: name(),
        })
    }

    fn optional(&self, index: usize) -> Result<Option<&[usize]>, GraphError> {
        self.node.input(index).map(|_| self.input(index)).transpose()
    }

    fn same(&self) -> Result<Vec<Vec<usize>>, GraphError> {
        Ok(vec![self.input(0)?.to_vec()])
    }

    fn apply(&self, op: &Op) -> Result<Vec<Vec<usize>>, GraphError> {
        Ok(vec![match op {
            Op::Conv { window, groups } => self.conv(window, *groups)?,
            Op::ConvTranspose { window, groups, output_padding } => {
                self.conv_transpose(window, *groups, *output_padding)?
            }
            Op::Gemm { trans_a, trans_b, .. } => self.gemm(*trans_a, *trans_b)?,
            Op::MatMul => self.mat_mul()?,
            Op::MaxPool { window, ceil } | Op::AveragePool { window, ceil, .. } => {
                self.pool(window, *ceil)?
            }
            Op::GlobalAveragePool | Op::GlobalMaxPool => self.global_pool()?,
            Op::BatchNorm { .. } => self.batch_norm()?,
            Op::Lrn { .. } => {
                if self.input(0)?.len() < 2 {
                    return Err(self.refuse("there is no channel axis"));
                }
                return self.same();
            }
            Op::PRelu => {
                let data = self.input(0)?;
                let wide = broadcast(data, self.input(1)?);
                wide.filter(|w| w == data).ok_or_else(|| self.refuse("the slope does not fit the data"))?
            }
            Op::Binary(_) => self.broadcast_all(2)?,
            Op::Chain(_) | Op::Mean => self.broadcast_all(self.node.inputs.len())?,
            Op::Concat { axis } => self.concat(*axis)?,
            Op::Split { axis, sizes } => return self.split(*axis, sizes),
            Op::Flatten { axis } => self.flatten(*axis)?,
            Op::Reshape { target } => self.reshape(target)?,
            Op::Transpose { perm } => {
                let data = self.input(0)?;
                perm.iter().map(|&p| data[p]).collect()
            }
            Op::Slice { ranges } => ranges.iter().map(|&r| range_length(r)).collect(),
            Op::Pad { before, after, mode } => self.pad(before, after, *mode)?,
            Op::Reduce { axes, keep_dims, .. } => {
                let data = self.input(0)?.iter().enumerate();
                data.filter(|(i, _)| *keep_dims || !axes.contains(i))
                    .map(|(i, &d)| if axes.contains(&i) { 1 } else { d })
                    .collect()
            }
            Op::Normalize { over, .. } => self.normalize(*over)?,
            Op::Where => self.broadcast_all(3)?,
            Op::Gather { axis } => {
                let (data, indices) = (self.input(0)?, self.input(1)?);
                [&data[..*axis], indices, &data[axis + 1..]].concat()
            }
            Op::Expand { shape } => broadcast(self.input(0)?, shape)
                .ok_or_else(|| self.refuse(format!("the data cannot be expanded to {shape:?}")))?,
            Op::Line(op) => self.line(op)?,
            Op::Volume { depth, output_padding, plane } => self.volume(depth, *output_padding, plane)?,
            Op::Resize(resize) => resize.shape.clone(),
            Op::Rearrange { shape, .. } | Op::Fill { shape, .. } => shape.clone(),
            Op::ArgExtreme { .. } | Op::TopK { .. } | Op::Tile { .. } => return self.selection(op),
            Op::GatherElements { axis } => self.gather_elements(*axis)?,
            Op::GatherNd { batch_dims } => self.gather_nd(*batch_dims)?,
            Op::Recurrent(recurrent) => return self.recurrent(recurrent),
            Op::Attention(attention) => return self.attention(attention),
            Op::Rotary(_) => self.rotary()?,
            Op::GridSample(_) => self.grid_sample()?,
            Op::Einsum { operands, result } => self.einsum(operands, result)?,
            Op::CumSum { .. } | Op::Trilu { .. } => return self.same(),
            Op::Weighted { .. } => return Err(self.refuse("no node is a weighted sum of the runtime")),
            Op::Constant { .. } => return Err(self.refuse("no node is a constant of the runtime")),
            Op::Dropout { .. } => {
                let data = self.input(0)?.to_vec();
                return Ok(vec![data.clone(), data]);
            }
            Op::Unary(_) | Op::Clip { .. } | Op::Softmax { .. } | Op::Identity => return self.same(),
        }])
    }

    fn global_pool(&self) -> Result<Vec<usize>, GraphError> {
        let data = self.input(0)?;
        if data.len() < 3 {
            return Err(self.refuse("there is no spatial axis to pool over"));
        }
        Ok((0..data.len()).map(|i| if i < 2 { data[i] } else { 1 }).collect())
    }

    fn split(&self, axis: usize, sizes: &[usize]) -> Result<Vec<Vec<usize>>, GraphError> {
        let data = self.input(0)?;
        let part = |&size: &usize| {
            let mut shape = data.to_vec();
            shape[axis] = size;
            shape
        };
        Ok(sizes.iter().map(part).collect())
    }

    fn flatten(&self, axis: usize) -> Result<Vec<usize>, GraphError> {
        let product = |dims: &[usize]| {
            element_count(dims).ok_or_else(|| self.refuse("the number of elements overflows"))
        };
        let (front, back) = self.input(0)?.split_at(axis);
        Ok(vec![product(front)?, product(back)?])
    }

    fn image(&self) -> Result<[usize; 4], GraphError> {
        let data = self.input(0)?;
        data.try_into().map_err(|_| self.refuse("an image batch [N, C, H, W] is needed"))
    }

    fn bias(&self, channels: usize) -> Result<(), GraphError> {
        match self.optional(2)? {
            Some(shape) if shape != [channels] => {
                Err(self.refuse(format!("the bias must have shape [{channels}]")))
            }
            _ => Ok(()),
        }
    }

    fn kernel_weight(&self, window: &Window, groups: usize) -> Result<[usize; 4], GraphError> {
        let weight: [usize; 4] =
            self.input(1)?.try_into().map_err(|_| self.refuse("the weight must have four axes"))?;
        if weight[2..] != window.kernel || !weight[0].is_multiple_of(groups) {
            return Err(self.refuse("the weight does not fit kernel and groups"));
        }
        Ok(weight)
    }

    fn conv(&self, window: &Window, groups: usize) -> Result<Vec<usize>, GraphError> {
        let [n, c, h, w] = self.image()?;
        let weight = self.kernel_weight(window, groups)?;
        if weight[1].checked_mul(groups) != Some(c) {
            let needed = weight[1].saturating_mul(groups);
            return Err(self.refuse(format!("the weight takes {needed} channels, the data has {c}")));
        }
        self.bias(weight[0])?;
        let [oh, ow] = self.extent(window, [h, w], false)?;
        Ok(vec![n, weight[0], oh, ow])
    }

    fn extent(&self, window: &Window, hw: [usize; 2], ceil: bool) -> Result<[usize; 2], GraphError> {
        window.output_extent(hw, ceil).ok_or_else(|| {
            self.refuse(format!(
                "the window of extent {:?} does not fit into the padded input",
                window.reach()
            ))
        })
    }

    fn conv_transpose(
        &self,
        window: &Window,
        groups: usize,
        extra: [usize; 2],
    ) -> Result<Vec<usize>, GraphError> {
        let [n, c, h, w] = self.image()?;
        let weight = self.kernel_weight(window, groups)?;
        if weight[0] != c {
            return Err(self.refuse(format!("the weight takes {} channels, the data has {c}", weight[0])));
        }
        let channels = weight[1].checked_mul(groups).ok_or_else(|| self.refuse("too many channels"))?;
        self.bias(channels)?;
        let pads = match window.padding {
            Padding::Explicit(pads) => pads,
            _ => return Err(self.refuse("the padding of a transposed convolution is not resolved")),
        };
        let extent = |i: usize, size: usize| {
            let full = size.checked_sub(1)?.checked_mul(window.strides[i])?.checked_add(window.reach()[i])?;
            full.checked_add(extra[i])?.checked_sub(pads[i].checked_add(pads[i + 2])?)
        };
        let refuse = || self.refuse("the padding leaves no output");
        Ok(vec![n, channels, extent(0, h).ok_or_else(refuse)?, extent(1, w).ok_or_else(refuse)?])
    }

    fn pool(&self, window: &Window, ceil: bool) -> Result<Vec<usize>, GraphError> {
        let [n, c, h, w] = self.image()?;
        let [oh, ow] = self.extent(window, [h, w], ceil)?;
        Ok(vec![n, c, oh, ow])
    }

    fn gemm(&self, trans_a: bool, trans_b: bool) -> Result<Vec<usize>, GraphError> {
        let matrix = |index: usize, transposed: bool| match (self.input(index)?, transposed) {
            (&[rows, columns], false) | (&[columns, rows], true) => Ok([rows, columns]),
            _ => Err(self.refuse(format!("input {index} is not a matrix"))),
        };
        let ([m, k], [k2, n]) = (matrix(0, trans_a)?, matrix(1, trans_b)?);
        if k != k2 {
            return Err(self.refuse(format!("inner extents {k} and {k2} differ")));
        }
        let out = vec![m, n];
        match self.optional(2)? {
            Some(c) if broadcast(c, &out).as_ref() != Some(&out) => {
                Err(self.refuse(format!("the third input does not fit {out:?}")))
            }
            _ => Ok(out),
        }
    }

    fn mat_mul(&self) -> Result<Vec<usize>, GraphError> {
        let (a, b) = (self.input(0)?, self.input(1)?);
        // A vector is a row on the left and a column on the right; that axis vanishes from the output.
        let (lead_a, [m, k]) = match a {
            [] => return Err(self.refuse("a scalar has no rows")),
            [k] => (&a[..0], [None, Some(*k)]),
            [lead @ .., m, k] => (lead, [Some(*m), Some(*k)]),
        };
        let (lead_b, [k2, n]) = match b {
            [] => return Err(self.refuse("a scalar has no columns")),
            [k] => (&b[..0], [Some(*k), None]),
            [lead @ .., k, n] => (lead, [Some(*k), Some(*n)]),
        };
        if k != k2 {
            return Err(self.refuse("inner extents differ"));
        }
        let mut out =
            broadcast(lead_a, lead_b).ok_or_else(|| self.refuse("leading dimensions do not fit"))?;
        out.extend(m.into_iter().chain(n));
        Ok(out)
    }

    fn broadcast_all(&self, count: usize) -> Result<Vec<usize>, GraphError> {
        let mut out = self.input(0)?.to_vec();
        for i in 1..count {
            out = broadcast(&out, self.input(i)?)
                .ok_or_else(|| self.refuse("the inputs cannot be broadcast together"))?;
        }
        Ok(out)
    }

    fn concat(&self, axis: usize) -> Result<Vec<usize>, GraphError> {
        let mut out = self.input(0)?.to_vec();
        for i in 1..self.node.inputs.len() {
            let next = self.input(i)?;
            let fits = next.len() == out.len() && (0..out.len()).all(|a| a == axis || next[a] == out[a]);
            if !fits {
                return Err(self.refuse(format!("the inputs differ in more than axis {axis}")));
            }
            out[axis] = out[axis].checked_add(next[axis]).ok_or_else(|| self.refuse("the sum overflows"))?;
        }
        Ok(out)
    }

    fn reshape(&self, target: &[i64]) -> Result<Vec<usize>, GraphError> {
        let data = self.input(0)?;
        let refuse = || self.refuse(format!("the data cannot take the shape {target:?}"));
        let total = element_count(data).ok_or_else(refuse)?;
        let mut out = Vec::with_capacity(target.len());
        for (i, &d) in target.iter().enumerate() {
            out.push(match d {
                0 => *data.get(i).ok_or_else(refuse)?,
                -1 => 1,
                d => usize::try_from(d).map_err(|_| refuse())?,
            });
        }
        let rest = element_count(&out).ok_or_else(refuse)?;
        if let Some(open) = target.iter().position(|&d| d == -1) {
            if rest == 0 || total % rest != 0 {
                return Err(refuse());
            }
            out[open] = total / rest;
        } else if rest != total {
            return Err(refuse());
        }
        Ok(out)
    }

    fn batch_norm(&self) -> Result<Vec<usize>, GraphError> {
        let data = self.input(0)?;
        let channels = data.get(1).copied().ok_or_else(|| self.refuse("there is no channel axis"))?;
        for i in 1..5 {
            if self.input(i)? != [channels] {
                return Err(self.refuse(format!("input {i} must have shape [{channels}]")));
            }
        }
        Ok(data.to_vec())
    }

    fn normalize(&self, over: Normalization) -> Result<Vec<usize>, GraphError> {
        let data = self.input(0)?;
        let channels = || data.get(1).copied().ok_or_else(|| self.refuse("there is no channel axis"));
        let scale = match over {
            Normalization::Layer { axis } | Normalization::Rms { axis } => data[axis..].to_vec(),
            Normalization::Instance | Normalization::Group { by_channel: true, .. } => vec![channels()?],
            Normalization::Group { groups, .. } => vec![groups],
        };
        if let Normalization::Group { groups, .. } = over
            && channels()? % groups != 0
        {
            return Err(self.refuse(format!("{groups} groups do not divide the channels")));
        }
        let bias = self.optional(2)?;
        if self.input(1)? != scale || bias.is_some_and(|b| b != scale) {
            return Err(self.refuse(format!("scale and bias must have shape {scale:?}")));
        }
        Ok(data.to_vec())
    }

    fn pad(&self, before: &[i64], after: &[i64], mode: PadMode) -> Result<Vec<usize>, GraphError> {
        let data = self.input(0)?;
        let mut out = Vec::with_capacity(data.len());
        for (axis, &extent) in data.iter().enumerate() {
            let refuse = || self.refuse(format!("axis {axis} cannot be padded by {before:?}, {after:?}"));
            let reach = i64::try_from(extent).map_err(|_| refuse())?;
            let limit = -reach;
            if before[axis] < limit || after[axis] < limit {
                return Err(refuse());
            }
            if mode == PadMode::Wrap && (before[axis] > reach || after[axis] > reach) {
                return Err(self.refuse(format!("axis {axis} is too short to be repeated so often")));
            }
            if mode == PadMode::Reflect && (before[axis] >= reach || after[axis] >= reach) {
                return Err(self.refuse(format!("axis {axis} is too short to be reflected")));
            }
            let wide = reach.checked_add(before[axis]).and_then(|n| n.checked_add(after[axis]));
            out.push(wide.and_then(|n| usize::try_from(n).ok()).ok_or_else(refuse)?);
        }
        Ok(out)
    }
}

/// Number of elements that a resolved (start, end, step) takes.
fn range_length((start, end, step): (i64, i64, i64)) -> usize {
    let (distance, step) = if step > 0 { (end - start, step) } else { (start - end, step.saturating_neg()) };
    if distance <= 0 { 0 } else { usize::try_from((distance - 1) / step + 1).unwrap_or(usize::MAX) }
}
