//! Images and inputs that Python gives: a path, arrays with labels, arrays without.

use pyo3::prelude::*;
use pyo3::types::PyDict;
use slq::data::{ArrayPixels, Batch, Dataset, Mode, Split};
use slq::graph::{Tensor, TensorData};
use slq::{Error, Transform};

use crate::error::{DataError, raised};
use crate::tensors;

/// Images as `slq/_arrays.py` hands them over.
#[derive(FromPyObject)]
pub(crate) enum Given<'py> {
    /// A path, the name of a dataset, or `random:N`.
    Path(String),
    /// Training images with labels.
    One((Bound<'py, PyAny>, Bound<'py, PyAny>)),
    /// Training and test images with labels.
    Two((Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>)),
    /// Arrays by the names of inputs.
    Named(Bound<'py, PyDict>),
}

/// Images that no longer depend on Python.
pub(crate) enum Images {
    Path(String),
    Labelled {
        files: Box<Dataset>,
        /// Floats, which are inputs as they are.
        is_raw: bool,
    },
    /// 8-bit images without labels.
    Pixels(Box<Split>),
    Tensors(Vec<(String, Tensor)>),
}

impl Images {
    /// Whether these are the network's inputs as they are.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self, Self::Tensors(_) | Self::Labelled { is_raw: true, .. })
    }

    /// Whether one split stands for training and test images.
    pub(crate) fn is_one_split(&self) -> bool {
        matches!(self, Self::Labelled { files, .. } if files.one_split)
    }
}

/// The key of 8-bit images without labels among named arrays; no input of a network has this name.
const PIXELS: &str = "";

impl Given<'_> {
    /// The images, copied out of Python's arrays.
    pub(crate) fn owned(self) -> PyResult<Images> {
        match self {
            Self::Path(path) => Ok(Images::Path(path)),
            Self::One((x, y)) => {
                let train = split(&x, &y, ("x", "y"))?;
                let files = Dataset { one_split: true, ..Dataset::of(train.clone(), train) };
                Ok(labelled(files))
            }
            Self::Two((x, y, x_test, y_test)) => {
                let train = split(&x, &y, ("x_train", "y_train"))?;
                let test = split(&x_test, &y_test, ("x_test", "y_test"))?;
                let shape = |s: &Split| [Some(s.channels()), s.height(), s.width()];
                if shape(&train) != shape(&test) || train.is_float() != test.is_float() {
                    return Err(DataError::new_err("x_train and x_test differ in shape or type"));
                }
                Ok(labelled(Dataset::of(train, test)))
            }
            Self::Named(arrays) => named(&arrays),
        }
    }
}

fn labelled(files: Dataset) -> Images {
    Images::Labelled { is_raw: files.train.is_float(), files: Box::new(files) }
}

fn named(arrays: &Bound<'_, PyDict>) -> PyResult<Images> {
    if let (1, Some(array)) = (arrays.len(), arrays.get_item(PIXELS)?) {
        let images = tensors::tensor(&array)?;
        let labels = vec![0; images.shape().first().copied().unwrap_or(0)];
        return Ok(Images::Pixels(Box::new(split_of(
            images,
            labels,
            ("the array of images", "its labels"),
        )?)));
    }
    let mut named = Vec::new();
    for (name, array) in arrays.iter() {
        named.push((name.extract()?, tensors::tensor(&array)?));
    }
    Ok(Images::Tensors(named))
}

/// Images with a class for each.
fn split(images: &Bound<'_, PyAny>, labels: &Bound<'_, PyAny>, names: (&str, &str)) -> PyResult<Split> {
    let labels = tensors::tensor(labels)?;
    if labels.shape().len() != 1 {
        let text = format!("{}: shape {:?} where one dimension is expected", names.1, labels.shape());
        return Err(DataError::new_err(text));
    }
    let labels =
        labels.to_i64().ok_or_else(|| DataError::new_err(format!("{}: labels are integers", names.1)))?;
    split_of(tensors::tensor(images)?, labels, names)
}

fn split_of(images: Tensor, labels: Vec<i64>, names: (&str, &str)) -> PyResult<Split> {
    let shape: Vec<u64> = images.shape().iter().map(|&d| d as u64).collect();
    let pixels = match images.into_data() {
        TensorData::U8(pixels) => ArrayPixels::Bytes(pixels),
        TensorData::F32(pixels) => ArrayPixels::Floats(pixels),
        _ => return Err(DataError::new_err(format!("{}: images are uint8 or float32", names.0))),
    };
    Split::from_array(pixels, &shape, labels, names).map_err(|e| raised(&Error::Data(e)))
}

/// The images of a split, NHW or NCHW, with their classes.
pub(crate) fn pixels(split: &Split) -> Result<(Tensor, Vec<i64>), Error> {
    let transform = Transform { scale: Some(1.0), ..Transform::default() };
    let (channels, count) = (split.channels(), split.len());
    let (mut values, mut size) = (Vec::new(), [0, 0]);
    let (mut batch, mut batches) =
        (Batch::default(), split.batches(256.min(count.max(1)), &transform, Mode::Eval, false)?);
    while batches.next_into(&mut batch)? {
        size = [batch.shape[2], batch.shape[3]];
        values.extend_from_slice(&batch.images);
    }
    let shape = match channels {
        1 => vec![count, size[0], size[1]],
        _ => vec![count, channels, size[0], size[1]],
    };
    let data = match split.is_float() {
        true => TensorData::F32(values),
        // Whole numbers from 0 to 255, which the batch holds as floats.
        false => TensorData::U8(values.into_iter().map(|v| v as u8).collect()),
    };
    Ok((Tensor::new(shape, data)?, split.labels().iter().map(|&l| i64::from(l)).collect()))
}
