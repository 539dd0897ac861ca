//! Dataset and preprocessing flags.

use std::path::PathBuf;

use clap::Args;
use slq::data::ChannelOrder;
use slq::methods::OutputWeight;
use slq::{DataOptions, Error};

/// The dataset, and what happens to its images: [`DataOptions`] as flags.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Input and data")]
pub(crate) struct DataArgs {
    /// Image folder or zip, IDX, CIFAR, LMDB, .npz, mnist-10k
    ///
    /// A folder of IDX files, CIFAR's binary files, an image folder or a zip of one, a Caffe LMDB, an .npz, mnist-10k (built
    /// in) or fashion-mnist. An .npz with an array for each input of the network needs no labels: re-training is then towards
    /// the network's own outputs.
    #[arg(long, value_name = "PATH")]
    data: Option<String>,
    /// Class names, one a line, in the order of the network's outputs
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    classes: Option<PathBuf>,
    /// Subtract N from every label, for labels that count from 1
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, hide_short_help = true)]
    label_offset: u32,
    /// Part of the training images, START:END:STEP
    #[arg(long, value_name = "A:B:S", allow_hyphen_values = true, hide_short_help = true)]
    train_subset: Option<String>,
    /// Part of the test images, START:END:STEP
    #[arg(long, value_name = "A:B:S", allow_hyphen_values = true, hide_short_help = true)]
    test_subset: Option<String>,
    /// Images to make choices on: a dataset (its test part) or a share of the training images [default: 0.1 or as many as
    /// each choice needs]
    #[arg(long, value_name = "PATH|SHARE", hide_short_help = true)]
    validation: Option<String>,
    /// Order of the colour channels: rgb or bgr [default: rgb, for Caffe models bgr]
    #[arg(long, value_name = "ORDER", value_parser = crate::compress::named::<ChannelOrder>, hide_short_help = true)]
    channel_order: Option<ChannelOrder>,
    /// Factor on pixel values [default: 1/255, for Caffe models 1]
    #[arg(long, value_name = "X", hide_short_help = true)]
    scale: Option<f32>,
    /// Subtracted after scaling, one value or one for each channel: 0.485,0.456,0.406
    #[arg(
        long,
        value_name = "X,..",
        value_delimiter = ',',
        allow_hyphen_values = true,
        hide_short_help = true
    )]
    mean: Vec<f32>,
    /// Divides after the mean is subtracted
    #[arg(long, value_name = "X,..", value_delimiter = ',', hide_short_help = true)]
    std: Vec<f32>,
    /// Resize: N for the short side, HxW exactly
    #[arg(long, value_name = "N|HxW", hide_short_help = true)]
    resize: Option<String>,
    /// Crop: N or HxW; random in training, central in evaluation
    #[arg(long, value_name = "N|HxW", hide_short_help = true)]
    crop: Option<String>,
    /// Mirror training images at random
    #[arg(long, hide_short_help = true)]
    mirror: bool,
    /// Pad training images by N on all sides and crop at random
    #[arg(long, value_name = "N", hide_short_help = true)]
    pad_crop: Option<usize>,
    /// Weight of an output in the loss, where the data has no labels (repeatable; 0 leaves it out) [default: 1]
    #[arg(long, value_name = "NAME=W", hide_short_help = true)]
    output_weight: Vec<OutputWeight>,
}

impl DataArgs {
    /// Refuses flags of datasets where inputs are named one by one; those of preprocessing serve images.
    ///
    /// # Errors
    /// [`Error::Argument`], naming the first.
    pub(crate) fn refuse_beside_inputs(&self) -> Result<(), Error> {
        let given = [
            (self.data.is_some(), "--data"),
            (self.classes.is_some(), "--classes"),
            (self.label_offset != 0, "--label-offset"),
            (self.train_subset.is_some(), "--train-subset"),
            (self.test_subset.is_some(), "--test-subset"),
            (self.validation.is_some(), "--validation"),
            (self.mirror, "--mirror"),
            (self.pad_crop.is_some(), "--pad-crop"),
            (!self.output_weight.is_empty(), "--output-weight"),
        ];
        match given.iter().find(|(given, _)| *given) {
            Some((_, flag)) => Err(Error::Argument(format!(
                "{flag} means nothing here: --input names what the network runs on"
            ))),
            None => Ok(()),
        }
    }

    /// The flags as the library's options.
    pub(crate) fn options(&self) -> DataOptions {
        DataOptions {
            path: self.data.clone(),
            classes: self.classes.clone(),
            label_offset: self.label_offset,
            train_subset: self.train_subset.clone(),
            test_subset: self.test_subset.clone(),
            validation: self.validation.clone(),
            channel_order: self.channel_order,
            scale: self.scale,
            mean: self.mean.clone(),
            std: self.std.clone(),
            resize: self.resize.clone(),
            crop: self.crop.clone(),
            mirror: self.mirror,
            pad_crop: self.pad_crop,
            output_weights: self.output_weight.clone(),
            detected: None,
        }
    }
}
