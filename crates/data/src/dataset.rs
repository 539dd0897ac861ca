//! Datasets: a training and a test split with their classes.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{DataError, Split};

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
    /// Take images that lie in no class folder, all with label 0, for uses that read no labels.
    pub unlabelled: bool,
}

impl Dataset {
    /// A dataset of two splits in memory; the classes are those of the labels.
    pub fn of(train: Split, test: Split) -> Dataset {
        let highest = train.labels().iter().chain(test.labels()).max();
        let classes = highest.map_or(0, |&label| label as usize + 1);
        Dataset { train, test, classes, class_names: Vec::new(), one_split: false }
    }

    /// A dataset read from `path`: a training and a test split, which must have the same shape unless their images are
    /// of many sizes, or one split that stands for both. `None` where there is no split.
    pub(crate) fn of_parts(
        train: Option<Split>,
        test: Option<Split>,
        class_names: Vec<String>,
        path: &Path,
    ) -> Result<Option<Dataset>, DataError> {
        let one_split = train.is_none() || test.is_none();
        let (train, test) = match (train, test) {
            (Some(train), Some(test)) => (train, test),
            (Some(only), None) | (None, Some(only)) => (only.clone(), only),
            (None, None) => return Ok(None),
        };
        if let (Some(a), Some(b)) = (shape(&train), shape(&test))
            && a != b
        {
            return Err(DataError::SplitShapes { path: path.into(), train: a, test: b });
        }
        let dataset = Dataset::of(train, test);
        let classes = dataset.classes.max(class_names.len());
        Ok(Some(Dataset { classes, class_names, one_split, ..dataset }))
    }

    /// A sample of `count` training images for measuring; see [`Split::calibration`].
    ///
    /// # Errors
    /// [`DataError::Portion`] if `count` is 0.
    pub fn calibration(&self, count: usize, seed: u64) -> Result<Split, DataError> {
        self.train.calibration(count, seed)
    }

    /// What the dataset holds, for people and for JSON.
    pub fn summary(&self) -> Summary {
        let of = |split: &Split| SplitSummary {
            images: split.len(),
            channels: split.channels(),
            height: split.height(),
            width: split.width(),
        };
        Summary {
            train: of(&self.train),
            test: of(&self.test),
            classes: self.classes,
            one_split: self.one_split,
        }
    }
}

fn shape(split: &Split) -> Option<[usize; 3]> {
    Some([split.channels(), split.height()?, split.width()?])
}

/// What a [`Dataset`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The training split.
    pub train: SplitSummary,
    /// The test split.
    pub test: SplitSummary,
    /// Number of classes.
    pub classes: usize,
    /// Both splits are the same images.
    pub one_split: bool,
}

/// What a [`Split`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SplitSummary {
    /// Number of images.
    pub images: usize,
    /// Their channels.
    pub channels: usize,
    /// Height in pixels, if it is one.
    pub height: Option<usize>,
    /// Width in pixels, if it is one.
    pub width: Option<usize>,
}

impl fmt::Display for Summary {
    /// `8000 training and 2000 test images of 1x28x28, 10 classes`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.one_split {
            true => write!(f, "{} images (one split) of {}", self.train.images, self.train)?,
            false => write!(
                f,
                "{} training and {} test images of {}",
                self.train.images, self.test.images, self.train
            )?,
        }
        write!(f, ", {} classes", self.classes)
    }
}

impl fmt::Display for SplitSummary {
    /// `3x32x32` (channels, height, width), or `3 channels in many sizes`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.height, self.width) {
            (Some(height), Some(width)) => write!(f, "{}x{height}x{width}", self.channels),
            _ => write!(f, "{} channels in many sizes", self.channels),
        }
    }
}
