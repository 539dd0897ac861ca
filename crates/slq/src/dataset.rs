//! Datasets with preprocessing: the images that a job is trained and measured on.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use slq_compress::{OutputWeight, TrainingData};
use slq_data::{ChannelOrder, DataError, OpenOptions, Portion, Resize, Split, Transform};
use slq_engine::Isa;
use slq_graph::Dim;

use crate::Error;
use crate::arrays::is_examples;
use crate::detect::{Augmentation, Detected, Preprocessing, PreprocessingSource, doubt};
use crate::model::{Model, Source};

/// Training and test images.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Training images.
    pub train: Split,
    /// Test images: their accuracy is reported and never used for a choice.
    pub test: Split,
    /// Preprocessing; `None` takes that of the model.
    pub transform: Option<Transform>,
}

impl Dataset {
    /// Opens a dataset: `mnist-10k`, `fashion-mnist`, or a path to any layout that
    /// [`slq_data::Dataset::open`] knows.
    ///
    /// # Errors
    /// [`Error::Data`], naming the file.
    pub fn open(name_or_path: &str) -> Result<Self, Error> {
        Ok(slq_data::Dataset::find(name_or_path, &OpenOptions::default())?.into())
    }

    /// The same images with preprocessing of their own.
    #[must_use]
    pub fn with_preprocessing(self, transform: Transform) -> Self {
        Self { transform: Some(transform), ..self }
    }

    /// The images as a job on `model` uses them. Without preprocessing of their own they get the model's or, where it
    /// names none, one that is detected; a built-in architecture gets pixels from 0 to 1.
    ///
    /// # Errors
    /// Those of [`Model::preprocessing`]; [`Error::UnknownPreprocessing`] where nothing usual fits.
    pub fn for_model(&self, model: &Model) -> Result<TrainingData, Error> {
        let (train, test) = (self.train.clone(), self.test.clone());
        match &self.transform {
            Some(transform) => Ok(TrainingData {
                train,
                validation: None,
                test,
                transform: transform.clone(),
                following: None,
            }),
            None => Ok(DataOptions::default().prepare(model, train, test, Isa::detect())?.data),
        }
    }
}

impl From<slq_data::Dataset> for Dataset {
    fn from(from: slq_data::Dataset) -> Self {
        Self { train: from.train, test: from.test, transform: None }
    }
}

/// The preprocessing in the model's files, else the default of its format.
fn default_transform(model: &Model) -> Result<Transform, Error> {
    Ok(match model.preprocessing()? {
        Some(transform) => transform,
        // Caffe computes (pixel - mean) * scale on BGR images, and scales by 1 unless it is told otherwise.
        None if model.is_caffe() => Transform::caffe(1.0, Vec::new()),
        None => Transform::default(),
    })
}

/// Images that a job uses, and where their preprocessing comes from.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// The images.
    pub data: TrainingData,
    /// Their preprocessing.
    pub preprocessing: Preprocessing,
}

/// A dataset by name with preprocessing, as flags and the `[data]` table of a job file give it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct DataOptions {
    /// Name or path of the dataset.
    #[serde(rename = "data")]
    pub path: Option<String>,
    /// A file with class names, one a line, in the order of the network's outputs.
    pub classes: Option<PathBuf>,
    /// Subtracted from every label, for labels that count from 1.
    pub label_offset: u32,
    /// Part of the training images, START:END:STEP.
    pub train_subset: Option<String>,
    /// Part of the test images, START:END:STEP.
    pub test_subset: Option<String>,
    /// Images that choices are made on: a dataset's test part, or a share of the training images such as `0.1`.
    pub validation: Option<String>,
    /// Order of the colour channels: `rgb` or `bgr`.
    pub channel_order: Option<ChannelOrder>,
    /// Factor on pixel values.
    pub scale: Option<f32>,
    /// Subtracted after scaling, one value or one for each channel.
    pub mean: Vec<f32>,
    /// Divides after the mean is subtracted.
    pub std: Vec<f32>,
    /// Resize: `N` for the short side, `HxW` exactly.
    pub resize: Option<String>,
    /// Crop: `N` or `HxW`; random in training, central in evaluation.
    pub crop: Option<String>,
    /// Mirror training images at random.
    pub mirror: bool,
    /// Pad training images by so many pixels on all sides and crop at random.
    pub pad_crop: Option<usize>,
    /// Weights of outputs in the loss, where the data has no labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output_weights: Vec<OutputWeight>,
    /// The preprocessing that was detected when the job began, which is not looked for again where the job goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detected: Option<Detected>,
}

