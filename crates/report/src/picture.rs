//! Small images as data addresses.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{DynamicImage, GrayImage, ImageEncoder, RgbImage};

use crate::data::Picture;

/// Sides of a picture in the page, at most.
const LARGEST: u32 = 64;

/// The picture as a PNG in a data address; `None` where its values do not fill it.
pub(crate) fn address(picture: &Picture) -> Option<String> {
    let (width, height) = (picture.width, picture.height);
    let pixels = picture.pixels.clone();
    let whole: DynamicImage = match picture.colour {
        true => RgbImage::from_raw(width, height, pixels)?.into(),
        false => GrayImage::from_raw(width, height, pixels)?.into(),
    };
    let small = match width.max(height) {
        0 => return None,
        n if n > LARGEST => whole.thumbnail(LARGEST, LARGEST),
        _ => whole,
    };
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive);
    encoder.write_image(small.as_bytes(), small.width(), small.height(), small.color().into()).ok()?;
    Some(format!("data:image/png;base64,{}", STANDARD.encode(png)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(address: &str) -> DynamicImage {
        let png = STANDARD.decode(address.strip_prefix("data:image/png;base64,").unwrap()).unwrap();
        image::load_from_memory(&png).unwrap()
    }

    #[test]
    fn a_small_picture_survives_and_a_large_one_shrinks() {
        let pixels: Vec<u8> = (0..12).collect();
        let small = Picture { width: 2, height: 2, colour: true, pixels: pixels.clone() };
        assert_eq!(decoded(&address(&small).unwrap()).to_rgb8().into_raw(), pixels);
        let large = Picture { width: 500, height: 250, colour: false, pixels: vec![7; 125_000] };
        let shrunk = decoded(&address(&large).unwrap());
        assert_eq!((shrunk.width(), shrunk.height()), (64, 32));
    }

    #[test]
    fn too_few_values_are_no_picture() {
        assert_eq!(address(&Picture { width: 2, height: 2, colour: false, pixels: vec![0; 3] }), None);
        assert_eq!(address(&Picture { width: 0, height: 0, colour: false, pixels: Vec::new() }), None);
    }
}
