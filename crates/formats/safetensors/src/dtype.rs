//! Element types and bytes: safetensors' and the graph's.

use std::borrow::Cow;

use safetensors::Dtype;
use slq_graph::{DType, Tensor, TensorData};

/// Each element type that both sides know.
const TYPES: [(Dtype, DType); 13] = [
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::Bf16),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
    (Dtype::I16, DType::I16),
    (Dtype::I8, DType::I8),
    (Dtype::U64, DType::U64),
    (Dtype::U32, DType::U32),
    (Dtype::U16, DType::U16),
    (Dtype::U8, DType::U8),
    (Dtype::BOOL, DType::Bool),
];

pub(crate) fn from_file(dtype: Dtype) -> Option<DType> {
    TYPES.iter().find(|(theirs, _)| *theirs == dtype).map(|(_, ours)| *ours)
}

pub(crate) fn name(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::Bf16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::I16 => "I16",
        DType::I8 => "I8",
        DType::U64 => "U64",
        DType::U32 => "U32",
        DType::U16 => "U16",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
        _ => "an unknown type",
    }
}

/// The elements as the little-endian bytes of a file.
pub(crate) fn to_bytes(data: &TensorData) -> Cow<'_, [u8]> {
    match data {
        TensorData::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into(),
        TensorData::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into(),
        TensorData::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>().into(),
        TensorData::Bool(v) => v.iter().map(|&x| x.into()).collect::<Vec<u8>>().into(),
        TensorData::U8(v) => v.as_slice().into(),
        TensorData::Raw(_, bytes) => bytes.as_slice().into(),
        _ => Cow::Borrowed(&[]),
    }
}

pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Elements from the bytes of a file; the byte that is no Boolean otherwise.
pub(crate) fn from_bytes(dtype: DType, bytes: Vec<u8>) -> Result<TensorData, u8> {
    Ok(match dtype {
        DType::F32 => TensorData::F32(floats(&bytes)),
        DType::I64 => TensorData::I64(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
        DType::I32 => TensorData::I32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
        DType::U8 => TensorData::U8(bytes),
        DType::Bool => match bytes.iter().find(|&&b| b > 1) {
            Some(&other) => return Err(other),
            None => TensorData::Bool(bytes.iter().map(|&b| b == 1).collect()),
        },
        other => TensorData::Raw(other, bytes),
    })
}

/// Floats of 16 or 64 bits as floats of 32 (64 bits are rounded to nearest); anything else as it is.
pub(crate) fn widen(tensor: Tensor) -> Tensor {
    let values: Vec<f32> = match tensor.data() {
        TensorData::Raw(DType::F16, b) => {
            b.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect()
        }
        TensorData::Raw(DType::Bf16, b) => {
            b.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
        }
        TensorData::Raw(DType::F64, b) => {
            b.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect()
        }
        _ => return tensor,
    };
    Tensor::f32(tensor.shape().to_vec(), values).unwrap_or(tensor)
}