impl DataOptions {
    /// These options, with those of `base` where they are not set.
    #[must_use]
    pub fn over(self, base: Self) -> Self {
        let filled = |given: Vec<f32>, base| if given.is_empty() { base } else { given };
        Self {
            path: self.path.or(base.path),
            classes: self.classes.or(base.classes),
            label_offset: if self.label_offset == 0 { base.label_offset } else { self.label_offset },
            train_subset: self.train_subset.or(base.train_subset),
            test_subset: self.test_subset.or(base.test_subset),
            validation: self.validation.or(base.validation),
            channel_order: self.channel_order.or(base.channel_order),
            scale: self.scale.or(base.scale),
            mean: filled(self.mean, base.mean),
            std: filled(self.std, base.std),
            resize: self.resize.or(base.resize),
            crop: self.crop.or(base.crop),
            mirror: self.mirror || base.mirror,
            pad_crop: self.pad_crop.or(base.pad_crop),
            output_weights: match self.output_weights.is_empty() {
                true => base.output_weights,
                false => self.output_weights,
            },
            detected: self.detected,
        }
    }

    /// The files of the dataset, if one is named.
    ///
    /// # Errors
    /// [`Error::Data`], naming the file.
    pub fn files(&self) -> Result<Option<slq_data::Dataset>, Error> {
        let options = OpenOptions { classes: self.classes.clone(), unlabelled: false };
        let Some(path) = &self.path else { return Ok(None) };
        let mut found = slq_data::Dataset::find(path, &options)?;
        found.train = found.train.with_class_names(&found.class_names);
        found.test = found.test.with_class_names(&found.class_names);
        if self.label_offset > 0 {
            found.train = found.train.with_label_offset(self.label_offset)?;
            found.test = found.test.with_label_offset(self.label_offset)?;
            let gone = found.class_names.len().min(self.label_offset as usize);
            found.class_names.drain(..gone);
        }
        Ok(Some(found))
    }

    /// The images for `model`, if a dataset is named, with the preprocessing of these options, the model's file or
    /// the prototxt (in this order); where none says it, the usual ones are tried on training images.
    ///
    /// # Errors
    /// [`Error::Data`] and [`Error::Argument`], naming file or option; [`Error::UnknownPreprocessing`] where none of the usual
    /// ones does clearly better than chance.
    pub fn open(&self, model: &Model, isa: Isa) -> Result<Option<Prepared>, Error> {
        if let Some(path) = self.path.as_deref().map(Path::new).filter(|p| is_examples(p)) {
            return self.open_examples(path, model, isa).map(Some);
        }
        if let Some(weight) = self.output_weights.first() {
            let reason = "it serves data without labels, an .npz with an array for each input";
            return Err(Error::Argument(format!(
                "--output-weight {}: {reason}",
                String::from(weight.clone())
            )));
        }
        self.files()?.map(|files| self.prepared(model, files, isa)).transpose()
    }

    /// The same for a dataset that is in memory; [`path`](Self::path) is not opened.
    ///
    /// # Errors
    /// As [`DataOptions::open`].
    pub fn prepared(&self, model: &Model, files: slq_data::Dataset, isa: Isa) -> Result<Prepared, Error> {
        self.check_labels(model, &files)?;
        let train = part(files.train, self.train_subset.as_deref())?;
        let test = part(files.test, self.test_subset.as_deref())?;
        self.prepare(model, train, test, isa)
    }

    /// Refuses labels that the network has no output for, naming the dataset or the class folder.
    fn check_labels(&self, model: &Model, files: &slq_data::Dataset) -> Result<(), Error> {
        let shape = model.graph.outputs.first().and_then(|o| o.shape.as_deref());
        let Some([_, Dim::Known(outputs @ 2..)]) = shape else { return Ok(()) };
        let path = self.path.as_deref().unwrap_or_default();
        [&files.train, &files.test].into_iter().try_for_each(|split| {
            split.check_labels(*outputs).map_err(|error| match error {
                DataError::LabelBeyondOutputs { index, label, outputs, from_one, .. } => {
                    let class = usize::try_from(label).ok().and_then(|l| files.class_names.get(l));
                    let place = class.map_or(path.into(), |c| format!("{path}, class `{c}`"));
                    DataError::LabelBeyondOutputs { place, index, label, outputs, from_one }
                }
                other => other,
            })
        })?;
        Ok(())
    }

    /// The same, where data cannot be done without.
    ///
    /// # Errors
    /// [`Error::Argument`] where no dataset is named, and those of [`DataOptions::open`].
    pub fn require(&self, model: &Model, isa: Isa) -> Result<Prepared, Error> {
        let missing = || Error::Argument("no data: name a dataset with --data PATH".into());
        self.open(model, isa)?.ok_or_else(missing)
    }

