//! Graph inputs and outputs.

use slq_graph::{Dim, ValueInfo};

use crate::element;
use crate::error::OnnxError;
use crate::proto::{DimProto, ShapeProto, TensorType, TypeProto, ValueInfoProto};

/// The declaration of a graph input or output. A negative extent, which some exporters write for a free one,
/// is unknown.
pub fn from_proto(proto: ValueInfoProto) -> Result<ValueInfo, OnnxError> {
    let name = proto.name.unwrap_or_default();
    let unsupported = || OnnxError::ValueType { name: name.clone() };
    let tensor = proto.ty.and_then(|t| t.tensor_type).ok_or_else(unsupported)?;
    let dtype = element::dtype(tensor.elem_type.unwrap_or(0)).ok_or_else(unsupported)?;
    if name.is_empty() {
        return Err(unsupported());
    }
    let dim = |d: DimProto| match (d.dim_value.map(usize::try_from), d.dim_param) {
        (Some(Ok(extent)), _) => Dim::Known(extent),
        (None, Some(symbol)) if !symbol.is_empty() => Dim::Symbol(symbol),
        _ => Dim::Unknown,
    };
    let shape = tensor.shape.map(|s| s.dim.into_iter().map(dim).collect());
    Ok(ValueInfo { name, dtype, shape })
}

/// The message of a graph input or output.
pub fn to_proto(value: &ValueInfo) -> Result<ValueInfoProto, OnnxError> {
    let unsupported = || OnnxError::ValueType { name: value.name.clone() };
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
        ty: Some(TypeProto { tensor_type: Some(TensorType { elem_type, shape }) }),
    })
}
