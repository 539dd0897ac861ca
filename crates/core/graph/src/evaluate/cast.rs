//! `Cast` of constants, to the types that networks compute with: 32-bit floats, integers, Booleans.

use crate::dtype::DType;
use crate::tensor::{Tensor, TensorData};

/// ONNX's codes of element types.
pub(super) const FLOAT: i64 = 1;
const INT32: i64 = 6;
const INT64: i64 = 7;
const BOOL: i64 = 9;

/// The tensor with its elements as type `to`: integers round to nearest as floats, floats lose their fraction as
/// integers. `None` for other types, and for floats that no integer of the type stands for.
pub(super) fn cast(tensor: &Tensor, to: i64) -> Option<Tensor> {
    let data = match (to, tensor.data()) {
        (FLOAT, TensorData::I64(v)) => TensorData::F32(v.iter().map(|&x| x as f32).collect()),
        (FLOAT, TensorData::I32(v)) => TensorData::F32(v.iter().map(|&x| x as f32).collect()),
        (FLOAT, TensorData::U8(v)) => TensorData::F32(v.iter().map(|&x| x.into()).collect()),
        (FLOAT, TensorData::Bool(v)) => TensorData::F32(v.iter().map(|&x| x.into()).collect()),
        (FLOAT, _) => TensorData::F32(tensor.to_f32()?.into_owned()),
        (INT64, TensorData::F32(v)) => TensorData::I64(v.iter().map(|&x| whole(x)).collect::<Option<_>>()?),
        (INT64, _) => TensorData::I64(tensor.to_i64()?),
        (INT32, TensorData::F32(v)) => {
            let whole = |&x: &f32| whole(x).and_then(|x| i32::try_from(x).ok());
            TensorData::I32(v.iter().map(whole).collect::<Option<_>>()?)
        }
        // A 64-bit integer keeps its lower half, as in C.
        (INT32, _) => TensorData::I32(tensor.to_i64()?.into_iter().map(|x| x as i32).collect()),
        (BOOL, TensorData::F32(v)) => TensorData::Bool(v.iter().map(|&x| x != 0.0).collect()),
        (BOOL, _) => TensorData::Bool(tensor.to_i64()?.into_iter().map(|x| x != 0).collect()),
        _ => return None,
    };
    Tensor::new(tensor.shape().to_vec(), data).ok()
}

/// The tensor as type `to`, as [`cast`] does it.
pub(crate) fn cast_like(tensor: &Tensor, to: DType) -> Option<Tensor> {
    let code = match to {
        _ if to == tensor.dtype() => return Some(tensor.clone()),
        DType::F32 => FLOAT,
        DType::I32 => INT32,
        DType::I64 => INT64,
        DType::Bool => BOOL,
        _ => return None,
    };
    cast(tensor, code)
}

/// The integer in front of the fraction, if 64 bits hold it.
fn whole(x: f32) -> Option<i64> {
    // 2^63 is the first float that is too large; -2^63 is an integer of 64 bits.
    const LIMIT: f32 = 9_223_372_036_854_775_808.0;
    (-LIMIT..LIMIT).contains(&x).then_some(x as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_those_asked_for() {
        let floats = Tensor::f32(vec![3], vec![-1.9, 0.0, 2.5]).unwrap();
        let data = |to| cast(&floats, to).unwrap().data().clone();
        assert_eq!(data(INT32), TensorData::I32(vec![-1, 0, 2]));
        assert_eq!(data(INT64), TensorData::I64(vec![-1, 0, 2]));
        assert_eq!(data(BOOL), TensorData::Bool(vec![true, false, true]));
        assert_eq!(data(FLOAT), TensorData::F32(vec![-1.9, 0.0, 2.5]));
        assert_eq!(cast(&floats, 10), None, "16-bit floats");
        let wide = Tensor::i64_vector(vec![(1 << 32) + 7, -1]);
        assert_eq!(cast(&wide, INT32).unwrap().data(), &TensorData::I32(vec![7, -1]));
    }

    #[test]
    fn half_floats_are_widened_exactly() {
        // 1.5 and -0 as IEEE half floats.
        let half = Tensor::new(vec![2], TensorData::Raw(DType::F16, vec![0, 0x3e, 0, 0x80])).unwrap();
        let wide = cast(&half, FLOAT).unwrap();
        let bits: Vec<u32> = wide.as_f32().unwrap().iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1.5f32.to_bits(), (-0.0f32).to_bits()]);
    }

    #[test]
    fn floats_without_an_integer_are_left_alone() {
        for value in [f32::NAN, f32::INFINITY, 1e19] {
            let tensor = Tensor::f32(vec![], vec![value]).unwrap();
            assert_eq!(cast(&tensor, INT64), None, "{value}");
        }
        assert_eq!(cast(&Tensor::f32(vec![], vec![3e9]).unwrap(), INT32), None);
    }
}
