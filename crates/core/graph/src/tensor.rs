//! Typed dense tensors in row-major order.

use crate::error::GraphError;

/// Element type of a tensor, after ONNX's `TensorProto.DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[allow(missing_docs)] // each variant says what it is
#[non_exhaustive]
pub enum DType {
    F32,
    F64,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

impl DType {
    /// Bytes of one element as stored in a file.
    pub fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::Bf16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }
}

/// The elements of a tensor. Types that no operator here computes with are kept as little-endian bytes, so
/// that a file can be written back unchanged.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TensorData {
    /// 32-bit floats: weights and activations.
    F32(Vec<f32>),
    /// 64-bit integers: shapes, axes, indices.
    I64(Vec<i64>),
    /// 32-bit integers.
    I32(Vec<i32>),
    /// Bytes: packed codes, images.
    U8(Vec<u8>),
    /// Booleans, one byte each.
    Bool(Vec<bool>),
    /// Any other type, as little-endian bytes.
    Raw(DType, Vec<u8>),
}

/// A dense tensor: a shape and its elements in row-major order. The number of elements always matches the shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    data: TensorData,
}

/// Number of elements of `shape`, or `None` where the product overflows.
pub fn element_count(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl Tensor {
    /// A tensor of `shape` over `data`.
    ///
    /// # Errors
    /// [`GraphError::ElementCount`] where shape and data disagree.
    pub fn new(shape: Vec<usize>, data: TensorData) -> Result<Self, GraphError> {
        let tensor = Self { shape, data };
        if element_count(&tensor.shape) != Some(tensor.stored_len()) {
            return Err(GraphError::ElementCount { elements: tensor.stored_len(), shape: tensor.shape });
        }
        Ok(tensor)
    }

    /// A float tensor.
    ///
    /// # Errors
    /// [`GraphError::ElementCount`] where shape and values disagree.
    pub fn f32(shape: Vec<usize>, values: Vec<f32>) -> Result<Self, GraphError> {
        Self::new(shape, TensorData::F32(values))
    }

    /// A one-dimensional tensor of 64-bit integers.
    pub fn i64_vector(values: Vec<i64>) -> Self {
        Self { shape: vec![values.len()], data: TensorData::I64(values) }
    }

    fn stored_len(&self) -> usize {
        match &self.data {
            TensorData::F32(v) => v.len(),
            TensorData::I64(v) => v.len(),
            TensorData::I32(v) => v.len(),
            TensorData::U8(v) => v.len(),
            TensorData::Bool(v) => v.len(),
            TensorData::Raw(t, v) => v.len() / t.size(),
        }
    }

    /// The shape, outermost dimension first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.stored_len()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.stored_len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        match &self.data {
            TensorData::F32(_) => DType::F32,
            TensorData::I64(_) => DType::I64,
            TensorData::I32(_) => DType::I32,
            TensorData::U8(_) => DType::U8,
            TensorData::Bool(_) => DType::Bool,
            TensorData::Raw(t, _) => *t,
        }
    }

    /// The elements.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// The elements as floats, if this is a float tensor.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if let TensorData::F32(v) = &self.data { Some(v) } else { None }
    }

    /// The elements as floats, to be changed in place.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        if let TensorData::F32(v) = &mut self.data { Some(v) } else { None }
    }

    /// Integer elements (64-bit, 32-bit, 8-bit or Boolean) widened to 64 bits.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &self.data {
            TensorData::I64(v) => Some(v.clone()),
            TensorData::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            TensorData::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            TensorData::Bool(v) => Some(v.iter().map(|&x| x.into()).collect()),
            _ => None,
        }
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`GraphError::ElementCount`] where the number of elements would change.
    pub fn reshape(self, shape: Vec<usize>) -> Result<Self, GraphError> {
        Self::new(shape, self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_and_data_must_agree() {
        assert!(Tensor::f32(vec![2, 3], vec![0.0; 6]).is_ok());
        assert!(Tensor::f32(vec![2, 3], vec![0.0; 5]).is_err());
        assert!(Tensor::f32(vec![usize::MAX, 2], vec![0.0; 2]).is_err());
        assert!(Tensor::new(vec![2], TensorData::Raw(DType::F16, vec![0; 4])).is_ok());
    }

    #[test]
    fn a_scalar_has_one_element() {
        let t = Tensor::f32(vec![], vec![7.0]).unwrap();
        assert_eq!((t.len(), t.dtype()), (1, DType::F32));
    }

    #[test]
    fn integers_widen() {
        let t = Tensor::new(vec![2], TensorData::I32(vec![-1, 5])).unwrap();
        assert_eq!(t.to_i64(), Some(vec![-1, 5]));
        assert_eq!(Tensor::f32(vec![1], vec![1.0]).unwrap().to_i64(), None);
    }
}