    /// The images that are named, or those that the model's own data layer names, as both splits.
    ///
    /// # Errors
    /// As [`DataOptions::require`].
    pub fn open_test(&self, model: &Model, isa: Isa) -> Result<Prepared, Error> {
        if self.path.is_none()
            && let Some(split) = model.test_images()?
        {
            let test = part(split, self.test_subset.as_deref())?;
            return self.prepare(model, test.clone(), test, isa);
        }
        self.require(model, isa)
    }

    fn prepare(&self, model: &Model, train: Split, test: Split, isa: Isa) -> Result<Prepared, Error> {
        let mut preprocessing = self.preprocessing_for(model, &train)?;
        let (train, validation) = self.validation(train, &test)?;
        let mut data = TrainingData {
            train,
            validation,
            test,
            transform: preprocessing.transform.clone(),
            following: None,
        };
        if preprocessing.source == PreprocessingSource::Assumed {
            preprocessing = match self.kept(&preprocessing, &data.train) {
                Some(kept) => kept,
                None => preprocessing.detected(&model.graph, &data, isa)?,
            };
            data.transform = preprocessing.transform.clone();
        } else if model.is_trained() {
            preprocessing.doubt = doubt(&model.graph, &data, isa);
        }
        Ok(Prepared { data, preprocessing })
    }

    /// What was detected when the job began, for the images of `split`; `assumed` holds what options and files say.
    pub(crate) fn kept(&self, assumed: &Preprocessing, split: &Split) -> Option<Preprocessing> {
        let detection = self.detected.as_ref()?.on(split, &assumed.transform)?;
        Some(assumed.clone().found(detection))
    }

    /// What remains of the training images, and the validation images where there are to be any. A share has the same images
    /// for every seed.
    ///
    /// # Errors
    /// [`Error::Data`] for files that cannot be read and for a share that leaves no image, [`Error::Argument`] for a share that
    /// is none and for the test images themselves.
    pub(crate) fn validation(&self, train: Split, test: &Split) -> Result<(Split, Option<Split>), Error> {
        let Some(text) = &self.validation else { return Ok((train, None)) };
        if let Ok(share) = text.parse::<f64>() {
            if !(share > 0.0 && share < 1.0) {
                let reason =
                    "give a share of the training images above 0 and below 1, such as 0.1, or a dataset";
                return Err(Error::Argument(format!("--validation {text}: {reason}")));
            }
            let (train, validation) = train.split_off_validation(Portion::Fraction(share), 0)?;
            return Ok((train, Some(validation)));
        }
        let other = Self { path: Some(text.clone()), ..self.clone() };
        let found = other.files()?.map(|found| found.test);
        if found.as_ref().is_some_and(|f| f.fingerprint() == test.fingerprint()) {
            let reason = "these are the test images; choices made on them would flatter the result";
            return Err(Error::Argument(format!("--validation {text}: {reason}")));
        }
        Ok((train, found))
    }

    /// Preprocessing as far as options and files say it; without data nothing can be detected.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that cannot be read, and those of [`Model::preprocessing`].
    pub fn preprocessing(&self, model: &Model) -> Result<Preprocessing, Error> {
        let flags = self.scale.is_some()
            || self.channel_order.is_some()
            || !self.mean.is_empty()
            || !self.std.is_empty();
        let source = match (flags, model.preprocessing()?, &model.source) {
            (true, ..) => PreprocessingSource::Flags,
            (false, Some(_), Source::Caffe(_)) => PreprocessingSource::Prototxt,
            (false, Some(_), _) => PreprocessingSource::Stored,
            (false, None, Source::Memory) => PreprocessingSource::Default,
            (false, None, _) => PreprocessingSource::Assumed,
        };
        let transform = self.adjusted(default_transform(model)?)?;
        Ok(Preprocessing::new(transform, source))
    }

    /// The same for the images of `split`, which are brought to the size and the channels that the network declares where
    /// options and files do not say how.
    ///
    /// # Errors
    /// As [`DataOptions::preprocessing`].
    pub fn preprocessing_for(&self, model: &Model, split: &Split) -> Result<Preprocessing, Error> {
        Ok(self.preprocessing(model)?.fitted_to(&model.graph, split))
    }

    /// Sets the options that stand for an augmentation.
    pub fn augment(&mut self, found: &Augmentation) {
        (self.mirror, self.pad_crop) = (found.mirror, found.pad_crop);
    }

