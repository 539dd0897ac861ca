//! What a layer is built from.

use slq_graph::Node;
use slq_kernels::Isa;

use crate::error::EngineError;
use crate::packed::PackedWeight;
use crate::program::{Mode, Operand, Step};

/// A step of the program, its node, and how it will be run.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub step: &'a Step,
    pub node: &'a Node,
    pub mode: Mode,
    pub isa: Isa,
    /// Which inputs need a gradient.
    pub wants: &'a [bool],
    /// Weights that stay packed.
    pub packed: &'a [PackedWeight],
}

impl<'a> Site<'a> {
    /// Required input `i`.
    pub fn operand(&self, i: usize) -> Result<&'a Operand, EngineError> {
        self.step.operand(i).ok_or_else(|| self.unsupported(format!("input {i} is missing")))
    }

    /// Shape of input `i`.
    pub fn shape(&self, i: usize) -> Result<&'a [usize], EngineError> {
        self.operand(i).map(|o| o.shape.as_slice())
    }

    /// Shape of input 0 as [N, C, H, W].
    pub fn image_shape(&self) -> Result<[usize; 4], EngineError> {
        let shape = self.shape(0)?;
        shape
            .try_into()
            .map_err(|_| self.unsupported(format!("data of shape {shape:?} is not N x C x H x W")))
    }

    /// Whether input `i` needs a gradient.
    pub fn wants(&self, i: usize) -> bool {
        self.wants.get(i).copied().unwrap_or(false)
    }

    /// Whether any input needs one.
    pub fn differentiates(&self) -> bool {
        self.wants.contains(&true)
    }

    pub fn unsupported(&self, reason: String) -> EngineError {
        EngineError::Unsupported { node: self.node.name.clone(), op: self.node.op.clone(), reason }
    }
}
