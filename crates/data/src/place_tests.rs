use super::*;
use crate::{AxisOrder, Batch, ChannelOrder, MeanImage, Mode, Resize, Split, Transform, fixture};

const TRAIN: Mode = Mode::Train { seed: 1, epoch: 0 };

/// Every image through the transform, in one batch.
fn all(split: &Split, transform: &Transform, mode: Mode) -> Batch {
    split.batches(split.len(), transform, mode, false).unwrap().next().unwrap().unwrap()
}

/// One image of `channels` planes of 4 x 5 pixels with the values 0, 1, 2 ...
fn counting(channels: usize) -> Split {
    Split::from_bytes((0..20 * channels as u8).collect(), vec![0], [channels, 4, 5]).unwrap()
}

fn plain() -> Transform {
    Transform { scale: Some(1.0), ..Transform::default() }
}

#[test]
fn imagenet_evaluation_is_that_of_pillow_and_numpy() {
    let (pixels, shape) = fixture::planes("image");
    let split = Split::from_bytes(pixels, vec![0], shape).unwrap();
    let transform = Transform {
        mean: vec![0.485, 0.456, 0.406],
        std: vec![0.229, 0.224, 0.225],
        resize: Some(Resize::ShortSide(24)),
        crop: Some((16, 20)),
        mirror: true,
        ..Transform::default()
    };
    let (bytes, dims) = fixture::array("evaluated");
    let expected = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b));
    let batch = all(&split, &transform, Mode::Eval);
    assert_eq!(batch.shape[1..], dims);
    assert_eq!(transform.output_shape(&split).unwrap(), dims[..]);
    let largest = batch.images.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-6, "{largest}");
}

#[test]
fn defaults_scale_bytes_but_not_floats() {
    let bytes = Split::from_bytes(vec![0, 51, 255], vec![0], [1, 1, 3]).unwrap();
    assert_eq!(all(&bytes, &Transform::default(), Mode::Eval).images, [0.0, 51.0 * (1.0 / 255.0), 1.0]);
    let floats = Split::from_floats(vec![0.0, -0.5, 2.0], vec![0], [1, 1, 3]).unwrap();
    assert_eq!(all(&floats, &Transform::default(), Mode::Eval).images, [0.0, -0.5, 2.0]);
}

#[test]
fn caffe_subtracts_before_it_scales_and_wants_bgr() {
    let split = Split::from_bytes(vec![10, 20, 30], vec![0], [3, 1, 1]).unwrap();
    let transform = Transform::caffe(0.5, vec![1.0, 2.0, 3.0]);
    assert_eq!(all(&split, &transform, Mode::Eval).images, [14.5, 9.0, 3.5], "blue first");
    let scaled = Transform { mean_first: false, std: vec![2.0], ..transform };
    assert_eq!(all(&split, &scaled, Mode::Eval).images, [7.0, 4.0, 1.0]);
}

#[test]
fn a_mean_image_is_subtracted_where_the_crop_is() {
    let values: Vec<f32> = (0..60).map(|v| (v * v) as f32).collect();
    let mean = MeanImage { shape: [3, 4, 5], values: values.clone() };
    let transform = Transform { mean_image: Some(mean), crop: Some((2, 3)), ..Transform::caffe(0.5, vec![]) };
    let mut expected = Vec::new();
    for (c, y, x) in (0..3).flat_map(|c| (1..3).flat_map(move |y| (1..4).map(move |x| (c, y, x)))) {
        // Blue, green, red of an image whose red plane is 0..20, and means that are in this order already.
        let pixel = ((2 - c) * 20 + y * 5 + x) as f32;
        expected.push((pixel - values[c * 20 + y * 5 + x]) * 0.5);
    }
    assert_eq!(all(&counting(3), &transform, Mode::Eval).images, expected);
    // In training every crop, mirrored or not, takes its own part of the means: image and mean that are equal cancel.
    let same = MeanImage { shape: [1, 4, 5], values: (0..20).map(|v| v as f32).collect() };
    let same = Transform { mean_image: Some(same), crop: Some((3, 3)), mirror: true, ..plain() };
    let copies = Split::from_bytes((0..50).flat_map(|_| 0..20).collect(), vec![0; 50], [1, 4, 5]).unwrap();
    assert_eq!(all(&copies, &same, TRAIN).images, vec![0.0; 450]);
    let json = serde_json::to_string(&same).unwrap();
    assert_eq!(serde_json::from_str::<Transform>(&json).unwrap(), same);
}

