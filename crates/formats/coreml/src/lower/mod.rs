//! From a typed operator to operations of an ML program (operator set of iOS 18).

mod elementwise;
mod layers;
mod layout;
mod norm;
mod pool;

use std::io::Write;

use slq_graph::Node;
use slq_graph::op::Op;

use crate::CoremlError;
use crate::builder::{Builder, Val};
use crate::mil::{Argument, DataType};

/// Most axes of a tensor in Core ML.
const RANK: usize = 5;

/// Why a node was not lowered.
pub enum Refusal {
    /// It has no counterpart; what of it has none. The other nodes are looked at all the same.
    Unsupported(String),
    /// Nothing can be written.
    Failed(CoremlError),
}

impl From<CoremlError> for Refusal {
    fn from(error: CoremlError) -> Self {
        Self::Failed(error)
    }
}

pub type Lowered = Result<(), Refusal>;

pub fn unsupported<T>(what: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Unsupported(what.into()))
}

/// Appends what computes `node`.
pub fn lower<W: Write>(b: &mut Builder<'_, W>, node: &Node, op: &Op) -> Lowered {
    let shapes = node.inputs.iter().chain(&node.outputs).filter_map(|n| b.shapes.get(n));
    if let Some(shape) = shapes.filter(|s| s.len() > RANK).max_by_key(|s| s.len()) {
        return unsupported(format!("a tensor of {} axes, Core ML has up to {RANK}", shape.len()));
    }
    match op {
        Op::Conv { window, groups } => layers::conv(b, node, window, *groups),
        Op::ConvTranspose { window, groups, output_padding } => {
            layers::conv_transpose(b, node, window, *groups, *output_padding)
        }
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            layers::gemm(b, node, [*alpha, *beta], [*trans_a, *trans_b])
        }
        Op::MatMul => layers::mat_mul(b, node),
        Op::MaxPool { window, ceil } => pool::max(b, node, window, *ceil),
        Op::AveragePool { window, ceil, count_include_pad } => {
            pool::average(b, node, window, *ceil, *count_include_pad)
        }
        Op::GlobalAveragePool => pool::global(b, node, "reduce_mean"),
        Op::GlobalMaxPool => pool::global(b, node, "reduce_max"),
        Op::BatchNorm { epsilon, .. } => norm::batch(b, node, *epsilon),
        Op::Lrn { size, alpha, beta, bias } => norm::local_response(b, node, *size, [*alpha, *beta, *bias]),
        Op::Normalize { over, epsilon } => norm::normalize(b, node, *over, *epsilon),
        Op::Softmax { axis, flatten, log } => norm::softmax(b, node, *axis, *flatten, *log),
        Op::Unary(function) => elementwise::unary(b, node, *function),
        Op::PRelu => elementwise::prelu(b, node),
        Op::Clip { min, max } => elementwise::clip(b, node, *min, *max),
        Op::Binary(function) => elementwise::binary(b, node, *function),
        Op::Chain(function) => elementwise::chain(b, node, *function),
        Op::Concat { axis } => layout::concat(b, node, *axis),
        Op::Split { axis, sizes } => layout::split(b, node, *axis, sizes),
        Op::Flatten { .. } | Op::Reshape { .. } => layout::reshape(b, node),
        Op::Transpose { perm } => layout::transpose(b, node, perm),
        Op::Slice { ranges } => layout::slice(b, node, ranges),
        Op::Pad { before, after, mode } => layout::pad(b, node, [before, after], *mode),
        Op::Reduce { reduction, axes, keep_dims } => layout::reduce(b, node, *reduction, axes, *keep_dims),
        Op::Gather { axis } => layout::gather(b, node, *axis),
        Op::Expand { .. } => layout::expand(b, node),
        Op::Dropout { .. } => layout::pass(b, node),
        Op::Identity => layout::identity(b, node),
        Op::Where => unsupported("a choice by a condition that depends on the input"),
        other => unsupported(format!("{other:?}")),
    }
}

impl<W: Write> Builder<'_, W> {
    /// Appends the operation that writes the node's first output.
    pub(crate) fn result(&mut self, node: &Node, kind: &str, inputs: &[(&str, Argument)]) {
        let Some(output) = node.outputs.first() else { return };
        let like = self.like(output);
        let made = self.op(kind, inputs, output, &like);
        self.values.insert(output.clone(), made);
    }

    /// Input `index` of the node as it is.
    pub(crate) fn input(&mut self, node: &Node, index: usize) -> Result<Val, Refusal> {
        match node.input(index) {
            Some(name) => Ok(self.value(name)?),
            None => unsupported(format!("input {index} is missing")),
        }
    }

    /// Input `index` of the node as floats.
    pub(crate) fn float_input(&mut self, node: &Node, index: usize) -> Result<Val, Refusal> {
        let value = self.input(node, index)?;
        Ok(self.cast(value, DataType::Float32))
    }

    /// The value in another element type.
    pub(crate) fn cast(&mut self, value: Val, data_type: DataType) -> Val {
        if value.data_type == data_type {
            return value;
        }
        let to = self.text(if data_type == DataType::Int32 { "int32" } else { "fp32" });
        let like = Val { data_type, ..value.clone() };
        let label = format!("{}_cast", value.name);
        self.op("cast", &[("x", value.arg()), ("dtype", to)], &label, &like)
    }
}

impl Val {
    /// The value as an argument.
    pub(crate) fn arg(&self) -> Argument {
        self.name.as_str().into()
    }

    /// The same type in another shape.
    pub(crate) fn with_shape(&self, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), ..self.clone() }
    }
}

/// The name of a helper's output: the node's output with a word behind.
pub fn part(node: &Node, word: &str) -> String {
    format!("{}_{word}", node.outputs.first().map_or("", String::as_str))
}
