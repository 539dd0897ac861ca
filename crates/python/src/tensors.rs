//! NumPy arrays and the library's tensors.
//!
//! Arrays come in from `slq/_arrays.py`, contiguous and of one of the types below; it converts or refuses what others give.

use numpy::{Element, PyArray1, PyArrayDyn, PyArrayMethods, PyReadonlyArrayDyn, PyUntypedArrayMethods};
use pyo3::prelude::*;
use slq::graph::{Tensor, TensorData};

use crate::error::{DataError, raised};

/// The values of an array, copied: Python may change the array while the work goes on without its lock.
pub(crate) fn values<T: Element + Copy>(array: &PyReadonlyArrayDyn<'_, T>) -> PyResult<Vec<T>> {
    let slice = array.as_slice();
    slice.map(<[T]>::to_vec).map_err(|_| DataError::new_err("the array is not contiguous"))
}

/// An array of any type that the library has, as a tensor.
pub(crate) fn tensor(array: &Bound<'_, PyAny>) -> PyResult<Tensor> {
    macro_rules! typed {
        ($($kind:ty => $data:expr),*) => {$(
            if let Ok(array) = array.extract::<PyReadonlyArrayDyn<'_, $kind>>() {
                let (shape, data) = (array.shape().to_vec(), $data(values(&array)?));
                return Tensor::new(shape, data).map_err(|e| raised(&e.into()));
            }
        )*};
    }
    typed!(f32 => TensorData::F32, i64 => TensorData::I64, i32 => TensorData::I32, u8 => TensorData::U8,
        bool => TensorData::Bool);
    Err(DataError::new_err(
        "the array is of a type that slq does not read: give float32, int64, int32, uint8 or bool",
    ))
}

/// A tensor as an array, without a copy of its elements.
pub(crate) fn array<'py>(py: Python<'py>, tensor: Tensor) -> PyResult<Bound<'py, PyAny>> {
    let shape = tensor.shape().to_vec();
    if let Some(floats) = tensor.to_f32()
        && tensor.as_f32().is_none()
    {
        return shaped(py, floats.into_owned(), &shape);
    }
    match tensor.into_data() {
        TensorData::F32(v) => shaped(py, v, &shape),
        TensorData::I64(v) => shaped(py, v, &shape),
        TensorData::I32(v) => shaped(py, v, &shape),
        TensorData::U8(v) => shaped(py, v, &shape),
        TensorData::Bool(v) => shaped(py, v, &shape),
        _ => Err(DataError::new_err("the tensor's elements are of a type that NumPy does not have")),
    }
}

/// Values as an array of a shape with as many elements.
pub(crate) fn shaped<'py, T: Element>(
    py: Python<'py>,
    values: Vec<T>,
    shape: &[usize],
) -> PyResult<Bound<'py, PyAny>> {
    let array: Bound<'py, PyArrayDyn<T>> = PyArray1::from_vec(py, values).reshape(shape)?;
    Ok(array.into_any())
}
