//! Datasets, and how they are found.

use std::path::{Path, PathBuf};

use crate::{DataError, Split, idx};

/// Training and test images with their classes.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Images to train on (and to take validation and calibration images from).
    pub train: Split,
    /// Images to report accuracy on.
    pub test: Split,
    /// Number of classes: labels are below it.
    pub classes: usize,
    /// Names of the classes, by label; empty if the files name none.
    pub class_names: Vec<String>,
    /// The files make no difference between training and test images: both splits are the same images.
    pub one_split: bool,
}

/// Settings for [`Dataset::open`].
#[derive(Clone, Debug, Default)]
pub struct OpenOptions {
    /// A text file with one class name a line, which numbers the class folders of an image folder from 0.
    pub classes: Option<PathBuf>,
}

/// Names that [`Dataset::named`] knows.
const NAMES: &[&str] = &["mnist-10k", "fashion-mnist"];

impl Dataset {
    /// Opens the dataset at `path`, whichever layout it has.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
        let _ = options;
        if !path.exists() {
            return Err(DataError::NotFound { path: path.into() });
        }
        let read = |stem: &str| -> Result<Option<(String, Vec<u8>)>, DataError> {
            for ending in ["", ".gz"] {
                let file = path.join(format!("{stem}{ending}"));
                if file.exists() {
                    let bytes = std::fs::read(&file)
                        .map_err(|source| DataError::Io { path: file.clone(), source })?;
                    return Ok(Some((file.display().to_string(), bytes)));
                }
            }
            Ok(None)
        };
        let split = |stem: &str| -> Result<Split, DataError> {
            let images = read(&format!("{stem}-images-idx3-ubyte"))?;
            let labels = read(&format!("{stem}-labels-idx1-ubyte"))?;
            match (images, labels) {
                (Some(images), Some(labels)) => idx::read((&images.0, &images.1), (&labels.0, &labels.1)),
                _ => Err(DataError::Unrecognised { path: path.into(), found: "a folder".into() }),
            }
        };
        Ok(Dataset::of(split("train")?, split("t10k")?))
    }

    /// A dataset known by name: `mnist-10k` is built in; `fashion-mnist` is Debian's package `dataset-fashion-mnist`.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NotInstalled`] and those of [`open`](Self::open).
    pub fn named(name: &str) -> Result<Dataset, DataError> {
        match name {
            "mnist-10k" => sample(),
            "fashion-mnist" => {
                Dataset::open(Path::new("/usr/share/datasets/fashion-mnist"), &OpenOptions::default())
            }
            _ => Err(DataError::UnknownName { name: name.into(), known: NAMES }),
        }
    }

    /// A dataset of two splits in memory; the classes are those of the labels.
    pub fn of(train: Split, test: Split) -> Dataset {
        let highest = train.labels().iter().chain(test.labels()).max();
        let classes = highest.map_or(0, |&label| label as usize + 1);
        Dataset { train, test, classes, class_names: Vec::new(), one_split: false }
    }
}

/// The built-in sample: 8000 training and 2000 test images of MNIST (`sample/LICENCE.md`).
fn sample() -> Result<Dataset, DataError> {
    let train = idx::read(
        ("train-images", include_bytes!("../sample/train-images-idx3-ubyte.gz")),
        ("train-labels", include_bytes!("../sample/train-labels-idx1-ubyte.gz")),
    )?;
    let test = idx::read(
        ("t10k-images", include_bytes!("../sample/t10k-images-idx3-ubyte.gz")),
        ("t10k-labels", include_bytes!("../sample/t10k-labels-idx1-ubyte.gz")),
    )?;
    Ok(Dataset::of(train, test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Mode, Transform};

    #[test]
    fn the_sample_has_all_digits() {
        let sample = Dataset::named("mnist-10k").unwrap();
        assert_eq!((sample.train.len(), sample.test.len(), sample.classes), (8000, 2000, 10));
        assert!(sample.train.class_counts().values().all(|&count| count == 800));
        assert!(sample.test.class_counts().values().all(|&count| count == 200));
        assert_eq!(
            (sample.train.channels(), sample.train.height(), sample.train.width()),
            (1, Some(28), Some(28))
        );
    }

    #[test]
    fn a_resumed_stream_goes_on_with_the_same_samples() {
        let train = Dataset::named("mnist-10k").unwrap().train.subset(":100").unwrap();
        let transform = Transform { pad_crop: Some(2), mirror: true, ..Transform::default() };
        let mut stream = train.stream(32, &transform, 9).unwrap();
        let all: Vec<Batch> = stream.by_ref().take(10).map(|b| b.unwrap()).collect();
        let mut resumed = train.stream(32, &transform, 9).unwrap();
        resumed.seek(5 * 32);
        for expected in &all[5..] {
            assert_eq!(&resumed.next().unwrap().unwrap(), expected);
        }
        let epoch = train
            .batches(100, &transform, Mode::Train { seed: 9, epoch: 0 }, false)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(epoch.images[..32 * 784], all[0].images);
    }
}
