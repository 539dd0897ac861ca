//! Image files to pixels, within limits.

use std::io::Cursor;

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
