//! Images in arrays: which axis counts what, and labels beside them.

use crate::{DataError, Split};

/// Labels must be below this: a larger one is a garbled file.
const MAX_CLASSES: usize = 1 << 16;

/// The largest side of an image, and the most channels.
const MAX_SIDE: u64 = 1 << 14;

/// The pixels of an array of images.
#[derive(Clone, Debug)]
pub enum ArrayPixels {
    /// 8-bit values.
    Bytes(Vec<u8>),
    /// Floats, which must be finite.
    Floats(Vec<f32>),
}

impl Split {
    /// A split of the images in an array of the shape NHW, NHWC or NCHW, in row-major order, with a class for each. Four
    /// dimensions are NCHW if the second is 1 or 3, else NHWC if the last is, else the smaller of the two counts the
    /// channels. `names` are those of both arrays in messages.
    ///
    /// # Errors
    /// [`DataError::NpyShape`], [`DataError::Dimensions`], [`DataError::CountMismatch`], [`DataError::Empty`] for arrays
    /// that are no images with labels, [`DataError::LabelRange`], [`DataError::NotFinite`].
    pub fn from_array(
        pixels: ArrayPixels,
        shape: &[u64],
        labels: Vec<i64>,
        names: (&str, &str),
    ) -> Result<Split, DataError> {
        let (name, labels_name) = names;
        let (image, last) = image_shape(name, shape)?;
        if shape[0] != labels.len() as u64 {
            return Err(DataError::CountMismatch {
                images_file: name.into(),
                images: shape[0],
                labels_file: labels_name.into(),
                labels: labels.len() as u64,
            });
        }
        if labels.is_empty() {
            return Err(DataError::Empty { place: name.into() });
        }
        let labels = classes(labels_name, &labels)?;
        match pixels {
            ArrayPixels::Bytes(pixels) => {
                let pixels = if last { to_planes(&pixels, image) } else { pixels };
                Split::from_bytes(pixels, labels, image)
            }
            ArrayPixels::Floats(pixels) => {
                if let Some(index) = pixels.iter().position(|value| !value.is_finite()) {
                    return Err(DataError::NotFinite { array: name.into(), index });
                }
                let pixels = if last { to_planes(&pixels, image) } else { pixels };
                Split::from_floats(pixels, labels, image)
            }
        }
    }
}

/// Channels, height and width of an array of images, and whether the channels come last.
fn image_shape(name: &str, shape: &[u64]) -> Result<([usize; 3], bool), DataError> {
    if shape.iter().skip(1).any(|dim| !(1..=MAX_SIDE).contains(dim)) {
        return Err(DataError::Dimensions { file: name.into(), dims: shape.to_vec() });
    }
    let few = |channels: u64| channels == 1 || channels == 3;
    match *shape {
        [_, h, w] => Ok(([1, h as usize, w as usize], false)),
        [_, c, h, w] if few(c) || (!few(w) && c < w) => Ok(([c as usize, h as usize, w as usize], false)),
        [_, h, w, c] if few(c) || c < h => Ok(([c as usize, h as usize, w as usize], true)),
        _ => Err(DataError::NpyShape {
            array: name.into(),
            shape: shape.to_vec(),
            expected: "NHW, NHWC or NCHW with 1 or 3 channels",
        }),
    }
}

/// Images whose channels come last as planes; what is no whole image is left out.
fn to_planes<T: Copy + Default>(pixels: &[T], [channels, height, width]: [usize; 3]) -> Vec<T> {
    let mut planes = vec![T::default(); pixels.len()];
    let area = height * width;
    for (image, out) in pixels.chunks_exact(channels * area).zip(planes.chunks_exact_mut(channels * area)) {
        for (i, pixel) in image.chunks_exact(channels).enumerate() {
            for (c, &value) in pixel.iter().enumerate() {
                out[c * area + i] = value;
            }
        }
    }
    planes
}

fn classes(name: &str, labels: &[i64]) -> Result<Vec<u32>, DataError> {
    let label = |(index, &value): (usize, &i64)| match u32::try_from(value) {
        Ok(label) if (label as usize) < MAX_CLASSES => Ok(label),
        _ => Err(DataError::LabelRange { place: name.into(), index, label: value, classes: MAX_CLASSES }),
    };
    labels.iter().enumerate().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pixels: ArrayPixels, shape: &[u64], labels: &[i64]) -> Result<Split, DataError> {
        Split::from_array(pixels, shape, labels.to_vec(), ("x", "y"))
    }

    #[test]
    fn channels_may_come_first_last_or_not_at_all() {
        let bytes = |n: u8| ArrayPixels::Bytes((0..n).collect());
        let planes = split(bytes(12), &[1, 3, 2, 2], &[4]).unwrap();
        assert_eq!((planes.channels(), planes.height(), planes.labels()), (3, Some(2), &[4][..]));
        let last = split(bytes(12), &[1, 2, 2, 3], &[4]).unwrap();
        let turned = [0u8, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11];
        let same = split(ArrayPixels::Bytes(turned.into()), &[1, 3, 2, 2], &[4]).unwrap();
        assert_eq!(last.fingerprint(), same.fingerprint());
        let grey = split(ArrayPixels::Floats(vec![0.5; 12]), &[2, 2, 3], &[0, 1]).unwrap();
        assert_eq!((grey.channels(), grey.width(), grey.is_float()), (1, Some(3), true));
    }

    #[test]
    fn arrays_that_are_no_images_are_refused() {
        let floats = |n: usize| ArrayPixels::Floats(vec![0.0; n]);
        let error = |shape: &[u64], labels: &[i64]| split(floats(12), shape, labels).unwrap_err();
        assert!(matches!(error(&[12], &[0]), DataError::NpyShape { .. }));
        assert!(matches!(error(&[2, 0, 6], &[0, 1]), DataError::Dimensions { .. }));
        assert!(matches!(error(&[2, 2, 3], &[0]), DataError::CountMismatch { .. }));
        assert!(matches!(error(&[0, 2, 3], &[]), DataError::Empty { .. }));
        assert!(matches!(error(&[2, 2, 3], &[0, -1]), DataError::LabelRange { index: 1, label: -1, .. }));
        assert!(matches!(error(&[2, 2, 4], &[0, 1]), DataError::Dimensions { .. }));
        let nan = ArrayPixels::Floats(vec![0.0, f32::NAN, 0.0, 0.0]);
        assert!(matches!(split(nan, &[1, 2, 2], &[0]), Err(DataError::NotFinite { index: 1, .. })));
    }
}
