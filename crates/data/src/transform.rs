//! The settings that turn stored pixels into a network's input.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{DataError, Split};

/// Preprocessing and augmentation.
///
/// The steps, in this order: conversion to [`channels`](Self::channels), [`resize`](Self::resize),
/// [`mean_image`](Self::mean_image),
/// [`pad_crop`](Self::pad_crop) and [`crop`](Self::crop), [`mirror`](Self::mirror), and for each value
/// `out = (pixel * scale - mean) / std` (or `(pixel - mean) * scale / std`, see [`mean_first`](Self::mean_first)).
/// Random choices are made in training only; evaluation crops the centre and neither pads nor mirrors.
///
/// It is stored with the models written, so that a later command need not repeat it; fields that a file lacks take their
/// default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Transform {
    /// Factor for the pixels; `None` means 1/255 for 8-bit images and 1 for float images.
    pub scale: Option<f32>,
    /// Mean of each output channel, or one for all of them, in scaled units (in pixel units with
    /// [`mean_first`](Self::mean_first)); empty means 0. In the order of the output channels: B, G, R with
    /// [`ChannelOrder::Bgr`].
    pub mean: Vec<f32>,
    /// A mean for each pixel, subtracted after the resize and before everything else (Caffe's `mean_file`).
    pub mean_image: Option<MeanImage>,
    /// Standard deviation of each output channel, or one for all, in scaled units; empty means 1.
    pub std: Vec<f32>,
    /// Subtract the mean before scaling, as Caffe does.
    pub mean_first: bool,
    /// Resize before cropping.
    pub resize: Option<Resize>,
    /// Height and width of the crop: at a random place in training, at the centre in evaluation.
    pub crop: Option<(usize, usize)>,
    /// Mirror half of the training images left to right.
    pub mirror: bool,
    /// In training, surround the image by so many pixels of value 0, then crop at a random place to
    /// [`crop`](Self::crop) or, without one, to the image's own size.
    pub pad_crop: Option<usize>,
    /// Channels to convert to: 1 (luma of ITU-R BT.601) or 3 (grey repeated); `None` keeps those of the images.
    pub channels: Option<usize>,
    /// Order of the three output channels.
    pub channel_order: ChannelOrder,
    /// Order of an image's axes. Stored only where it is not the usual one, which older programs know alone.
    #[serde(skip_serializing_if = "AxisOrder::is_usual")]
    pub axis_order: AxisOrder,
}

/// The mean of each pixel over a set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MeanImage {
    /// Channels, height and width: those of the images after conversion and resize, before the crop.
    pub shape: [usize; 3],
    /// The means in pixel units, of this shape, with the channels in the order of the output (blue first for Caffe).
    pub values: Vec<f32>,
}

/// How to resize (bilinear, with antialiasing when shrinking, as Pillow does).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// The shorter side becomes so many pixels; the longer one keeps the proportion, rounded down.
    ShortSide(usize),
    /// Exactly this height and width.
    Exact(usize, usize),
}

/// Order of the colour channels a network wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red, as Caffe's networks.
    Bgr,
}

/// Order of an image's axes in the input that a network wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AxisOrder {
    /// Channels, height, width.
    #[default]
    ChannelsFirst,
    /// Height, width, channels, as TensorFlow's networks take them.
    ChannelsLast,
}

impl AxisOrder {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl Transform {
    /// Caffe's `transform_param`: `(pixel - mean) * scale`, with the mean of each channel in pixel units and B, G, R order.
    pub fn caffe(scale: f32, mean: Vec<f32>) -> Transform {
        Transform {
            scale: Some(scale),
            mean,
            mean_first: true,
            channel_order: ChannelOrder::Bgr,
            ..Transform::default()
        }
    }

    /// The shape `[channels, height, width]` that images of this split take, `[height, width, channels]` with
    /// [`AxisOrder::ChannelsLast`].
    ///
    /// # Errors
    /// Those of [`Split::batches`]: the settings make no sense or do not fit the images.
    pub fn output_shape(&self, split: &Split) -> Result<[usize; 3], DataError> {
        Ok(Plan::new(self, split, Phase::Eval)?.output_shape())
    }
}

/// The largest side of an output image, a guard against absurd settings.
const MAX_SIDE: usize = 1 << 14;

/// What images are prepared for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// With augmentation.
    Train,
    /// Without.
    Eval,
}

/// A transform checked against the images it is for.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Output channels, height, width.
    pub shape: [usize; 3],
    pub scale: f32,
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Of the size that every image has before the crop.
    pub mean_image: Option<Arc<[f32]>>,
    pub mean_first: bool,
    pub resize: Option<Resize>,
    pub mirror: bool,
    /// Padding in this mode; 0 in evaluation.
    pub pad: usize,
    /// Crops and mirrors are random in training.
    pub phase: Phase,
    pub reverse_channels: bool,
    pub axis_order: AxisOrder,
}

