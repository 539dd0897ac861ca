//! Element types of safetensors and of the graph.

use safetensors::Dtype;
use slq_graph::{DType, TensorData};

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

/// Elements from the bytes of a file; an error with the byte that is no Boolean otherwise.
pub(crate) fn from_bytes(dtype: DType, bytes: Vec<u8>) -> Result<TensorData, u8> {
    match bytes.iter().find(|&&b| b > 1).filter(|_| dtype == DType::Bool) {
        Some(&other) => Err(other),
        None => Ok(TensorData::from_le_bytes(dtype, bytes.into())),
    }
}

/// 32-bit floats from the bytes of a file.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
