//! Datasets in NumPy's `.npz`: arrays `x_train`, `y_train`, `x_test`, `y_test`, as Keras keeps them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::array::ArrayPixels;
use crate::npy::{self, Array};
use crate::storage::Pixels;
use crate::tree::Tree;
use crate::{DataError, Dataset, Split};

/// The largest array that is read.
const MAX_ARRAY: u64 = 4 << 30;

/// The names of the arrays in an `.npz`, without `.npy`.
///
/// # Errors
/// [`DataError`] for a file that is no zip archive.
pub fn npz_names(path: &Path) -> Result<Vec<String>, DataError> {
    let tree = Tree::zip(path)?;
    Ok(tree.files.iter().filter_map(|e| e.path.strip_suffix(".npy")).map(str::to_owned).collect())
}

/// The arrays of an `.npz` as files of NumPy's own format ([`npy::parse`](crate::npy::parse) reads them), by name.
///
/// # Errors
/// [`DataError`] naming an array that cannot be read.
pub fn npz_arrays(path: &Path) -> Result<Vec<(String, Vec<u8>)>, DataError> {
    let tree = Tree::zip(path)?;
    let mut arrays = Vec::new();
    for (at, entry) in tree.files.iter().enumerate() {
        if let Some(name) = entry.path.strip_suffix(".npy") {
            arrays.push((name.to_owned(), tree.read(at, MAX_ARRAY)?));
        }
    }
    Ok(arrays)
}

/// Opens the arrays of an archive.
pub(crate) fn open(tree: &Tree) -> Result<Dataset, DataError> {
    let find = |array: &str| tree.files.iter().position(|entry| entry.path == format!("{array}.npy"));
    let split = |images: &str, labels: &str| -> Result<Option<Split>, DataError> {
        match (find(images), find(labels)) {
            (None, None) => Ok(None),
            (Some(i), Some(l)) => read(tree, i, l).map(Some),
            (i, _) => Err(DataError::NpzMissing {
                path: tree.top().into(),
                array: if i.is_some() { labels } else { images }.into(),
                found: names(tree),
            }),
        }
    };
    let (train, test) = (split("x_train", "y_train")?, split("x_test", "y_test")?);
    let dataset = Dataset::of_parts(train, test, Vec::new(), tree.top())?;
    dataset.ok_or_else(|| DataError::NpzMissing {
        path: tree.top().into(),
        array: "x_train".into(),
        found: names(tree),
    })
}

fn names(tree: &Tree) -> Vec<String> {
    let named = tree.files.iter().filter_map(|entry| entry.path.strip_suffix(".npy"));
    named.take(20).map(str::to_owned).collect()
}

fn read(tree: &Tree, images: usize, labels: usize) -> Result<Split, DataError> {
    let (images_name, labels_name) = (tree.name(images), tree.name(labels));
    let labels = tree.read(labels, MAX_ARRAY)?;
    let labels = npy::parse(&labels_name, &labels)?;
    let images = tree.read(images, MAX_ARRAY)?;
    let images = npy::parse(&images_name, &images)?;
    let labels = read_labels(&labels_name, &labels)?;
    let pixels = match (images.is_bytes(), images.floats()) {
        (true, _) => ArrayPixels::Bytes(images.data.into()),
        (false, Some(values)) => ArrayPixels::Floats(values),
        (false, None) => {
            return Err(DataError::NpyType {
                array: images_name,
                dtype: images.dtype,
                expected: "uint8, float32 or float64",
            });
        }
    };
    Split::from_array(pixels, &images.shape, labels, (&images_name, &labels_name))
}

fn read_labels(name: &str, labels: &Array<'_>) -> Result<Vec<i64>, DataError> {
    if !matches!(*labels.shape, [_] | [_, 1]) {
        return Err(DataError::NpyShape {
            array: name.into(),
            shape: labels.shape.clone(),
            expected: "one dimension",
        });
    }
    labels.integers().ok_or_else(|| DataError::NpyType {
        array: name.into(),
        dtype: labels.dtype.clone(),
        expected: "an integer",
    })
}

/// Writes a dataset as `.npz`, compressed, for NumPy and for [`Dataset::open`].
///
/// `x_train` and `x_test` are uint8 (float32 for float images) of shape `[N, H, W]` if the images have one channel, else
/// `[N, C, H, W]`; `y_train` and `y_test` are int64. A dataset of [one split](Dataset::one_split) gets `x_train` and
/// `y_train` alone. The file appears whole, by rename, or not at all.
///
/// # Errors
/// [`DataError::SizesDiffer`] if the images do not have one size; [`DataError::Io`] or [`DataError::Zip`] if the file cannot
/// be written; those of decoding.
pub fn write_npz(dataset: &Dataset, path: &Path) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let temporary = slq_file::temporary_beside(path).map_err(io)?;
    let mut archive = ZipWriter::new(BufWriter::new(temporary.as_file()));
    write_split(&mut archive, path, &dataset.train, "train")?;
    if !dataset.one_split {
        write_split(&mut archive, path, &dataset.test, "test")?;
    }
    let zip = |source| DataError::Zip { path: path.display().to_string(), source: Box::new(source) };
    archive.finish().map_err(zip)?.flush().map_err(io)?;
    slq_file::persist(temporary, path).map_err(io)
}

type Archive<'a> = ZipWriter<BufWriter<&'a File>>;

fn write_split(archive: &mut Archive<'_>, path: &Path, split: &Split, name: &str) -> Result<(), DataError> {
    let io = |source| DataError::Io { path: path.into(), source };
    let start = |archive: &mut Archive<'_>, array: String| {
        // The time of writing is left out, so that the same data gives the same file.
        let options =
            SimpleFileOptions::default().large_file(true).last_modified_time(zip::DateTime::default());
        archive
            .start_file(array, options)
            .map_err(|source| DataError::Zip { path: path.display().to_string(), source: Box::new(source) })
    };
    let size = split.storage.size().ok_or(DataError::SizesDiffer)?;
    let mut shape = vec![split.len()];
    shape.extend((split.channels() != 1).then_some(split.channels()));
    shape.extend(size);
    start(archive, format!("x_{name}.npy"))?;
    let dtype = if split.is_float() { "<f4" } else { "|u1" };
    archive.write_all(&npy::header(dtype, &shape)).map_err(io)?;
    let mut scratch = Vec::new();
    for &i in split.index.iter() {
        let image = split.storage.image(i as usize, &mut scratch)?;
        if image.shape[1..] != size {
            return Err(DataError::SizesDiffer);
        }
        match image.pixels {
            Pixels::Bytes(pixels) => archive.write_all(pixels).map_err(io)?,
            Pixels::Floats(pixels) => {
                let bytes: Vec<u8> = pixels.iter().flat_map(|value| value.to_le_bytes()).collect();
                archive.write_all(&bytes).map_err(io)?;
            }
        }
    }
    start(archive, format!("y_{name}.npy"))?;
    archive.write_all(&npy::header("<i8", &[split.len()])).map_err(io)?;
    let labels: Vec<u8> = split.labels.iter().flat_map(|&label| i64::from(label).to_le_bytes()).collect();
    archive.write_all(&labels).map_err(io)
}
