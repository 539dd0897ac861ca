//! Convolutions, and the padding that windows need.

use slq_graph::Node;
use slq_graph::op::Window;

use super::context::{Lowering, Lowers, Value, output, refuse};
use crate::arrange::{Arrangement, CHANNELS_LAST};
use crate::padding::{Axis, Placement};
use crate::schema::{Code, Options};

/// The two numbers as 32-bit integers.
pub(super) fn pair(values: [usize; 2]) -> [i32; 2] {
    values.map(|v| i32::try_from(v).unwrap_or(i32::MAX))
}

impl Lowering<'_> {
    /// A value of four axes and its extents.
    pub(super) fn image(&mut self, node: &Node) -> Lowers<(Value, [usize; 4])> {
        let value = self.input(node, 0)?;
        match <[usize; 4]>::try_from(value.shape.as_slice()) {
            Ok(shape) => Ok((value, shape)),
            Err(_) => refuse("its input has no two spatial axes"),
        }
    }

    /// Where the windows lie that turn an input of `shape` into the node's output.
    pub(super) fn placement(&self, node: &Node, window: &Window, shape: [usize; 4]) -> Lowers<Placement> {
        let [_, _, h, w] = shape;
        let pads = window.resolve_pads([h, w]);
        let out = self.output_shape(node)?;
        let &[_, _, out_h, out_w] = out.as_slice() else {
            return refuse("its output has no two spatial axes");
        };
        let reach = window.reach();
        let axis = |i: usize, input: usize, output: usize| Axis {
            input,
            output,
            reach: reach[i],
            stride: window.strides[i],
            before: pads[i],
        };
        Ok(Placement::of([axis(0, h, out_h), axis(1, w, out_w)]))
    }

    /// The input with what `placement` adds, filled with `fill`; and whether padding is SAME then.
    pub(super) fn placed(
        &mut self,
        node: &Node,
        tensor: usize,
        placement: Placement,
        fill: f32,
    ) -> Lowers<(usize, bool)> {
        let added = match placement {
            Placement::Valid => return Ok((tensor, false)),
            Placement::Same => return Ok((tensor, true)),
            Placement::Explicit(added) => added,
        };
        let pads = [(0, 0), added[0], added[1], (0, 0)];
        let name = format!("{}.pad", output(node)?);
        Ok((self.padded(tensor, &pads, fill, &name)?, false))
    }

    /// `tensor` with elements added before and after each axis (the file's order).
    pub(super) fn padded(
        &mut self,
        tensor: usize,
        pads: &[(usize, usize)],
        fill: f32,
        name: &str,
    ) -> Lowers<usize> {
        if pads.len() > 4 {
            return refuse("it pads more than four axes");
        }
        let old = &self.model.tensors[tensor].shape;
        let shape: Vec<usize> = old.iter().zip(pads).map(|(d, (b, a))| d + b + a).collect();
        let flat = pads.iter().flat_map(|&(b, a)| pair([b, a])).collect();
        let amounts = self.int_constant(vec![pads.len(), 2], flat);
        if fill == 0.0 {
            return Ok(self.emit(Code::Pad, Options::of(Code::Pad), vec![tensor, amounts], shape, name));
        }
        let value = self.float_constant("fill", vec![1], &[fill]);
        Ok(self.emit(Code::PadV2, Options::of(Code::PadV2), vec![tensor, amounts, value], shape, name))
    }

    /// A bias of `count` values, zeros where the layer has none.
    pub(super) fn bias(&mut self, node: &Node, i: usize, count: usize, factor: f32) -> Lowers<usize> {
        let (name, values) = match node.input(i) {
            None => ("zeros".into(), vec![0.0; count]),
            Some(name) => {
                let (values, shape) = self.floats(node, i)?;
                let lies_last = shape.last().copied().unwrap_or(1) == values.len();
                let scaled = |v: &f32| v * factor;
                match values.len() {
                    n if n == count && lies_last => (name.to_string(), values.iter().map(scaled).collect()),
                    1 => (name.to_string(), vec![values[0] * factor; count]),
                    _ => return refuse(format!("its bias has the shape {shape:?}, not [{count}]")),
                }
            }
        };
        Ok(self.float_constant(&name, vec![count], &values))
    }

    pub(super) fn conv(&mut self, node: &Node, window: &Window, groups: usize) -> Lowers {
        let (value, shape) = self.image(node)?;
        let kernel = node.input(1).and_then(|name| self.constant(name)).map(|t| t.shape().to_vec());
        let Some(&[outputs, per_group, kh, kw]) = kernel.as_deref() else {
            return refuse("its kernel must be a constant of four axes");
        };
        let placement = self.placement(node, window, shape)?;
        let (tensor, same) = self.placed(node, value.tensor, placement, 0.0)?;
        let (strides, dilations) = (pair(window.strides), pair(window.dilations));
        let depthwise = groups > 1 && groups == shape[1] && per_group == 1;
        let order = match depthwise {
            // [M, 1, kh, kw] becomes [1, kh, kw, M].
            true => Arrangement::permuted(&[outputs, per_group, kh, kw], &[1, 2, 3, 0]),
            false => Arrangement::permuted(&[outputs, per_group, kh, kw], &CHANNELS_LAST),
        };
        let weight = self.weight(node, 1, order, 1.0)?;
        let bias = self.bias(node, 2, outputs, 1.0)?;
        let (code, options) = if depthwise {
            let multiplier = pair([outputs / groups, 0])[0];
            (Code::DepthwiseConv2d, Options::depthwise(same, strides, dilations, multiplier))
        } else {
            (Code::Conv2d, Options::conv(same, strides, dilations))
        };
        self.result(node, code, options, vec![tensor, weight, bias])
    }
}
