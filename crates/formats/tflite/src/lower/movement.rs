//! Operators that move, join or cut elements.

use slq_graph::Node;
use slq_graph::op::PadMode;

use super::context::{Lowering, Lowers, output, refuse};
use crate::arrange::{CHANNELS_LAST, FROM_CHANNELS_FIRST, axis_in_file, by_axis};
use crate::schema::{Code, Options};

/// Functions of single elements, which leave the order of a flattened image alone.
const ELEMENTWISE: &[&str] = &[
    "Relu",
    "Clip",
    "Identity",
    "Dropout",
    "Sigmoid",
    "Tanh",
    "LeakyRelu",
    "HardSwish",
    "Elu",
    "Exp",
    "Log",
    "Sqrt",
    "Abs",
    "Neg",
    "Floor",
    "Ceil",
];

impl Lowering<'_> {
    /// `Flatten`, `Reshape`, `Squeeze` and `Unsqueeze`.
    pub(super) fn view(&mut self, node: &Node) -> Lowers {
        let value = self.input(node, 0)?;
        let shape = self.output_shape(node)?;
        let name = output(node)?.to_string();
        if value.shape == shape {
            return self.alias(node);
        }
        if let &[n, c, h, w] = value.shape.as_slice()
            && c > 1
            && h * w > 1
            && shape == [n, c * h * w]
            && self.only_dense(&name, 0)
        {
            // The layers that read it get their columns in this order instead.
            let tensor = self.reshape(value.tensor, &shape, &name);
            self.bind(&name, tensor, shape, Some([c, h, w]));
            return Ok(());
        }
        let needs_order = |s: &[usize]| matches!(s, &[_, c, h, w] if c > 1 && h * w > 1);
        let (tensor, _) = match needs_order(&value.shape) {
            true => self.plain_input(node, 0)?,
            // The elements lie in ONNX's order already.
            false if value.image.is_none() => (value.tensor, Vec::new()),
            false => return refuse("it reads a flattened image in another order than it was written"),
        };
        let tensor = match needs_order(&shape) {
            true => {
                let plain = self.reshape(tensor, &shape, &format!("{name}.nchw"));
                self.channels_last(plain, &shape, &name)
            }
            false => self.reshape(tensor, &by_axis(&shape), &name),
        };
        self.bind(&name, tensor, shape, None);
        Ok(())
    }

    /// Whether only dense layers with constant matrices read `name`, directly or behind functions of single elements.
    fn only_dense(&self, name: &str, depth: usize) -> bool {
        if depth > 64 || self.graph.outputs.iter().any(|o| o.name == name) {
            return false;
        }
        if self.graph.nodes.iter().any(Node::may_hold_subgraph) {
            return false;
        }
        let reads_it = |node: &Node| {
            let first = node.input(0) == Some(name) && node.inputs.iter().skip(1).all(|i| i != name);
            let stored = |name| self.turned.get(name).copied().unwrap_or(name);
            let matrix =
                node.input(1).and_then(|w| self.constant(stored(w))).is_some_and(|t| t.shape().len() == 2);
            first
                && match node.op.as_str() {
                    "Gemm" => matrix && node.int("transA", 0) == 0,
                    "MatMul" => matrix,
                    op if ELEMENTWISE.contains(&op) => {
                        node.outputs.first().is_some_and(|o| self.only_dense(o, depth + 1))
                    }
                    _ => false,
                }
        };
        self.graph.consumers_of(name).all(reads_it)
    }

    pub(super) fn transposed(&mut self, node: &Node, perm: &[usize]) -> Lowers {
        let value = self.input(node, 0)?;
        if value.image.is_some() {
            return refuse("it reads a flattened image in another order than it was written");
        }
        let order: Vec<usize> = match perm.len() {
            4 => CHANNELS_LAST.iter().map(|&axis| FROM_CHANNELS_FIRST[perm[axis]]).collect(),
            _ => perm.to_vec(),
        };
        if order.is_sorted() {
            return self.alias(node);
        }
        if perm.len() > 5 {
            return refuse("it has more than five axes");
        }
        let name = output(node)?;
        let tensor = self.transpose(value.tensor, &order, name);
        let shape = self.output_shape(node)?;
        self.bind(name, tensor, shape, None);
        Ok(())
    }

    pub(super) fn concat(&mut self, node: &Node, axis: usize) -> Lowers {
        let rank = self.output_shape(node)?.len();
        let mut inputs = Vec::new();
        for i in 0..node.inputs.len() {
            let value = self.input(node, i)?;
            if value.image.is_some() {
                return refuse("it reads a flattened image in another order than it was written");
            }
            inputs.push(value.tensor);
        }
        let axis = i32::try_from(axis_in_file(axis, rank)).unwrap_or(i32::MAX);
        self.result(node, Code::Concatenation, Options::concatenation(axis), inputs)
    }

    pub(super) fn slice(&mut self, node: &Node, ranges: &[(i64, i64, i64)]) -> Lowers {
        let value = self.input(node, 0)?;
        if ranges.iter().any(|&(_, _, step)| step < 0) {
            return refuse("it runs backwards");
        }
        if ranges.len() > 5 || value.image.is_some() {
            return refuse("it has more than five axes");
        }
        let file = by_axis(ranges);
        let list = |part: fn(&(i64, i64, i64)) -> i64| -> Vec<i32> {
            file.iter().map(|r| i32::try_from(part(r)).unwrap_or(i32::MAX)).collect()
        };
        let parts = [list(|r| r.0), list(|r| r.1), list(|r| r.2)];
        let mut inputs = vec![value.tensor];
        inputs.extend(parts.map(|p| self.int_constant(vec![p.len()], p)));
        self.result(node, Code::StridedSlice, Options::of(Code::StridedSlice), inputs)
    }

    /// One slice for each part.
    pub(super) fn split(&mut self, node: &Node, axis: usize, sizes: &[usize]) -> Lowers {
        let value = self.input(node, 0)?;
        if value.image.is_some() || value.shape.len() > 5 {
            return refuse("it has more than five axes");
        }
        let mut from = 0;
        for (name, &size) in node.outputs.iter().zip(sizes) {
            let mut ranges: Vec<(i32, i32)> = value.shape.iter().map(|&d| (0, d as i32)).collect();
            ranges[axis] = (from as i32, (from + size) as i32);
            from += size;
            if name.is_empty() {
                continue;
            }
            let file = by_axis(&ranges);
            let begin = self.int_constant(vec![file.len()], file.iter().map(|r| r.0).collect());
            let end = self.int_constant(vec![file.len()], file.iter().map(|r| r.1).collect());
            let steps = self.int_constant(vec![file.len()], vec![1; file.len()]);
            let mut shape = value.shape.clone();
            shape[axis] = size;
            let read = vec![value.tensor, begin, end, steps];
            let options = Options::of(Code::StridedSlice);
            let tensor = self.emit(Code::StridedSlice, options, read, by_axis(&shape), name);
            self.bind(name, tensor, shape, None);
        }
        Ok(())
    }

    pub(super) fn pad(&mut self, node: &Node, before: &[i64], after: &[i64], mode: PadMode) -> Lowers {
        let PadMode::Constant(fill) = mode else { return refuse("it does not fill with a constant") };
        let value = self.input(node, 0)?;
        if value.image.is_some() {
            return refuse("it reads a flattened image in another order than it was written");
        }
        let sizes = |&(b, a): &(&i64, &i64)| Some((usize::try_from(*b).ok()?, usize::try_from(*a).ok()?));
        let pairs: Option<Vec<(usize, usize)>> = before.iter().zip(after).map(|p| sizes(&p)).collect();
        let Some(pairs) = pairs else { return refuse("it cuts elements off: negative padding") };
        let name = output(node)?;
        let tensor = self.padded(value.tensor, &by_axis(&pairs), fill, name)?;
        let shape = self.output_shape(node)?;
        self.bind(name, tensor, shape, None);
        Ok(())
    }
}
