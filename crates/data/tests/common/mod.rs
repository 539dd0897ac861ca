//! Small datasets written to disk.
#![allow(dead_code, reason = "each test program uses a part")]

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use slq_data::{Batch, DataError, Dataset, Mode, OpenOptions, Split, Transform};

/// Opens with the default options.
pub fn open(path: &Path) -> Result<Dataset, DataError> {
    Dataset::open(path, &OpenOptions::default())
}

/// A file, with the folders above it.
pub fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// An IDX file with the given magic number and dimensions.
pub fn idx(magic: u32, dims: &[u32], data: &[u8]) -> Vec<u8> {
    let header = std::iter::once(&magic).chain(dims).flat_map(|number| number.to_be_bytes());
    header.chain(data.iter().copied()).collect()
}

/// `bytes`, gzip'd.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The four files of an IDX dataset: 3 training images of 2 x 2 pixels with labels 0, 1, 2 and one test image with label 1.
pub fn idx_files() -> [(&'static str, Vec<u8>); 4] {
    [
        ("train-images-idx3-ubyte", idx(0x803, &[3, 2, 2], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])),
        ("train-labels-idx1-ubyte", idx(0x801, &[3], &[0, 1, 2])),
        ("t10k-images-idx3-ubyte", idx(0x803, &[1, 2, 2], &[9, 8, 7, 6])),
        ("t10k-labels-idx1-ubyte", idx(0x801, &[1], &[1])),
    ]
}

/// Writes [`idx_files`], with one of them replaced.
pub fn put_idx(folder: &Path, replace: &str, content: &[u8]) {
    for (name, bytes) in idx_files() {
        put(&folder.join(name), if name == replace { content } else { &bytes });
    }
}

/// An image of one colour.
pub fn picture(width: u32, height: u32, colour: [u8; 3], format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let image = RgbImage::from_pixel(width, height, Rgb(colour));
    DynamicImage::ImageRgb8(image).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of one colour.
pub fn png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    picture(width, height, colour, ImageFormat::Png)
}

/// A zip archive of these entries.
pub fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// All images in one batch, unscaled.
pub fn pixels(split: &Split) -> Batch {
    let raw = Transform { scale: Some(1.0), ..Transform::default() };
    split.batches(split.len(), &raw, Mode::Eval, false).unwrap().next().unwrap().unwrap()
}

/// Where the larger data lies: `SLQ_DATA`, or `shared` beside the repository. Says that a test is skipped if it is not there.
pub fn larger_data(test: &str, below: &str) -> Option<std::path::PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    let path = std::env::var_os("SLQ_DATA").map_or(beside, Into::into).join(below);
    if !path.exists() {
        println!("{test} skipped: {} is missing", path.display());
        return None;
    }
    Some(path)
}
