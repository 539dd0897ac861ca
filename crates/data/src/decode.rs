//! Decoding of image files, with limits on size and memory.

use std::io::{Cursor, ErrorKind};

use image::{ImageDecoder, ImageError, ImageReader, ImageResult, Limits};

/// The largest image file that is read.
pub(crate) const MAX_FILE: u64 = 256 << 20;

/// The largest side of an image, and the most memory its decoder may take.
const MAX_SIDE: u32 = 1 << 14;
const MAX_DECODED: u64 = 256 << 20;

/// Endings of the formats that can be decoded.
const ENDINGS: [&str; 10] = ["jpg", "jpeg", "png", "bmp", "gif", "webp", "pbm", "pgm", "ppm", "pnm"];

/// Whether a file is an image, by the ending of its name.
pub(crate) fn is_image(path: &str) -> bool {
    let ending = path.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// What the header of an image file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub colour: bool,
    /// Height, width.
    pub size: [usize; 2],
}

fn reader(bytes: &[u8]) -> ImageResult<ImageReader<Cursor<&[u8]>>> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODED);
    let mut reader =
        ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(ImageError::IoError)?;
    reader.limits(limits);
    Ok(reader)
}

/// Reads the header alone.
pub(crate) fn header(bytes: &[u8]) -> ImageResult<Header> {
    let decoder = reader(bytes)?.into_decoder()?;
    let (width, height) = decoder.dimensions();
    Ok(Header { colour: decoder.color_type().has_color(), size: [height as usize, width as usize] })
}

/// Decodes into planes: red, green and blue, or grey if `channels` is 1. Transparency is dropped, 16-bit values become
/// 8-bit, and a camera's orientation mark is ignored. Returns height and width.
pub(crate) fn decode(bytes: &[u8], channels: usize, out: &mut Vec<u8>) -> ImageResult<[usize; 2]> {
    if ends_early(bytes) {
        let reason = "the file ends before its picture does";
        return Err(ImageError::IoError(std::io::Error::new(ErrorKind::UnexpectedEof, reason)));
    }
    let image = reader(bytes)?.decode()?;
    let size = [image.height() as usize, image.width() as usize];
    out.clear();
    if channels == 1 {
        out.extend_from_slice(&image.into_luma8());
    } else {
        let rgb = image.into_rgb8();
        out.reserve(rgb.len());
        for c in 0..3 {
            out.extend(rgb.chunks_exact(3).map(|pixel| pixel[c]));
        }
    }
    Ok(size)
}

/// Whether a JPEG lacks the mark of its end behind its pixels: its decoder makes up the rest. Previews, which have a mark of their
/// own, lie in the segments before the pixels.
fn ends_early(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let Some(mut rest) = bytes.strip_prefix(&[0xff, 0xd8]) else { return false };
    loop {
        match rest {
            [0xff, SCAN, pixels @ ..] => return !pixels.windows(2).rev().any(|pair| pair == END),
            [0xff, 0xff, ..] => rest = &rest[1..],
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some(next) = rest.get(2 + length..) else { return true };
                rest = next;
            }
            // No JPEG; its decoder says so.
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use proptest::prelude::*;

    fn photo() -> Vec<u8> {
        std::fs::read(fixture::folder().join("photo.jpg")).unwrap()
    }

    fn png(width: u32, height: u32, colour: image::ExtendedColorType, pixels: &[u8]) -> Vec<u8> {
        use image::ImageEncoder;
        let mut bytes = Vec::new();
        image::codecs::png::PngEncoder::new(&mut bytes).write_image(pixels, width, height, colour).unwrap();
        bytes
    }

    /// Decoders may differ in the last bit of the transform.
    #[test]
    fn a_jpeg_is_decoded_as_pillow_does() {
        let (expected, [channels, height, width]) = fixture::planes("jpeg");
        assert_eq!(header(&photo()).unwrap(), Header { colour: true, size: [height, width] });
        let mut out = Vec::new();
        assert_eq!(decode(&photo(), channels, &mut out).unwrap(), [height, width]);
        assert_eq!(out.len(), expected.len());
        let far = out.iter().zip(&expected).filter(|(a, b)| a.abs_diff(**b) > 2).count();
        assert_eq!(far, 0);
    }

    /// With a preview's mark of its end in a segment before the pixels, too.
    #[test]
    fn a_jpeg_that_ends_early_is_refused() {
        let whole = photo();
        let preview = [&whole[..2], &[0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9], &whole[2..]].concat();
        for photo in [whole, preview] {
            let mut out = Vec::new();
            decode(&photo, 3, &mut out).unwrap();
            for end in [photo.len() - 2, photo.len() / 2, 100] {
                assert!(decode(&photo[..end], 3, &mut out).is_err(), "{end} bytes");
            }
        }
    }

    #[test]
    fn grey_and_transparent_images_become_planes() {
        use image::ExtendedColorType::{L8, La8, Rgba8};
        let mut out = Vec::new();
        let grey = png(2, 1, L8, &[10, 20]);
        assert!(!header(&grey).unwrap().colour);
        assert_eq!((decode(&grey, 1, &mut out).unwrap(), &out[..]), ([1, 2], &[10, 20][..]));
        decode(&grey, 3, &mut out).unwrap();
        assert_eq!(out, [10, 20, 10, 20, 10, 20]);
        decode(&png(1, 1, La8, &[7, 0]), 1, &mut out).unwrap();
        assert_eq!(out, [7]);
        let colour = png(1, 2, Rgba8, &[1, 2, 3, 0, 4, 5, 6, 255]);
        assert!(header(&colour).unwrap().colour);
        decode(&colour, 3, &mut out).unwrap();
        assert_eq!(out, [1, 4, 2, 5, 3, 6]);
    }

    /// A PNG header that announces 65 000 x 65 000 pixels, and one of 16 000 x 16 000 that passes the limit on sides.
    #[test]
    fn absurd_dimensions_are_refused_before_allocation() {
        for side in [65_000u32, 16_000] {
            let mut bytes = png(1, 1, image::ExtendedColorType::Rgb8, &[0, 0, 0]);
            bytes[16..20].copy_from_slice(&side.to_be_bytes());
            bytes[20..24].copy_from_slice(&side.to_be_bytes());
            let crc = crc32(&bytes[12..29]).to_be_bytes();
            bytes[29..33].copy_from_slice(&crc);
            let error = decode(&bytes, 3, &mut Vec::new()).unwrap_err();
            assert!(matches!(error, ImageError::Limits(_)), "{side}: {error:?}");
        }
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn images_are_told_by_their_ending() {
        for name in ["a.jpg", "a.b.JPEG", "x/y.Png", "a.webp", "a.ppm"] {
            assert!(is_image(name), "{name}");
        }
        for name in ["jpg", "a.txt", "a.jpg.txt", "a.", ""] {
            assert!(!is_image(name), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn garbled_images_are_errors_or_images(cut in 0usize..3000, at in 0usize..3000, value: u8) {
            let mut bytes = photo();
            let len = bytes.len();
            bytes[at % len] = value;
            bytes.truncate(cut % len + 1);
            let _ = decode(&bytes, 3, &mut Vec::new());
            let _ = header(&bytes);
        }
    }
}
