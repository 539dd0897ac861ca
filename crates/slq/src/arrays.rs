//! NumPy arrays in files.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;

use slq_codebook::Clustering;
use slq_data::npy;
use slq_graph::{DType, Tensor, TensorData};

use crate::Error;

fn fail(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::File { path: path.into(), reason: reason.to_string() }
}

/// Refuses what stands in place of a file: a pointer of Git LFS, a page of HTML, nothing.
fn no_stand_in(path: &Path) -> Result<(), Error> {
    slq_file::stand_in(path).map_or(Ok(()), |what| Err(fail(path, what)))
}

/// The bytes of a NumPy file; of another file no more than its first ones.
fn load(path: &Path) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(|e| fail(path, e))?;
    let mut bytes = Vec::new();
    Read::by_ref(&mut file)
        .take(npy::MAGIC.len() as u64)
        .read_to_end(&mut bytes)
        .map_err(|e| fail(path, e))?;
    if bytes == npy::MAGIC {
        file.read_to_end(&mut bytes).map_err(|e| fail(path, e))?;
        return Ok(bytes);
    }
    file.take(512).read_to_end(&mut bytes).map_err(|e| fail(path, e))?;
    slq_file::stand_in_bytes(&bytes).map_or(Ok(bytes), |what| Err(fail(path, what)))
}

/// Reads an array as a tensor: floats and 64-bit integers as they are, doubles and bytes as floats.
///
/// # Errors
/// [`Error::File`] for a file that is damaged, of another type or in Fortran order.
pub fn read(path: &Path) -> Result<Tensor, Error> {
    tensor(path, "array", &load(path)?)
}

/// The names of the arrays in an `.npz`.
///
/// # Errors
/// [`Error::Data`] for a file that is no zip archive.
pub fn names(path: &Path) -> Result<Vec<String>, Error> {
    no_stand_in(path)?;
    Ok(slq_data::npz_names(path)?)
}

/// Reads the arrays of an `.npz` by name, each as [`read`] does.
///
/// # Errors
/// As [`read`], naming the array.
pub fn read_npz(path: &Path) -> Result<Vec<(String, Tensor)>, Error> {
    no_stand_in(path)?;
    let arrays = slq_data::npz_arrays(path)?;
    arrays.into_iter().map(|(name, bytes)| Ok((name.clone(), tensor(path, &name, &bytes)?))).collect()
}

/// Reads an array for an input of type `dtype`: as [`read`] does, but integers and Booleans of any width where the input
/// holds those.
///
/// # Errors
/// As [`read`].
pub fn read_as(path: &Path, dtype: DType) -> Result<Tensor, Error> {
    let bytes = load(path)?;
    let array = npy::parse("array", &bytes).map_err(|e| fail(path, e))?;
    let boolean = array.dtype == "|b1";
    if dtype.is_float() || !(boolean || array.integers().is_some()) {
        return tensor(path, "array", &bytes);
    }
    let shape = array.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|e| fail(path, e))?;
    if boolean {
        return Ok(Tensor::new(shape, TensorData::Bool(array.data.iter().map(|&b| b != 0).collect()))?);
    }
    let values = array.integers().unwrap_or_default();
    // The reader marks what 64 bits with a sign do not hold by -1.
    if array.dtype.contains('u') && values.contains(&-1) {
        return Err(fail(path, "it holds integers beyond 2^63"));
    }
    Ok(Tensor::new(shape, TensorData::I64(values))?)
}

fn tensor(path: &Path, name: &str, bytes: &[u8]) -> Result<Tensor, Error> {
    let array = npy::parse(name, bytes).map_err(|e| fail(path, e))?;
    let shape = array.shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|e| fail(path, e))?;
    let integers = || array.integers().unwrap_or_default();
    let data = match array.dtype.as_str() {
        "<f4" | "<f8" => TensorData::F32(array.floats().unwrap_or_default()),
        "|u1" => TensorData::F32(array.data.iter().map(|&x| f32::from(x)).collect()),
        "<i8" => TensorData::I64(integers()),
        "<i4" => TensorData::I32(integers().into_iter().map(|x| x as i32).collect()),
        other => {
            return Err(fail(path, format!("elements of type '{other}' are not supported, save float32")));
        }
    };
    Ok(Tensor::new(shape, data)?)
}

/// Reads an array of floats, whatever its shape.
///
/// # Errors
/// As [`read`], and [`Error::File`] for integers.
pub fn read_f32(path: &Path) -> Result<Vec<f32>, Error> {
    let tensor = read(path)?;
    tensor.as_f32().map(<[f32]>::to_vec).ok_or_else(|| fail(path, "it holds integers, not floats"))
}

