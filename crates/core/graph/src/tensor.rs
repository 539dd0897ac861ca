//! Typed dense tensors in row-major order.

use std::borrow::Cow;

use half::{bf16, f16};

use crate::dtype::DType;
use crate::error::GraphError;

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

impl TensorData {
    /// The elements of type `dtype` that a file holds as little-endian bytes; a Boolean is true unless it is 0. Bytes
    /// that do not fill an element are left out.
    pub fn from_le_bytes(dtype: DType, bytes: Cow<'_, [u8]>) -> Self {
        match dtype {
            DType::F32 => TensorData::F32(elements(&bytes, f32::from_le_bytes)),
            DType::I64 => TensorData::I64(elements(&bytes, i64::from_le_bytes)),
            DType::I32 => TensorData::I32(elements(&bytes, i32::from_le_bytes)),
            DType::U8 => TensorData::U8(bytes.into_owned()),
            DType::Bool => TensorData::Bool(bytes.iter().map(|&b| b != 0).collect()),
            other => TensorData::Raw(other, bytes.into_owned()),
        }
    }

    /// The elements as the little-endian bytes of a file.
    pub fn to_le_bytes(&self) -> Cow<'_, [u8]> {
        match self {
            TensorData::F32(v) => bytes(v, f32::to_le_bytes).into(),
            TensorData::I64(v) => bytes(v, i64::to_le_bytes).into(),
            TensorData::I32(v) => bytes(v, i32::to_le_bytes).into(),
            TensorData::U8(v) => v.as_slice().into(),
            TensorData::Bool(v) => bytes(v, |x| [u8::from(x)]).into(),
            TensorData::Raw(_, v) => v.as_slice().into(),
        }
    }

    /// Floats of the width of `dtype`, each value rounded to nearest; `None` for types that are not floats.
    pub fn floats(dtype: DType, values: Vec<f32>) -> Option<Self> {
        Some(match dtype {
            DType::F32 => TensorData::F32(values),
            DType::F16 => TensorData::Raw(dtype, bytes(&values, |v| f16::from_f32(v).to_le_bytes())),
            DType::Bf16 => TensorData::Raw(dtype, bytes(&values, |v| bf16::from_f32(v).to_le_bytes())),
            DType::F64 => TensorData::Raw(dtype, bytes(&values, |v| f64::from(v).to_le_bytes())),
            _ => return None,
        })
    }

    /// Whether both hold the same elements bit for bit: NaN equals itself, 0 is not -0.
    pub fn is_identical(&self, other: &TensorData) -> bool {
        match (self, other) {
            (TensorData::F32(a), TensorData::F32(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            (a, b) => a == b,
        }
    }
}

fn elements<T, const N: usize>(bytes: &[u8], element: fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|b| element(*b)).collect()
}

