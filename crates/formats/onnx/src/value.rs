//! Graph inputs and outputs.

use slq_graph::{Dim, ValueInfo};

use crate::element;
use crate::error::OnnxError;
use crate::proto::{DimProto, ShapeProto, TensorType, TypeProto, ValueInfoProto};

/// The declaration of a graph input or output. A negative extent, which some exporters write for a free one,
/// is unknown.
pub fn from_proto(proto: ValueInfoProto, side: &'static str) -> Result<ValueInfo, OnnxError> {
    let name = proto.name.unwrap_or_default();
    let unsupported = |kind: String| OnnxError::ValueType { name: name.clone(), side, kind };
    let ty = proto.ty.unwrap_or_default();
    let other = kind(&ty);
    let tensor = ty.tensor_type.ok_or_else(|| unsupported(other.into()))?;
    let code = tensor.elem_type.unwrap_or(0);
    let dtype = element::dtype(code).ok_or_else(|| {
        unsupported(if code == STRING { "of text".into() } else { format!("of the element type {code}") })
    })?;
    if name.is_empty() {
        return Err(unsupported("without a name".into()));
    }
    let dim = |d: DimProto| match (d.dim_value.map(usize::try_from), d.dim_param) {
        (Some(Ok(extent)), _) => Dim::Known(extent),
        (None, Some(symbol)) if !symbol.is_empty() => Dim::Symbol(symbol),
        _ => Dim::Unknown,
    };
    let shape = tensor.shape.map(|s| s.dim.into_iter().map(dim).collect());
    Ok(ValueInfo { name, dtype, shape })
}

/// ONNX's code of text.
const STRING: i32 = 8;

/// What a value that is no dense tensor is.
fn kind(ty: &TypeProto) -> &'static str {
    if ty.sequence_type.is_some() {
        "a sequence"
    } else if ty.map_type.is_some() {
        "a map"
    } else if ty.optional_type.is_some() {
        "an optional value"
    } else if ty.sparse_type.is_some() {
        "a sparse tensor"
    } else {
        "of no declared type"
    }
}

/// The message of a graph input or output.
pub fn to_proto(value: &ValueInfo) -> Result<ValueInfoProto, OnnxError> {
    let unsupported = || OnnxError::ValueType {
        name: value.name.clone(),
        side: "value",
        kind: "of a type or an extent that ONNX lacks".into(),
    };
    let dim = |d: &Dim| {
        Ok(match d {
            Dim::Known(extent) => DimProto {
                dim_value: Some(i64::try_from(*extent).map_err(|_| unsupported())?),
                dim_param: None,
            },
            Dim::Symbol(s) => DimProto { dim_value: None, dim_param: Some(s.clone()) },
            Dim::Unknown => DimProto::default(),
        })
    };
    let shape = match &value.shape {
        Some(dims) => Some(ShapeProto { dim: dims.iter().map(dim).collect::<Result<_, OnnxError>>()? }),
        None => None,
    };
    let elem_type = Some(element::code(value.dtype).ok_or_else(unsupported)?);
    Ok(ValueInfoProto {
        name: Some(value.name.clone()),
        ty: Some(TypeProto { tensor_type: Some(TensorType { elem_type, shape }), ..TypeProto::default() }),
    })
}
