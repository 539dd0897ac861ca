//! Tensors of a file to tensors of a graph and back.

use prost::bytes::Bytes;
use slq_graph::{DType, Tensor, TensorData, element_count};

use crate::error::OnnxError;
use crate::external::External;
use crate::proto::TensorProto;

/// Element types and their codes in ONNX.
const TYPES: [(i32, DType); 13] = [
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (16, DType::Bf16),
];

/// The element type with ONNX's code `code`.
pub fn dtype(code: i32) -> Option<DType> {
    TYPES.iter().find(|(c, _)| *c == code).map(|(_, t)| *t)
}

/// ONNX's code of an element type.
pub fn code(dtype: DType) -> Option<i32> {
    TYPES.iter().find(|(_, t)| *t == dtype).map(|(c, _)| *c)
}

/// The tensor of a message, its shape checked against its data before anything is allocated.
pub fn to_tensor(proto: &TensorProto, name: &str, external: &mut External) -> Result<Tensor, OnnxError> {
    let tensor = || name.to_string();
    if proto.segment.is_some() {
        return Err(OnnxError::Segmented { tensor: tensor() });
    }
    let code = proto.data_type.unwrap_or(0);
    let dtype = dtype(code).ok_or_else(|| OnnxError::ElementType { tensor: tensor(), code })?;
    let mut shape = Vec::with_capacity(proto.dims.len());
    for &dim in &proto.dims {
        let extent =
            usize::try_from(dim).map_err(|_| OnnxError::NegativeDimension { tensor: tensor(), dim })?;
        shape.push(extent);
    }
    let count = element_count(&shape);
    let mismatch =
        |stored, unit| OnnxError::TensorData { tensor: name.into(), shape: shape.clone(), stored, unit };

    let data = if proto.data_location == Some(1) {
        let bytes = count.and_then(|n| n.checked_mul(dtype.size()));
        let bytes = bytes.ok_or_else(|| mismatch(0, "bytes"))?;
        TensorData::from_le_bytes(dtype, external.load(&proto.external_data, bytes, name)?.into())
    } else if let Some(raw) = proto.raw_data.as_ref().filter(|raw| !raw.is_empty() || count == Some(0)) {
        if count.and_then(|n| n.checked_mul(dtype.size())) != Some(raw.len()) {
            return Err(mismatch(raw.len(), "bytes"));
        }
        TensorData::from_le_bytes(dtype, raw.as_ref().into())
    } else {
        let stored = match dtype {
            DType::F32 => proto.float_data.len(),
            DType::F64 => proto.double_data.len(),
            DType::I64 => proto.int64_data.len(),
            DType::U32 | DType::U64 => proto.uint64_data.len(),
            _ => proto.int32_data.len(),
        };
        if count != Some(stored) {
            return Err(mismatch(stored, "elements"));
        }
        from_fields(proto, dtype, name)?
    };
    Ok(Tensor::new(shape, data)?)
}

fn from_fields(proto: &TensorProto, dtype: DType, name: &str) -> Result<TensorData, OnnxError> {
    let range = |value: i64| OnnxError::ElementRange { tensor: name.into(), value };
    let narrow = |low: i32, high: i32| match proto.int32_data.iter().find(|v| !(low..=high).contains(*v)) {
        Some(&v) => Err(range(v.into())),
        None => Ok(proto.int32_data.as_slice()),
    };
    let (u16_max, i16_range) = (i32::from(u16::MAX), (i32::from(i16::MIN), i32::from(i16::MAX)));
    let pairs = |v: &[i32]| v.iter().flat_map(|&x| (x as u16).to_le_bytes()).collect::<Vec<u8>>();
    Ok(match dtype {
        DType::F32 => TensorData::F32(proto.float_data.clone()),
        DType::I64 => TensorData::I64(proto.int64_data.clone()),
        DType::I32 => TensorData::I32(proto.int32_data.clone()),
        DType::U8 => TensorData::U8(narrow(0, 255)?.iter().map(|&x| x as u8).collect()),
        DType::Bool => TensorData::Bool(proto.int32_data.iter().map(|&x| x != 0).collect()),
        DType::I8 => TensorData::Raw(dtype, narrow(-128, 127)?.iter().map(|&x| x as u8).collect()),
        DType::I16 => TensorData::Raw(dtype, pairs(narrow(i16_range.0, i16_range.1)?)),
        DType::U16 | DType::F16 | DType::Bf16 => TensorData::Raw(dtype, pairs(narrow(0, u16_max)?)),
        DType::F64 => {
            TensorData::Raw(dtype, proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        DType::U64 => {
            TensorData::Raw(dtype, proto.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect())
        }
        DType::U32 => {
            let mut bytes = Vec::with_capacity(4 * proto.uint64_data.len());
            for &x in &proto.uint64_data {
                let value = u32::try_from(x).map_err(|_| range(i64::try_from(x).unwrap_or(i64::MAX)))?;
                bytes.extend(value.to_le_bytes());
            }
            TensorData::Raw(dtype, bytes)
        }
        _ => return Err(OnnxError::ElementType { tensor: name.into(), code: proto.data_type.unwrap_or(0) }),
    })
}

/// The message of a tensor, data as raw bytes.
pub fn from_tensor(name: &str, tensor: &Tensor) -> Result<TensorProto, OnnxError> {
    let unsupported = || OnnxError::ElementType { tensor: name.into(), code: 0 };
    let dim = |&d: &usize| i64::try_from(d).map_err(|_| unsupported());
    Ok(TensorProto {
        dims: tensor.shape().iter().map(dim).collect::<Result<_, _>>()?,
        data_type: Some(code(tensor.dtype()).ok_or_else(unsupported)?),
        name: (!name.is_empty()).then(|| name.into()),
        raw_data: Some(Bytes::from(tensor.data().to_le_bytes().into_owned())),
        ..TensorProto::default()
    })
}
