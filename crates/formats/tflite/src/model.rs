//! A TensorFlow Lite model in memory: tensors and operators by number, before it is encoded.

use crate::schema::{Code, Element, Options};

/// A tensor: an activation, or a constant where it has data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorDef {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) element: Element,
    pub(crate) data: Option<Vec<u8>>,
    /// For a tensor that is decoded by more than one table: their number, and the axis that they follow.
    pub(crate) tables: Option<(usize, usize)>,
}

/// An operator on numbered tensors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OperatorDef {
    pub(crate) code: Code,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    pub(crate) options: Options,
}

/// A whole model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct ModelDef {
    pub(crate) name: String,
    pub(crate) tensors: Vec<TensorDef>,
    pub(crate) operators: Vec<OperatorDef>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    /// Names and contents of metadata buffers.
    pub(crate) metadata: Vec<(String, Vec<u8>)>,
}

impl ModelDef {
    /// Adds a tensor and returns its number.
    pub(crate) fn add(
        &mut self,
        name: &str,
        shape: Vec<usize>,
        element: Element,
        data: Option<Vec<u8>>,
    ) -> usize {
        self.tensors.push(TensorDef { name: name.into(), shape, element, data, tables: None });
        self.tensors.len() - 1
    }
}

/// The little-endian bytes of floats.
pub(crate) fn float_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// The little-endian bytes of 32-bit integers.
pub(crate) fn int_bytes(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
