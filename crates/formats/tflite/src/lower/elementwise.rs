//! Functions of one element and of two, batch-norm, softmax.

use slq_graph::Node;
use slq_graph::op::UnaryOp;

use super::context::{Lowering, Lowers, output, refuse};
use crate::arrange::{Arrangement, CHANNELS_LAST, by_axis};
use crate::schema::{Activation, Code, Options};

impl Lowering<'_> {
    pub(super) fn unary(&mut self, node: &Node, unary: UnaryOp) -> Lowers {
        let code = match unary {
            UnaryOp::Relu => return self.activation(node, Activation::Relu, Code::Relu),
            UnaryOp::LeakyRelu { alpha } => {
                return self.function(node, Code::LeakyRelu, Options::leaky_relu(alpha));
            }
            UnaryOp::Elu { alpha: 1.0 } => Code::Elu,
            UnaryOp::Sigmoid => Code::Logistic,
            UnaryOp::Tanh => Code::Tanh,
            UnaryOp::HardSwish => Code::HardSwish,
            UnaryOp::Exp => Code::Exp,
            UnaryOp::Log => Code::Log,
            UnaryOp::Sqrt => Code::Sqrt,
            UnaryOp::Abs => Code::Abs,
            UnaryOp::Neg => Code::Neg,
            UnaryOp::Floor => Code::Floor,
            UnaryOp::Ceil => Code::Ceil,
            _ => return refuse("this function has no counterpart here"),
        };
        self.function(node, code, Options::of(code))
    }

    /// A function of each element; a flattened image stays in its order.
    fn function(&mut self, node: &Node, code: Code, options: Options) -> Lowers {
        let value = self.input(node, 0)?;
        let name = output(node)?;
        let shape = by_axis(&value.shape);
        let tensor = self.emit(code, options, vec![value.tensor], shape, name);
        self.bind(name, tensor, value.shape, value.image);
        Ok(())
    }

    /// An activation, in the layer before it where that can apply it.
    fn activation(&mut self, node: &Node, activation: Activation, code: Code) -> Lowers {
        let value = self.input(node, 0)?;
        if !self.fuse(&value, activation) {
            return self.function(node, code, Options::of(code));
        }
        let name = output(node)?;
        self.model.tensors[value.tensor].name = name.into();
        self.bind(name, value.tensor, value.shape, value.image);
        Ok(())
    }

    pub(super) fn clip(&mut self, node: &Node, min: f32, max: f32) -> Lowers {
        if min == 0.0 && max == 6.0 {
            return self.activation(node, Activation::Relu6, Code::Relu6);
        }
        if min == 0.0 && max == f32::INFINITY {
            return self.activation(node, Activation::Relu, Code::Relu);
        }
        let value = self.input(node, 0)?;
        let name = output(node)?;
        let mut tensor = value.tensor;
        // The lower bound comes first: where it is above the upper one, the upper one holds.
        for (code, bound) in [(Code::Maximum, min), (Code::Minimum, max)] {
            if bound.is_infinite() {
                continue;
            }
            let limit = self.float_constant("limit", vec![1; value.shape.len()], &[bound]);
            tensor = self.emit(code, Options::of(code), vec![tensor, limit], by_axis(&value.shape), name);
        }
        self.bind(name, tensor, value.shape.clone(), value.image);
        if tensor == value.tensor { self.alias(node) } else { Ok(()) }
    }

    /// All inputs combined one after the other, broadcast to the output's shape.
    pub(super) fn chain(&mut self, node: &Node, code: Code) -> Lowers {
        let shape = self.output_shape(node)?;
        let name = output(node)?.to_string();
        if shape.len() > 4 && matches!(code, Code::Maximum | Code::Minimum) {
            return refuse("it has more than four axes");
        }
        let mut left = self.operand(node, 0, shape.len())?;
        for i in 1..node.inputs.len() {
            let right = self.operand(node, i, shape.len())?;
            let between = broadcast(&self.model.tensors[left].shape, &self.model.tensors[right].shape);
            // What is between has a name of its own: other values than the result.
            let label = if i + 1 == node.inputs.len() { name.clone() } else { format!("{name}.{i}") };
            left = self.emit(code, Options::of(code), vec![left, right], between, &label);
        }
        self.bind(&name, left, shape, None);
        Ok(())
    }

    /// Input `i` with axes of extent 1 in front up to `rank`, in the file's order.
    fn operand(&mut self, node: &Node, i: usize, rank: usize) -> Lowers<usize> {
        let name = node.input(i).unwrap_or_default();
        let wide = |shape: &[usize]| {
            let mut wide = vec![1; rank.saturating_sub(shape.len())];
            wide.extend_from_slice(shape);
            wide
        };
        if self.constant(name).is_some() {
            let (values, shape) = self.floats(node, i)?;
            let shape = wide(&shape);
            let order = match rank {
                4 => Arrangement::permuted(&shape, &CHANNELS_LAST),
                _ => Arrangement::plain(&shape),
            };
            return Ok(self.float_constant(name, order.shape().to_vec(), &order.apply(&values)));
        }
        let value = self.input(node, i)?;
        if value.image.is_some() {
            return refuse("it reads a flattened image in another order than it was written");
        }
        if value.shape.len() == rank {
            return Ok(value.tensor);
        }
        let shape = wide(&value.shape);
        let label = format!("{name}.wide");
        let plain = self.reshape(value.tensor, &shape, &label);
        Ok(self.channels_last(plain, &shape, &label))
    }

    /// What is left of a batch-norm that no layer takes: a product and a sum.
    pub(super) fn batch_norm(&mut self, node: &Node, epsilon: f32) -> Lowers {
        let value = self.input(node, 0)?;
        if value.image.is_some() || value.shape.len() < 2 {
            return refuse("its input has no channels");
        }
        let channels = value.shape[1];
        let mut vectors = Vec::new();
        for i in 1..5 {
            let (values, shape) = self.floats(node, i)?;
            if values.len() != channels {
                return refuse(format!("its input {i} has the shape {shape:?}, not [{channels}]"));
            }
            vectors.push(values);
        }
        let scale: Vec<f64> = vectors[0]
            .iter()
            .zip(&vectors[3])
            .map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt())
            .collect();
        let terms = scale.iter().zip(vectors[1].iter().zip(&vectors[2]));
        let shift: Vec<f32> = terms.map(|(s, (&b, &m))| (f64::from(b) - f64::from(m) * s) as f32).collect();
        let scale: Vec<f32> = scale.into_iter().map(|s| s as f32).collect();
        let mut shape = vec![1; value.shape.len()];
        shape[1] = channels;
        let name = output(node)?;
        let shape = by_axis(&shape);
        let factor = self.float_constant(&format!("{name}.scale"), shape.clone(), &scale);
        let (code, file_shape) = (Code::Mul, by_axis(&value.shape));
        let product = self.emit(
            code,
            Options::of(code),
            vec![value.tensor, factor],
            file_shape,
            &format!("{name}.scaled"),
        );
        let term = self.float_constant(&format!("{name}.shift"), shape, &shift);
        self.report.kept_norms.push(node.name.clone());
        self.result(node, Code::Add, Options::of(Code::Add), vec![product, term])
    }

    pub(super) fn softmax(&mut self, node: &Node, axis: usize, flatten: bool, log: bool) -> Lowers {
        let value = self.input(node, 0)?;
        let rank = value.shape.len();
        let others = value.shape.get(axis + 1..).unwrap_or_default().iter().product::<usize>();
        let last = if rank == 4 { axis == 1 } else { axis + 1 == rank };
        // Old operator sets sum over everything from the axis on.
        if value.image.is_some() || !last || (flatten && others != 1) {
            return refuse("it is not taken over the channels");
        }
        let (code, options) = match log {
            true => (Code::LogSoftmax, Options::of(Code::LogSoftmax)),
            false => (Code::Softmax, Options::softmax()),
        };
        self.result(node, code, options, vec![value.tensor])
    }
}

/// The shape of two tensors of as many axes, broadcast against each other.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().zip(b).map(|(&a, &b)| a.max(b)).collect()
}