#[test]
fn channels_last_is_the_same_image_with_its_axes_moved() {
    let split = Split::from_bytes((0..240).collect(), vec![0; 4], [3, 4, 5]).unwrap();
    let first =
        Transform { crop: Some((3, 2)), mirror: true, mean: vec![0.1, 0.2, 0.3], ..Transform::default() };
    let last = Transform { axis_order: AxisOrder::ChannelsLast, ..first.clone() };
    for mode in [TRAIN, Mode::Eval] {
        let (first, last) = (all(&split, &first, mode), all(&split, &last, mode));
        assert_eq!((first.shape, last.shape), ([4, 3, 3, 2], [4, 3, 2, 3]));
        for (i, value) in first.images.iter().enumerate() {
            let (image, channel, pixel) = (i / 18, i / 6 % 3, i % 6);
            assert_eq!(last.images[image * 18 + pixel * 3 + channel], *value);
        }
    }
}

#[test]
fn channels_are_converted() {
    let grey = Split::from_bytes(vec![10, 20], vec![0], [1, 1, 2]).unwrap();
    let rgb = Transform { channels: Some(3), mean: vec![0.0, 1.0, 2.0], ..plain() };
    assert_eq!(all(&grey, &rgb, Mode::Eval).images, [10.0, 20.0, 9.0, 19.0, 8.0, 18.0]);
    let colour = Split::from_bytes(vec![255, 0, 0, 255, 0, 0], vec![0], [3, 1, 2]).unwrap();
    let luma = Transform { channels: Some(1), channel_order: ChannelOrder::Bgr, ..plain() };
    assert_eq!(all(&colour, &luma, Mode::Eval).images, [76.0, 150.0]);
    let two = Split::from_bytes(vec![0, 0], vec![0], [2, 1, 1]).unwrap();
    assert!(matches!(two.batches(1, &rgb, Mode::Eval, false), Err(DataError::Channels { from: 2, to: 3 })));
}

#[test]
fn evaluation_crops_the_centre() {
    let crop = Transform { crop: Some((2, 3)), mirror: true, ..plain() };
    assert_eq!(all(&counting(1), &crop, Mode::Eval).images, [6.0, 7.0, 8.0, 11.0, 12.0, 13.0]);
    let padded = Transform { pad_crop: Some(3), ..plain() };
    let as_is: Vec<f32> = (0..20).map(|v| v as f32).collect();
    assert_eq!(all(&counting(1), &padded, Mode::Eval).images, as_is, "padding is for training");
}

/// Every training image must be the padded image at one of the possible places, mirrored or not, and all of them must occur.
#[test]
fn training_shows_every_crop_and_its_mirror_image() {
    let (pad, crop) = (1isize, [3usize, 4]);
    let transform = Transform {
        pad_crop: Some(1),
        crop: Some((3, 4)),
        mirror: true,
        mean: vec![2.0],
        std: vec![4.0],
        ..plain()
    };
    let copies = 1000;
    let pixels: Vec<u8> = (0..copies).flat_map(|_| 1..21).collect();
    let split = Split::from_bytes(pixels, vec![0; copies], [1, 4, 5]).unwrap();
    let mut possible = Vec::new();
    for (top, left, mirrored) in (0..4).flat_map(|t| (0..4).flat_map(move |l| [(t, l, false), (t, l, true)]))
    {
        let mut image = Vec::new();
        for (y, x) in (0..crop[0] as isize).flat_map(|y| (0..crop[1] as isize).map(move |x| (y, x))) {
            let x = if mirrored { crop[1] as isize - 1 - x } else { x };
            let (y, x) = (y + top - pad, x + left - pad);
            let inside = (0..4).contains(&y) && (0..5).contains(&x);
            let pixel = if inside { (y * 5 + x + 1) as f32 } else { 0.0 };
            image.push((pixel - 2.0) / 4.0);
        }
        possible.push(image);
    }
    let mut seen = vec![0; possible.len()];
    for image in all(&split, &transform, TRAIN).images.chunks_exact(12) {
        seen[possible.iter().position(|p| p == image).expect("a crop of the padded image")] += 1;
    }
    assert!(seen.iter().all(|&count| count > 8), "{seen:?}");
}