/// A whole NumPy file of `values`, whose type NumPy calls `dtype`.
fn encode<const N: usize, T: Copy>(
    dtype: &str,
    shape: &[usize],
    values: &[T],
    bytes_of: fn(T) -> [u8; N],
) -> Vec<u8> {
    let mut bytes = npy::header(dtype, shape);
    bytes.reserve(N * values.len());
    values.iter().for_each(|&value| bytes.extend(bytes_of(value)));
    bytes
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    slq_file::write_atomically(path, bytes).map_err(|e| fail(path, e))
}

/// Writes a tensor.
///
/// # Errors
/// [`Error::File`] where the disk refuses or the element type has no counterpart.
pub fn write(path: &Path, tensor: &Tensor) -> Result<(), Error> {
    let bytes = match tensor.data() {
        TensorData::F32(v) => encode("<f4", tensor.shape(), v, f32::to_le_bytes),
        TensorData::I64(v) => encode("<i8", tensor.shape(), v, i64::to_le_bytes),
        TensorData::I32(v) => encode("<i4", tensor.shape(), v, i32::to_le_bytes),
        TensorData::U8(v) => encode("|u1", tensor.shape(), v, u8::to_le_bytes),
        TensorData::Bool(v) => encode("|b1", tensor.shape(), v, |b| [u8::from(b)]),
        TensorData::Raw(dtype, bytes) if numpy_type(*dtype).is_some() => {
            encode(numpy_type(*dtype).unwrap_or_default(), tensor.shape(), bytes, |b| [b])
        }
        _ => return Err(fail(path, format!("{:?} elements cannot be written", tensor.dtype()))),
    };
    put(path, &bytes)
}

/// What NumPy calls the integer types that are kept as bytes.
fn numpy_type(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::I8 => "|i1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::U32 => "<u4",
        DType::U64 => "<u8",
        _ => return None,
    })
}

/// Writes 64-bit integers.
///
/// # Errors
/// [`Error::File`] where the disk refuses.
pub fn write_i64(path: &Path, shape: &[usize], values: &[i64]) -> Result<(), Error> {
    put(path, &encode("<i8", shape, values, i64::to_le_bytes))
}

/// Writes `codebook` (float32) and `codes` (uint16) as an `.npz`.
///
/// # Errors
/// [`Error::File`] where the disk refuses.
pub fn write_clustering(path: &Path, found: &Clustering<u16>) -> Result<(), Error> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut bytes);
    let parts = [
        ("codebook.npy", encode("<f4", &[found.codebook.len()], &found.codebook, f32::to_le_bytes)),
        ("codes.npy", encode("<u2", &[found.codes.len()], &found.codes, u16::to_le_bytes)),
    ];
    for (name, part) in parts {
        let stored =
            zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(name, stored).map_err(|e| fail(path, e))?;
        zip.write_all(&part).map_err(|e| fail(path, e))?;
    }
    zip.finish().map_err(|e| fail(path, e))?;
    put(path, bytes.get_ref())
}

/// Whether the file at `path` is an `.npz` of named inputs, and no dataset of images.
pub(crate) fn is_examples(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    let images = |names: Vec<String>| {
        names.iter().any(|n| ["x_train", "x_test", "y_train", "y_test"].contains(&n.as_str()))
    };
    ending.as_deref() == Some("npz") && path.is_file() && names(path).is_ok_and(|names| !images(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_survive_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        let tensor = Tensor::f32(vec![2, 3], vec![0.5, -1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
        write(&path, &tensor).unwrap();
        assert_eq!(read(&path).unwrap(), tensor);
        write_i64(&path, &[2], &[7, -1]).unwrap();
        assert_eq!(read(&path).unwrap(), Tensor::i64_vector(vec![7, -1]));
        assert!(matches!(read_f32(&path), Err(Error::File { .. })));
    }

    #[test]
    fn integers_of_any_width_go_out_and_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        for dtype in [DType::U8, DType::I8, DType::I16, DType::U16, DType::U32, DType::U64, DType::I32] {
            write(&path, &Tensor::integers(vec![2], dtype, &[0, 99]).unwrap()).unwrap();
            assert_eq!(read_as(&path, dtype).unwrap().to_i64(), Some(vec![0, 99]), "{dtype:?}");
        }
        let flags = Tensor::new(vec![2], TensorData::Bool(vec![true, false])).unwrap();
        write(&path, &flags).unwrap();
        assert_eq!(read_as(&path, DType::Bool).unwrap(), flags);
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_before_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        write(&path, &Tensor::f32(vec![4], vec![0.0; 4]).unwrap()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 8]).unwrap();
        assert!(matches!(read(&path), Err(Error::File { .. })));
        std::fs::write(&path, b"\x93NUMPY\x01\x00garbage").unwrap();
        assert!(matches!(read(&path), Err(Error::File { .. })));
        let text = String::from_utf8_lossy(&whole).replace("(4,)", "(99999999999,)");
        std::fs::write(&path, text.as_bytes()).unwrap();
        assert!(read(&path).is_err());
    }
}
