//! The usual kinds of preprocessing.

use slq_compress::Accuracy;
use slq_data::{ChannelOrder, Split, Transform};

use super::preprocessing::Detection;
use crate::Error;

/// A usual preprocessing of 8-bit images.
pub(super) struct Candidate {
    pub(super) name: &'static str,
    pub(super) flags: &'static str,
    scale: Option<f32>,
    mean: &'static [f32],
    std: &'static [f32],
    order: ChannelOrder,
}

const fn rgb(
    name: &'static str,
    flags: &'static str,
    scale: Option<f32>,
    mean: &'static [f32],
    std: &'static [f32],
) -> Candidate {
    Candidate { name, flags, scale, mean, std, order: ChannelOrder::Rgb }
}

const IMAGENET: &[f32] = &[0.485, 0.456, 0.406];
const IMAGENET_STD: &[f32] = &[0.229, 0.224, 0.225];

/// The usual ones for images of one channel.
const GREY: &[Candidate] = &[
    rgb("0 to 1", "--scale 0.00392156862745098", None, &[], &[]),
    rgb("pixels over 256", "--scale 0.00390625", Some(1.0 / 256.0), &[], &[]),
    rgb("0 to 255", "--scale 1", Some(1.0), &[], &[]),
    rgb("-1 to 1", "--mean 0.5 --std 0.5", None, &[0.5], &[0.5]),
    rgb("MNIST's mean and deviation", "--mean 0.1307 --std 0.3081", None, &[0.1307], &[0.3081]),
];

/// The usual ones for images of three channels.
const COLOUR: &[Candidate] = &[
    rgb(
        "ImageNet's mean and deviation",
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
        None,
        IMAGENET,
        IMAGENET_STD,
    ),
    rgb("0 to 1", "--scale 0.00392156862745098", None, &[], &[]),
    rgb("0 to 255", "--scale 1", Some(1.0), &[], &[]),
    rgb("pixels over 256", "--scale 0.00390625", Some(1.0 / 256.0), &[], &[]),
    rgb("-1 to 1", "--mean 0.5 --std 0.5", None, &[0.5], &[0.5]),
    rgb("(pixel - 127) / 128", "--scale 1 --mean 127 --std 128", Some(1.0), &[127.0], &[128.0]),
    Candidate {
        name: "Caffe's means, blue first",
        flags: "--channel-order bgr --scale 1 --mean 103.939,116.779,123.68",
        scale: Some(1.0),
        mean: &[103.939, 116.779, 123.68],
        std: &[],
        order: ChannelOrder::Bgr,
    },
    Candidate {
        name: "0 to 255, blue first",
        flags: "--channel-order bgr --scale 1",
        scale: Some(1.0),
        mean: &[],
        std: &[],
        order: ChannelOrder::Bgr,
    },
    Candidate {
        name: "0 to 1, blue first",
        flags: "--channel-order bgr --scale 0.00392156862745098",
        scale: None,
        mean: &[],
        std: &[],
        order: ChannelOrder::Bgr,
    },
    rgb(
        "CIFAR-10's mean and deviation",
        "--mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616",
        None,
        &[0.4914, 0.4822, 0.4465],
        &[0.2470, 0.2435, 0.2616],
    ),
];
/// Candidates at the end of [`COLOUR`] that serve small images alone: on others chance prefers them to ImageNet's, which are near.
const OF_SMALL: usize = 1;
/// Values of an image up to which it is small.
const SMALL: usize = 3 * 64 * 64;

impl Candidate {
    /// The preprocessing, with the sizes, crops and augmentation of `base`.
    pub(super) fn transform(&self, base: &Transform) -> Transform {
        Transform {
            scale: self.scale,
            mean: self.mean.to_vec(),
            std: self.std.to_vec(),
            mean_first: false,
            mean_image: None,
            channel_order: self.order,
            ..base.clone()
        }
    }

    /// The candidate as what was found, with its preprocessing `transform`.
    pub(super) fn found(&self, transform: Transform, accuracy: Option<Accuracy>, images: usize) -> Detection {
        Detection { transform, name: self.name, flags: self.flags, accuracy, images }
    }
}

/// The candidates for the channels and the size that images have behind `transform`, the most usual first.
pub(super) fn usual(transform: &Transform, split: &Split) -> &'static [Candidate] {
    match transform.channels.unwrap_or(split.channels()) {
        1 => GREY,
        _ if small(transform, split) => COLOUR,
        _ => &COLOUR[..COLOUR.len() - OF_SMALL],
    }
}

/// Whether images are small behind `transform`; those whose size is unknown are.
pub(super) fn small(transform: &Transform, split: &Split) -> bool {
    transform.output_shape(split).map_or(true, |shape| shape.iter().product::<usize>() <= SMALL)
}

/// So many images, evenly spread over the split.
pub(super) fn spread(split: &Split, count: usize) -> Result<Split, Error> {
    let step = split.len().div_ceil(count).max(1);
    Ok(split.subset(&format!("::{step}"))?)
}

#[cfg(test)]
mod tests {
    use slq_data::Resize;

    use super::*;

    #[test]
    fn candidates_have_the_channels_of_the_network() {
        let split = Split::from_bytes(vec![0; 3 * 4], vec![0], [3, 2, 2]).unwrap();
        let grey = Transform { channels: Some(1), ..Transform::default() };
        for candidate in usual(&grey, &split) {
            assert!(candidate.mean.len() <= 1 && candidate.std.len() <= 1, "{}", candidate.name);
        }
        assert!(usual(&Transform::default(), &split).iter().any(|c| c.mean.len() == 3));
        let cifar = |side| {
            let sized = Transform { resize: Some(Resize::Exact(side, side)), ..Transform::default() };
            usual(&sized, &split).iter().any(|c| c.name.starts_with("CIFAR"))
        };
        assert!(cifar(32) && !cifar(224));
    }
}