    /// `transform` with these options on top.
    ///
    /// # Errors
    /// [`Error::Argument`] for sizes that cannot be read.
    pub fn adjusted(&self, mut transform: Transform) -> Result<Transform, Error> {
        if self.scale.is_some() {
            transform.scale = self.scale;
        }
        if let Some(order) = self.channel_order {
            transform.channel_order = order;
        }
        if !self.mean.is_empty() {
            transform.mean = self.mean.clone();
            transform.mean_first = false;
            transform.mean_image = None;
        }
        if !self.std.is_empty() {
            transform.std = self.std.clone();
        }
        if let Some(text) = &self.resize {
            transform.resize = Some(match sides("resize", text)? {
                (short, None) => Resize::ShortSide(short),
                (height, Some(width)) => Resize::Exact(height, width),
            });
        }
        if let Some(text) = &self.crop {
            let (height, width) = sides("crop", text)?;
            transform.crop = Some((height, width.unwrap_or(height)));
        }
        transform.mirror |= self.mirror;
        if self.pad_crop.is_some() {
            transform.pad_crop = self.pad_crop;
        }
        Ok(transform)
    }
}

pub(crate) fn part(split: Split, slice: Option<&str>) -> Result<Split, Error> {
    match slice {
        Some(slice) => Ok(split.subset(slice)?),
        None => Ok(split),
    }
}

fn sides(flag: &str, text: &str) -> Result<(usize, Option<usize>), Error> {
    let bad = || Error::Argument(format!("--{flag} {text}: give N or HxW, in pixels"));
    let number = |s: &str| s.parse::<usize>().map_err(|_| bad());
    match text.split_once('x') {
        Some((h, w)) => Ok((number(h)?, Some(number(w)?))),
        None => Ok((number(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(transform: Option<Transform>, is_caffe: bool) -> Model {
        let files = crate::caffe::CaffeFiles {
            source: slq_caffe::Source {
                prototxt: "net.prototxt".into(),
                caffemodel: None,
                options: slq_caffe::ReadOptions::new(slq_caffe::Phase::Test),
            },
            data_layers: Vec::new(),
            test: None,
        };
        let source = if is_caffe { crate::model::Source::Caffe(Box::new(files)) } else { Default::default() };
        Model { transform, source, ..Model::default() }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let stored = Transform { scale: Some(0.5), mirror: true, mean: vec![1.0], ..Default::default() };
        let none = DataOptions::default();
        let of = |options: &DataOptions, model| options.preprocessing(&model).unwrap();
        assert_eq!(of(&none, model(Some(stored.clone()), false)).transform, stored);
        let flags = DataOptions { mean: vec![2.0], crop: Some("24".into()), ..Default::default() };
        let found = of(&flags, model(Some(stored), false));
        assert_eq!(found.source, PreprocessingSource::Flags);
        let both = found.transform;
        assert_eq!((both.scale, both.mean, both.crop), (Some(0.5), vec![2.0], Some((24, 24))));
        assert_eq!(of(&none, model(None, true)).transform.scale, Some(1.0));
        assert_eq!(of(&none, model(None, false)).transform.scale, None);
    }

    #[test]
    fn given_options_win_over_those_of_a_recipe() {
        let base =
            DataOptions { path: Some("a".into()), scale: Some(0.5), mean: vec![1.0], ..Default::default() };
        let given =
            DataOptions { path: Some("b".into()), std: vec![2.0], mirror: true, ..Default::default() };
        let both = given.over(base.clone());
        assert_eq!((both.path.as_deref(), both.scale, both.mirror), (Some("b"), Some(0.5), true));
        assert_eq!((both.mean, both.std), (vec![1.0], vec![2.0]));
        assert_eq!(DataOptions::default().over(base.clone()), base);
    }

    #[test]
    fn labels_from_one_are_named_with_the_outputs() {
        let folder = tempfile::tempdir().unwrap();
        let idx = |magic: u32, dims: &[u32], data: &[u8]| -> Vec<u8> {
            let header = std::iter::once(&magic).chain(dims).flat_map(|n| n.to_be_bytes());
            header.chain(data.iter().copied()).collect()
        };
        std::fs::write(folder.path().join("train-images-idx3-ubyte"), idx(0x803, &[3, 1, 1], &[0; 3]))
            .unwrap();
        std::fs::write(folder.path().join("train-labels-idx1-ubyte"), idx(0x801, &[3], &[1, 2, 3])).unwrap();
        let mut model = model(None, false);
        let shape = Some(vec![Dim::Symbol("N".into()), Dim::Known(3)]);
        let dtype = slq_graph::DType::F32;
        model.graph.outputs.push(slq_graph::ValueInfo { name: "y".into(), dtype, shape });
        let path = folder.path().display().to_string();
        let options = DataOptions { path: Some(path.clone()), ..Default::default() };
        let error = options.open(&model, Isa::detect()).unwrap_err().to_string();
        let parts = [path.as_str(), "label 3", "3 outputs", "count from 0", "--label-offset 1"];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }

    #[test]
    fn sides_are_one_number_or_two() {
        assert_eq!(sides("crop", "224").unwrap(), (224, None));
        assert_eq!(sides("crop", "24x32").unwrap(), (24, Some(32)));
        assert!(sides("crop", "24x").is_err() && sides("crop", "x").is_err());
    }
}
