//! NumPy arrays in files.

use std::fs::File;
use std::io::{BufReader, Write};
use std::path::Path;

use npyz::{NpyFile, WriterBuilder};
use slq_codebook::Clustering;
use slq_graph::{Tensor, TensorData, element_count};

use crate::Error;

fn fail(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::File { path: path.into(), reason: reason.to_string() }
}

/// An open array, its shape and its type descriptor.
type Opened = (NpyFile<BufReader<File>>, Vec<usize>, String);

/// Opens an array and checks that the file is as long as its header says.
fn open(path: &Path) -> Result<Opened, Error> {
    let file = File::open(path).map_err(|e| fail(path, e))?;
    let length = file.metadata().map_err(|e| fail(path, e))?.len();
    let npy = NpyFile::new(BufReader::new(file)).map_err(|e| fail(path, e))?;
    let shape: Vec<usize> = npy
        .shape()
        .iter()
        .map(|&d| usize::try_from(d))
        .collect::<Result<_, _>>()
        .map_err(|e| fail(path, e))?;
    let descr = npy.dtype().descr();
    let descr = descr.trim_matches(['\'', '"']).to_string();
    let width: u64 = descr.chars().filter(char::is_ascii_digit).collect::<String>().parse().unwrap_or(1);
    let bytes = element_count(&shape).and_then(|n| (n as u64).checked_mul(width));
    if bytes.is_none_or(|b| b > length) {
        return Err(fail(path, format!("its header announces {shape:?} elements, more than the file holds")));
    }
    if npy.order() == npyz::Order::Fortran && shape.len() > 1 {
        return Err(fail(path, "it is in Fortran order; save it with numpy.ascontiguousarray"));
    }
    Ok((npy, shape, descr))
}

/// Reads an array as a tensor: floats and 64-bit integers as they are, doubles and bytes as floats.
///
/// # Errors
/// [`Error::File`] for a file that is damaged, of another type or in Fortran order.
pub fn read(path: &Path) -> Result<Tensor, Error> {
    let (npy, shape, descr) = open(path)?;
    let data = match descr.as_str() {
        "<f4" => npy.into_vec::<f32>().map(TensorData::F32),
        "<f8" => npy.into_vec::<f64>().map(|v| TensorData::F32(v.into_iter().map(|x| x as f32).collect())),
        "|u1" => npy.into_vec::<u8>().map(|v| TensorData::F32(v.into_iter().map(f32::from).collect())),
        "<i8" => npy.into_vec::<i64>().map(TensorData::I64),
        "<i4" => npy.into_vec::<i32>().map(TensorData::I32),
        other => {
            return Err(fail(path, format!("elements of type '{other}' are not supported, save float32")));
        }
    };
    Ok(Tensor::new(shape, data.map_err(|e| fail(path, e))?)?)
}

/// Reads an array of floats, whatever its shape.
///
/// # Errors
/// As [`read`], and [`Error::File`] for integers.
pub fn read_f32(path: &Path) -> Result<Vec<f32>, Error> {
    let tensor = read(path)?;
    tensor.as_f32().map(<[f32]>::to_vec).ok_or_else(|| fail(path, "it holds integers, not floats"))
}

fn encode<T: npyz::AutoSerialize + Copy>(
    path: &Path,
    shape: &[usize],
    values: &[T],
) -> Result<Vec<u8>, Error> {
    let shape: Vec<u64> = shape.iter().map(|&d| d as u64).collect();
    let mut bytes = Vec::new();
    let mut writer = npyz::WriteOptions::new()
        .default_dtype()
        .shape(&shape)
        .writer(&mut bytes)
        .begin_nd()
        .map_err(|e| fail(path, e))?;
    writer.extend(values.iter().copied()).map_err(|e| fail(path, e))?;
    writer.finish().map_err(|e| fail(path, e))?;
    Ok(bytes)
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
        TensorData::F32(v) => encode(path, tensor.shape(), v)?,
        TensorData::I64(v) => encode(path, tensor.shape(), v)?,
        TensorData::I32(v) => encode(path, tensor.shape(), v)?,
        TensorData::U8(v) => encode(path, tensor.shape(), v)?,
        _ => return Err(fail(path, format!("{:?} elements cannot be written", tensor.dtype()))),
    };
    put(path, &bytes)
}

/// Writes 64-bit integers.
///
/// # Errors
/// [`Error::File`] where the disk refuses.
pub fn write_i64(path: &Path, shape: &[usize], values: &[i64]) -> Result<(), Error> {
    put(path, &encode(path, shape, values)?)
}

/// Writes `codebook` (float32) and `codes` (uint16) as an `.npz`.
///
/// # Errors
/// [`Error::File`] where the disk refuses.
pub fn write_clustering(path: &Path, found: &Clustering<u16>) -> Result<(), Error> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut zip = zip::ZipWriter::new(&mut bytes);
    let parts = [
        ("codebook.npy", encode(path, &[found.codebook.len()], &found.codebook)?),
        ("codes.npy", encode(path, &[found.codes.len()], &found.codes)?),
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
