//! Appending steps to a program.

use slq_graph::op::{BinaryOp, Op, UnaryOp};
use slq_graph::{DType, Node, element_count};
use slq_kernels::conv::Post;
use slq_kernels::elementwise::Broadcast;

use crate::error::EngineError;
use crate::memory;
use crate::program::{Operand, Program, Source, Step};

/// A value of `shape`, by its number.
pub(crate) fn new_value(program: &mut Program, shape: &[usize]) -> usize {
    program.lens.push(element_count(shape).unwrap_or_default());
    program.lens.len() - 1
}

/// Appends a step of node `node` whose output has `shape`.
pub(crate) fn push(
    program: &mut Program,
    node: usize,
    op: Op,
    inputs: Vec<Option<Operand>>,
    shape: &[usize],
) -> Operand {
    let output = new_value(program, shape);
    let shape = shape.to_vec();
    let (post, seen) = (Post::None, shape.clone());
    program.steps.push(Step { node, op, inputs, output, shape, post, fold: None, check: None });
    Operand { source: Source::Value(output), shape: seen }
}

/// Appends the steps of one node.
pub(crate) struct Emit<'p> {
    program: &'p mut Program,
    index: usize,
    node: &'p Node,
    /// Element types of the node's inputs.
    types: Vec<Option<DType>>,
}

impl<'p> Emit<'p> {
    pub fn new(program: &'p mut Program, index: usize, node: &'p Node, types: Vec<Option<DType>>) -> Self {
        Self { program, index, node, types }
    }

    /// Element type of input `i`.
    pub fn dtype(&self, i: usize) -> Option<DType> {
        self.types.get(i).copied().flatten()
    }

    pub fn unsupported(&self, reason: impl Into<String>) -> EngineError {
        EngineError::Unsupported {
            node: self.node.name.clone(),
            op: self.node.op.clone(),
            reason: reason.into(),
        }
    }

    /// Refuses a table of so many elements that there is no memory for.
    pub fn room(&self, elements: usize) -> Result<(), EngineError> {
        memory::check_free(1, elements.saturating_mul(8))
    }

    /// Refuses an output of another size than shape inference found.
    pub fn has_size_of(&self, output: &Operand, shape: &[usize]) -> Result<(), EngineError> {
        let computed = match output.source {
            Source::Value(value) => self.program.lens[value],
            _ => output.len(),
        };
        if computed == shape.iter().product::<usize>() && computed == output.len() {
            return Ok(());
        }
        let reason =
            format!("its inputs give {computed} values where its output {shape:?} has another number");
        Err(self.unsupported(reason))
    }

    /// A step whose output has `shape`.
    pub fn step(&mut self, op: Op, inputs: Vec<Option<Operand>>, shape: &[usize]) -> Operand {
        push(self.program, self.index, op, inputs, shape)
    }

    /// A step of one input.
    pub fn one(&mut self, op: Op, x: &Operand, shape: &[usize]) -> Operand {
        self.step(op, vec![Some(x.clone())], shape)
    }

    pub fn constant(&mut self, values: Vec<f32>, shape: &[usize]) -> Operand {
        self.step(Op::Constant { values }, Vec::new(), shape)
    }

    pub fn unary(&mut self, op: UnaryOp, x: &Operand) -> Operand {
        self.one(Op::Unary(op), x, &x.shape)
    }

    /// Two operands, broadcast against each other.
    pub fn binary(&mut self, op: BinaryOp, a: &Operand, b: &Operand) -> Result<Operand, EngineError> {
        let shape =
            Broadcast::new(&a.shape, &b.shape).map_err(|e| self.unsupported(e.to_string()))?.shape().to_vec();
        Ok(self.step(Op::Binary(op), vec![Some(a.clone()), Some(b.clone())], &shape))
    }

    /// An operand times a number.
    pub fn scaled(&mut self, x: &Operand, factor: f32) -> Result<Operand, EngineError> {
        if factor == 1.0 {
            return Ok(x.clone());
        }
        let factor = self.constant(vec![factor], &[1]);
        let shape = x.shape.clone();
        Ok(self.binary(BinaryOp::Mul, x, &factor)?.seen_as(&shape))
    }

    pub fn matmul(&mut self, a: &Operand, b: &Operand, shape: &[usize]) -> Operand {
        self.step(Op::MatMul, vec![Some(a.clone()), Some(b.clone())], shape)
    }

    /// Axis `i` of the result is axis `perm[i]` of `x`.
    pub fn transpose(&mut self, x: &Operand, perm: &[usize]) -> Operand {
        // Moving axes of extent 1 alone moves nothing.
        let wide: Vec<usize> = perm.iter().copied().filter(|&p| x.shape[p] != 1).collect();
        let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p]).collect();
        if wide.is_sorted() {
            return x.seen_as(&shape);
        }
        self.one(Op::Transpose { perm: perm.to_vec() }, x, &shape)
    }

    /// `count` elements from `start` on along `axis`, `step` apart.
    pub fn slice(&mut self, x: &Operand, axis: usize, [start, count, step]: [usize; 3]) -> Operand {
        if start == 0 && count == x.shape[axis] {
            return x.clone();
        }
        let mut ranges: Vec<(i64, i64, i64)> = x.shape.iter().map(|&d| (0, d as i64, 1)).collect();
        ranges[axis] = (start as i64, (start + (count.max(1) - 1) * step + 1) as i64, step as i64);
        let mut shape = x.shape.clone();
        shape[axis] = count;
        self.one(Op::Slice { ranges }, x, &shape)
    }

    /// Operands joined along `axis`.
    pub fn concat(&mut self, parts: &[Operand], axis: usize) -> Operand {
        if let [one] = parts {
            return one.clone();
        }
        let mut shape = parts.first().map(|p| p.shape.clone()).unwrap_or_default();
        shape[axis] = parts.iter().map(|p| p.shape[axis]).sum();
        self.step(Op::Concat { axis }, parts.iter().cloned().map(Some).collect(), &shape)
    }

    /// `x` repeated along axes of extent 1 until it has `shape`.
    pub fn expand(&mut self, x: &Operand, shape: &[usize]) -> Operand {
        if x.shape == shape {
            return x.clone();
        }
        self.one(Op::Expand { shape: shape.to_vec() }, x, shape)
    }
}