fn bytes<T: Copy, const N: usize>(values: &[T], element: fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(values.len() * N);
    values.iter().for_each(|&v| bytes.extend_from_slice(&element(v)));
    bytes
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

    /// The elements, given away without a copy.
    pub fn into_data(self) -> TensorData {
        self.data
    }

    /// The elements as floats, if this is a float tensor.
    pub fn as_f32(&self) -> Option<&[f32]> {
        if let TensorData::F32(v) = &self.data { Some(v) } else { None }
    }

    /// The elements as floats, to be changed in place.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        if let TensorData::F32(v) = &mut self.data { Some(v) } else { None }
    }

    /// The elements of a tensor of floats of any width as 32-bit floats: 16 bits are widened exactly, 64 bits rounded to
    /// nearest. `None` for other types.
    pub fn to_f32(&self) -> Option<Cow<'_, [f32]>> {
        Some(match &self.data {
            TensorData::F32(v) => v.as_slice().into(),
            TensorData::Raw(DType::F16, b) => elements(b, |b| f16::from_le_bytes(b).to_f32()).into(),
            TensorData::Raw(DType::Bf16, b) => elements(b, |b| bf16::from_le_bytes(b).to_f32()).into(),
            TensorData::Raw(DType::F64, b) => elements(b, |b| f64::from_le_bytes(b) as f32).into(),
            _ => return None,
        })
    }

    /// A tensor of floats of the width of `dtype`, each value rounded to nearest.
    ///
    /// # Errors
    /// [`GraphError::ElementCount`] where shape and values disagree, [`GraphError::NotFloats`] for another type.
    pub fn floats(shape: Vec<usize>, dtype: DType, values: Vec<f32>) -> Result<Self, GraphError> {
        Self::new(shape, TensorData::floats(dtype, values).ok_or(GraphError::NotFloats { dtype })?)
    }

    /// A tensor of floats of any width as [`Tensor::to_f32`] gives it; any other tensor as it is.
    pub fn widened(self) -> Self {
        match self.to_f32() {
            Some(Cow::Owned(values)) => Self { data: TensorData::F32(values), ..self },
            _ => self,
        }
    }

    /// Integer elements of any width, or Booleans, widened to 64 bits; `None` for floats, and for unsigned integers of 64 bits
    /// that are too large.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        match &self.data {
            TensorData::I64(v) => Some(v.clone()),
            TensorData::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
            TensorData::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
            TensorData::Bool(v) => Some(v.iter().map(|&x| x.into()).collect()),
            TensorData::Raw(DType::I8, b) => Some(elements(b, |b| i8::from_le_bytes(b).into())),
            TensorData::Raw(DType::I16, b) => Some(elements(b, |b| i16::from_le_bytes(b).into())),
            TensorData::Raw(DType::U16, b) => Some(elements(b, |b| u16::from_le_bytes(b).into())),
            TensorData::Raw(DType::U32, b) => Some(elements(b, |b| u32::from_le_bytes(b).into())),
            TensorData::Raw(DType::U64, b) => {
                elements(b, |b| i64::try_from(u64::from_le_bytes(b)).ok()).into_iter().collect()
            }
            _ => None,
        }
    }

    /// Integers of 64 bits as elements of `dtype`, each of which must hold it; `None` for floats, and where one does not
    /// fit.
    pub fn integers(shape: Vec<usize>, dtype: DType, values: &[i64]) -> Option<Self> {
        fn all<T: TryFrom<i64>, const N: usize>(
            values: &[i64],
            element: fn(T) -> [u8; N],
        ) -> Option<Vec<u8>> {
            let narrow: Option<Vec<T>> = values.iter().map(|&v| T::try_from(v).ok()).collect();
            Some(narrow?.into_iter().flat_map(element).collect())
        }
        let bytes = match dtype {
            DType::I64 => all(values, i64::to_le_bytes),
            DType::I32 => all(values, i32::to_le_bytes),
            DType::I16 => all(values, i16::to_le_bytes),
            DType::I8 => all(values, i8::to_le_bytes),
            DType::U64 => all(values, u64::to_le_bytes),
            DType::U32 => all(values, u32::to_le_bytes),
            DType::U16 => all(values, u16::to_le_bytes),
            DType::U8 => all(values, u8::to_le_bytes),
            DType::Bool => Some(values.iter().map(|&v| u8::from(v != 0)).collect()),
            _ => None,
        }?;
        Self::new(shape, TensorData::from_le_bytes(dtype, bytes.into())).ok()
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
        assert_eq!(Tensor::f32(vec![1], vec![3.0]).unwrap().into_data(), TensorData::F32(vec![3.0]));
    }

    #[test]
    fn a_scalar_has_one_element() {
        let t = Tensor::f32(vec![], vec![7.0]).unwrap();
        assert_eq!((t.len(), t.dtype()), (1, DType::F32));
    }

    #[test]
    fn bytes_come_back_in_every_type() {
        let types =
            [DType::F32, DType::F64, DType::F16, DType::I64, DType::I32, DType::U8, DType::Bool, DType::U16];
        for dtype in types {
            let stored: Vec<u8> =
                (0..16u8).map(|i| if dtype == DType::Bool { i % 2 } else { 17 * i }).collect();
            let data = TensorData::from_le_bytes(dtype, stored.as_slice().into());
            assert_eq!(data.to_le_bytes(), stored, "{dtype:?}");
            let tensor = Tensor::new(vec![16 / dtype.size()], data).unwrap();
            assert_eq!(tensor.dtype(), dtype);
        }
    }

    #[test]
    fn identity_is_by_bits() {
        let data = |v: f32| TensorData::F32(vec![v]);
        assert!(data(f32::NAN).is_identical(&data(f32::NAN)));
        assert!(!data(0.0).is_identical(&data(-0.0)));
        assert!(!data(0.0).is_identical(&TensorData::I32(vec![0])));
    }

    #[test]
    fn floats_of_other_widths_become_32_bits_wide() {
        let raw = |dtype, bytes: &[u8]| Tensor::new(vec![1], TensorData::Raw(dtype, bytes.to_vec())).unwrap();
        let value = |t: &Tensor| t.to_f32().map(|v| v[0]);
        assert_eq!(value(&raw(DType::F16, &[0, 0xbe])), Some(-1.5));
        assert_eq!(value(&raw(DType::Bf16, &[0xc0, 0x3f])), Some(1.5));
        assert_eq!(value(&raw(DType::F64, &0.1f64.to_le_bytes())), Some(0.1));
        assert_eq!(value(&Tensor::i64_vector(vec![1])), None);
        let wide = raw(DType::F64, &0.1f64.to_le_bytes()).widened();
        assert_eq!(wide, Tensor::f32(vec![1], vec![0.1]).unwrap());
        assert_eq!(Tensor::i64_vector(vec![1]).widened(), Tensor::i64_vector(vec![1]));
    }

    #[test]
    fn floats_are_stored_in_the_width_asked_for() {
        let values = vec![0.1, -2.5, 0.0];
        for dtype in [DType::F32, DType::F16, DType::Bf16, DType::F64] {
            let tensor = Tensor::floats(vec![3], dtype, values.clone()).unwrap();
            let rounded: Vec<f32> = values.iter().map(|&v| dtype.round(v)).collect();
            assert_eq!((tensor.dtype(), tensor.to_f32().unwrap().to_vec()), (dtype, rounded));
        }
        assert_eq!(DType::F16.round(0.1), 0.099_975_586);
        assert_eq!(DType::Bf16.round(0.1), 0.100_097_656);
        assert!(Tensor::floats(vec![3], DType::I8, values).is_err());
    }

    #[test]
    fn integers_widen() {
        let t = Tensor::new(vec![2], TensorData::I32(vec![-1, 5])).unwrap();
        assert_eq!(t.to_i64(), Some(vec![-1, 5]));
        for dtype in [DType::I8, DType::I16, DType::I32, DType::I64] {
            let t = Tensor::integers(vec![2], dtype, &[-7, 100]).unwrap();
            assert_eq!((t.dtype(), t.to_i64()), (dtype, Some(vec![-7, 100])));
        }
        for dtype in [DType::U8, DType::U16, DType::U32, DType::U64] {
            let t = Tensor::integers(vec![2], dtype, &[7, 200]).unwrap();
            assert_eq!((t.dtype(), t.to_i64()), (dtype, Some(vec![7, 200])));
            assert_eq!(Tensor::integers(vec![1], dtype, &[-1]), None);
        }
        let huge = Tensor::new(vec![1], TensorData::Raw(DType::U64, vec![255; 8])).unwrap();
        assert_eq!(huge.to_i64(), None);
        assert_eq!(Tensor::f32(vec![1], vec![1.0]).unwrap().to_i64(), None);
    }
}