impl Plan {
    pub fn new(transform: &Transform, split: &Split, phase: Phase) -> Result<Plan, DataError> {
        let train = phase == Phase::Train;
        let stored = split.channels();
        let channels = transform.channels.unwrap_or(stored);
        if channels != stored && !matches!((stored, channels), (1, 3) | (3, 1)) {
            return Err(DataError::Channels { from: stored, to: channels });
        }
        let scale = transform.scale.unwrap_or(if split.is_float() { 1.0 } else { 1.0 / 255.0 });
        if !scale.is_finite() || scale == 0.0 {
            return Err(bad("scale", format!("is {scale}; it must be finite and not 0")));
        }
        let std = per_channel("std", &transform.std, 1.0, channels)?;
        if let Some(zero) = std.iter().find(|&&s| s == 0.0) {
            return Err(bad("std", format!("is {zero}; it must not be 0")));
        }
        let pad = transform.pad_crop.unwrap_or(0);
        if pad > MAX_SIDE {
            return Err(bad("pad_crop", format!("is {pad}; the limit is {MAX_SIDE}")));
        }
        let stored_size = split.storage.size();
        let base = match transform.resize {
            None => stored_size,
            Some(Resize::Exact(height, width)) => Some(check_side("resize", [height, width])?),
            Some(Resize::ShortSide(short)) => {
                check_side("resize", [short, short])?;
                stored_size.map(|size| resized(Resize::ShortSide(short), size))
            }
        };
        let crop = transform.crop.map(|(h, w)| check_side("crop", [h, w])).transpose()?;
        let size = crop.or(base).ok_or(DataError::SizesDiffer)?;
        if let (Some(crop), Some(base)) = (crop, base) {
            let room = if train { 2 * pad } else { 0 };
            if crop[0] > base[0] + room || crop[1] > base[1] + room {
                return Err(DataError::CropTooLarge { place: "every image".into(), crop, image: base });
            }
        }
        Ok(Plan {
            shape: [channels, size[0], size[1]],
            scale,
            mean: per_channel("mean", &transform.mean, 0.0, channels)?,
            std,
            mean_image: transform
                .mean_image
                .as_ref()
                .map(|mean| check_mean(mean, channels, base))
                .transpose()?,
            mean_first: transform.mean_first,
            // A resize to the size that the images have anyway is skipped.
            resize: transform.resize.filter(|_| base.is_none() || base != stored_size),
            mirror: transform.mirror && train,
            pad: if train { pad } else { 0 },
            phase,
            reverse_channels: transform.channel_order == ChannelOrder::Bgr && channels == 3,
            axis_order: transform.axis_order,
        })
    }

    /// [`shape`](Self::shape) in the order in which images are written.
    pub fn output_shape(&self) -> [usize; 3] {
        let [channels, height, width] = self.shape;
        match self.axis_order {
            AxisOrder::ChannelsFirst => self.shape,
            AxisOrder::ChannelsLast => [height, width, channels],
        }
    }
}

/// The size that a resize gives to an image of `[height, width]`.
pub(crate) fn resized(resize: Resize, [height, width]: [usize; 2]) -> [usize; 2] {
    match resize {
        Resize::Exact(h, w) => [h, w],
        Resize::ShortSide(short) if height <= width => [short, (short * width / height).max(1)],
        Resize::ShortSide(short) => [(short * height / width).max(1), short],
    }
}

fn check_mean(mean: &MeanImage, channels: usize, base: Option<[usize; 2]>) -> Result<Arc<[f32]>, DataError> {
    let Some([height, width]) = base else {
        return Err(bad("mean_image", "needs images of one size, or a resize to one size".into()));
    };
    let shape = [channels, height, width];
    if mean.shape != shape {
        return Err(bad("mean_image", format!("is of {:?}, but the images are of {shape:?}", mean.shape)));
    }
    if mean.values.len() != shape.iter().product::<usize>() {
        return Err(bad("mean_image", format!("has {} values for {shape:?}", mean.values.len())));
    }
    match mean.values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(bad("mean_image", format!("holds {value}; it must be finite"))),
        None => Ok(mean.values.as_slice().into()),
    }
}

fn check_side(field: &'static str, size: [usize; 2]) -> Result<[usize; 2], DataError> {
    if size.iter().all(|side| (1..=MAX_SIDE).contains(side)) {
        return Ok(size);
    }
    Err(bad(field, format!("is {}x{}; sides must be from 1 to {MAX_SIDE}", size[0], size[1])))
}

fn per_channel(
    field: &'static str,
    values: &[f32],
    default: f32,
    channels: usize,
) -> Result<Vec<f32>, DataError> {
    if let Some(value) = values.iter().find(|v| !v.is_finite()) {
        return Err(bad(field, format!("is {value}; it must be finite")));
    }
    match values {
        [] => Ok(vec![default; channels]),
        [one] => Ok(vec![*one; channels]),
        _ if values.len() == channels => Ok(values.to_vec()),
        _ => Err(bad(field, format!("has {} values for {channels} channels", values.len()))),
    }
}

fn bad(field: &'static str, problem: String) -> DataError {
    DataError::Transform { field, problem }
}
