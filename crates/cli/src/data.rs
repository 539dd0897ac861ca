//! Dataset and preprocessing flags.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};
use slq::{Dataset, Model, OpenOptions, Resize, TrainingData, Transform};

/// The flags of docs/cli.md, "Models and data".
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub(crate) struct DataArgs {
    /// Dataset: a folder of IDX files, CIFAR binary files, an image folder or a zip of one, a Caffe LMDB, an .npz, mnist-10k,
    /// fashion-mnist
    #[arg(long, value_name = "PATH")]
    pub(crate) data: Option<String>,
    /// Class names, one a line, in the order of the network's outputs
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// Part of the training images, START:END:STEP
    #[arg(long, value_name = "A:B:S", allow_hyphen_values = true)]
    train_subset: Option<String>,
    /// Part of the test images, START:END:STEP
    #[arg(long, value_name = "A:B:S", allow_hyphen_values = true)]
    test_subset: Option<String>,
    /// Factor on pixel values [default: 1/255, for Caffe models 1]
    #[arg(long, value_name = "X")]
    scale: Option<f32>,
    /// Subtracted after scaling, one value or one for each channel: 0.485,0.456,0.406
    #[arg(long, value_name = "X,..", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Vec<f32>,
    /// Divides after the mean is subtracted
    #[arg(long, value_name = "X,..", value_delimiter = ',')]
    std: Vec<f32>,
    /// Resize: N for the short side, HxW exactly
    #[arg(long, value_name = "N|HxW")]
    resize: Option<String>,
    /// Crop: N or HxW; random in training, central in evaluation
    #[arg(long, value_name = "N|HxW")]
    crop: Option<String>,
    /// Mirror training images at random
    #[arg(long)]
    mirror: bool,
    /// Pad training images by N on all sides and crop at random
    #[arg(long, value_name = "N")]
    pad_crop: Option<usize>,
}

impl DataArgs {
    /// These flags, with those of `base` where they say nothing.
    pub(crate) fn over(self, base: Self) -> Self {
        let filled = |given: Vec<f32>, base| if given.is_empty() { base } else { given };
        Self {
            data: self.data.or(base.data),
            classes: self.classes.or(base.classes),
            train_subset: self.train_subset.or(base.train_subset),
            test_subset: self.test_subset.or(base.test_subset),
            scale: self.scale.or(base.scale),
            mean: filled(self.mean, base.mean),
            std: filled(self.std, base.std),
            resize: self.resize.or(base.resize),
            crop: self.crop.or(base.crop),
            mirror: self.mirror || base.mirror,
            pad_crop: self.pad_crop.or(base.pad_crop),
        }
    }

    /// The dataset, if one was named.
    pub(crate) fn dataset(&self) -> Result<Option<Dataset>, slq::Error> {
        let options = OpenOptions { classes: self.classes.clone() };
        self.data.as_ref().map(|path| Ok(Dataset::find(path, &options)?)).transpose()
    }

    /// Slices of the training and of the test images.
    pub(crate) fn subsets(&self) -> [Option<String>; 2] {
        [self.train_subset.clone(), self.test_subset.clone()]
    }

    /// Opens the data, if any was named, with the preprocessing of flags, model file or defaults (in this order).
    pub(crate) fn open(&self, model: &Model) -> Result<Option<TrainingData>, slq::Error> {
        let Some(dataset) = self.dataset()? else { return Ok(None) };
        Ok(Some(TrainingData {
            train: part(dataset.train, &self.train_subset)?,
            test: part(dataset.test, &self.test_subset)?,
            transform: self.transform(model)?,
        }))
    }

    /// The test images that are named, or those that the model's own data layer names, as both splits.
    pub(crate) fn open_test(&self, model: &Model) -> Result<TrainingData, slq::Error> {
        if self.data.is_none()
            && let Some(split) = model.test_images()?
        {
            let test = part(split, &self.test_subset)?;
            return Ok(TrainingData { train: test.clone(), test, transform: self.transform(model)? });
        }
        self.require(model)
    }

    /// The same, where data cannot be done without.
    pub(crate) fn require(&self, model: &Model) -> Result<TrainingData, slq::Error> {
        self.open(model)?
            .ok_or_else(|| slq::Error::Argument("no data: name a dataset with --data PATH".into()))
    }

    /// Preprocessing: what the model's file says, with the given flags on top.
    pub(crate) fn transform(&self, model: &Model) -> Result<Transform, slq::Error> {
        let transform = match (model.preprocessing()?, &model.caffe) {
            (Some(transform), _) => transform,
            // Caffe computes (pixel - mean) * scale on BGR images, and scales by 1 unless it is told otherwise.
            (None, Some(_)) => Transform::caffe(1.0, Vec::new()),
            (None, None) => Transform::default(),
        };
        self.adjusted(transform)
    }

    /// `transform` with the given flags on top.
    pub(crate) fn adjusted(&self, mut transform: Transform) -> Result<Transform, slq::Error> {
        if self.scale.is_some() {
            transform.scale = self.scale;
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

fn part(split: slq::Split, slice: &Option<String>) -> Result<slq::Split, slq::Error> {
    match slice {
        Some(slice) => Ok(split.subset(slice)?),
        None => Ok(split),
    }
}

fn sides(flag: &str, text: &str) -> Result<(usize, Option<usize>), slq::Error> {
    let bad = || slq::Error::Argument(format!("--{flag} {text}: give N or HxW, in pixels"));
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
        let caffe = is_caffe.then(|| slq::CaffeSource {
            prototxt: "net.prototxt".into(),
            caffemodel: None,
            options: slq::CaffeReadOptions::new(slq::CaffePhase::Test),
        });
        Model { graph: Default::default(), transform, caffe, data_layers: Vec::new() }
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_defaults() {
        let stored = Transform { scale: Some(0.5), mirror: true, mean: vec![1.0], ..Default::default() };
        let none = DataArgs::default();
        assert_eq!(none.transform(&model(Some(stored.clone()), false)).unwrap(), stored);
        let flags = DataArgs { mean: vec![2.0], crop: Some("24".into()), ..Default::default() };
        let both = flags.transform(&model(Some(stored), false)).unwrap();
        assert_eq!((both.scale, both.mean, both.crop), (Some(0.5), vec![2.0], Some((24, 24))));
        assert_eq!(none.transform(&model(None, true)).unwrap().scale, Some(1.0));
        assert_eq!(none.transform(&model(None, false)).unwrap().scale, None);
    }

    #[test]
    fn given_flags_win_over_those_of_a_recipe() {
        let base =
            DataArgs { data: Some("a".into()), scale: Some(0.5), mean: vec![1.0], ..Default::default() };
        let given = DataArgs { data: Some("b".into()), std: vec![2.0], mirror: true, ..Default::default() };
        let both = given.over(base.clone());
        assert_eq!((both.data.as_deref(), both.scale, both.mirror), (Some("b"), Some(0.5), true));
        assert_eq!((both.mean, both.std), (vec![1.0], vec![2.0]));
        assert_eq!(DataArgs::default().over(base.clone()), base);
    }

    #[test]
    fn sides_are_one_number_or_two() {
        assert_eq!(sides("crop", "224").unwrap(), (224, None));
        assert_eq!(sides("crop", "24x32").unwrap(), (24, Some(32)));
        assert!(sides("crop", "24x").is_err() && sides("crop", "x").is_err());
    }
}
