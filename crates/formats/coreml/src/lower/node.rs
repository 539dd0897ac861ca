//! What the lowering of every operator uses: results, inputs, refusals.

use std::io::Write;

use slq_graph::Node;

use crate::builder::{Builder, Val};
use crate::error::CoremlError;
use crate::mil::{Argument, DataType};

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
