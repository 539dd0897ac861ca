//! A TensorFlow Lite model in memory: tensors and operators by number, before it is encoded.

use crate::schema::{Code, Element, Options};

/// A tensor: an activation, or a constant where it has data.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorDef {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) element: Element,
    pub(crate) data: Option<Vec<u8>>,
    /// Of integers: what they stand for. Of floats that more than one table decodes: as many scales of 1 as there are tables.
    pub(crate) quantization: Option<Quantization>,
}

/// What the integers of a tensor stand for: (integer - zero point) x scale, with one of both or one for each position of an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantization {
    pub(crate) scales: Vec<f32>,
    pub(crate) zeros: Vec<i64>,
    pub(crate) axis: usize,
}

impl Quantization {
    /// Scales of 1, whose only use is to tell the decoder how many tables there are.
    pub(crate) fn tables(count: usize, axis: usize) -> Self {
        Self::symmetric(vec![1.0; count], axis)
    }

    /// Integers about zero.
    pub(crate) fn symmetric(scales: Vec<f32>, axis: usize) -> Self {
        Self { zeros: vec![0; scales.len()], scales, axis }
    }
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
        self.tensors.push(TensorDef { name: name.into(), shape, element, data, quantization: None });
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

/// The floats that little-endian bytes hold.
pub(crate) fn floats_of(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// The values of a constant of floats.
pub(crate) fn floats(tensor: &TensorDef) -> Option<Vec<f32>> {
    tensor.data.as_deref().filter(|_| tensor.element == Element::F32).map(floats_of)
}