#[test]
fn switching_the_mirror_on_leaves_the_crops_as_they_are() {
    let split = Split::from_bytes((0..=199).collect(), vec![0; 10], [1, 4, 5]).unwrap();
    let crops = Transform { crop: Some((2, 1)), ..plain() };
    let both = Transform { mirror: true, ..crops.clone() };
    // A crop one pixel wide is its own mirror image.
    assert_eq!(all(&split, &crops, TRAIN), all(&split, &both, TRAIN));
}

#[test]
fn an_image_smaller_than_the_crop_is_refused() {
    let crop = Transform { crop: Some((5, 5)), ..plain() };
    let error = counting(1).batches(1, &crop, Mode::Eval, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "every image: a crop of [5, 5] does not fit in an image of [4, 5] (height, width)"
    );
    let padded = Transform { pad_crop: Some(1), ..crop };
    assert!(counting(1).batches(1, &padded, TRAIN, false).is_ok(), "the padding makes room");
}

#[test]
fn a_thin_image_is_not_blown_up() {
    let thin = Split::from_bytes(vec![0; 1 << 14], vec![0], [1, 1, 1 << 14]).unwrap();
    let transform = Transform { resize: Some(Resize::ShortSide(1000)), crop: Some((4, 4)), ..plain() };
    let error = thin.batches(1, &transform, Mode::Eval, false).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::ResizeTooLarge { resized: [1000, 16_384_000], .. }), "{error}");
}

#[test]
fn settings_without_sense_are_refused() {
    let means = |shape, values| Transform { mean_image: Some(MeanImage { shape, values }), ..plain() };
    let cases = [
        (means([1, 4, 5], vec![0.0; 20]), "mean_image is of [1, 4, 5], but the images are of [3, 4, 5]"),
        (means([3, 4, 5], vec![0.0; 20]), "mean_image has 20 values for [3, 4, 5]"),
        (means([3, 4, 5], vec![f32::NAN; 60]), "mean_image holds NaN; it must be finite"),
        (Transform { scale: Some(0.0), ..plain() }, "scale is 0; it must be finite and not 0"),
        (Transform { scale: Some(f32::NAN), ..plain() }, "scale is NaN; it must be finite and not 0"),
        (Transform { mean: vec![1.0, 2.0], ..plain() }, "mean has 2 values for 3 channels"),
        (Transform { mean: vec![f32::INFINITY], ..plain() }, "mean is inf; it must be finite"),
        (Transform { std: vec![1.0, 0.0, 1.0], ..plain() }, "std is 0; it must not be 0"),
        (Transform { crop: Some((0, 1)), ..plain() }, "crop is 0x1; sides must be from 1 to 16384"),
        (
            Transform { resize: Some(Resize::ShortSide(1 << 40)), ..plain() },
            "resize is 1099511627776x1099511627776; sides must be from 1 to 16384",
        ),
        (
            Transform { pad_crop: Some(usize::MAX), ..plain() },
            "pad_crop is 18446744073709551615; the limit is 16384",
        ),
    ];
    for (transform, message) in cases {
        let error = counting(3).batches(1, &transform, TRAIN, false).unwrap_err();
        assert_eq!(error.to_string(), format!("transform: {message}"));
    }
    assert!(matches!(counting(3).batches(0, &plain(), TRAIN, false), Err(DataError::BatchSize)));
}

#[test]
fn a_transform_survives_json_and_old_files_get_defaults() {
    let transform = Transform {
        mean: vec![0.1, 0.2, 0.3],
        resize: Some(Resize::Exact(3, 4)),
        crop: Some((1, 2)),
        pad_crop: Some(4),
        ..Transform::caffe(0.017, vec![])
    };
    let json = serde_json::to_string(&transform).unwrap();
    assert_eq!(serde_json::from_str::<Transform>(&json).unwrap(), transform);
    let old: Transform = serde_json::from_str(r#"{"mirror": true, "resize": {"short_side": 256}}"#).unwrap();
    let expected = Transform { mirror: true, resize: Some(Resize::ShortSide(256)), ..Transform::default() };
    assert_eq!(old, expected);
}
