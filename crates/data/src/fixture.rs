//! Reference values for tests, made by `tests/fixtures/make.py`.

use std::path::{Path, PathBuf};

use crate::npy;
use crate::tree::Tree;

/// The folder of the fixtures.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The bytes and the shape of an array of `pillow.npz`.
pub(crate) fn array(name: &str) -> (Vec<u8>, Vec<usize>) {
    let tree = Tree::zip(&folder().join("pillow.npz")).unwrap();
    let file = tree.files.iter().position(|entry| entry.path == format!("{name}.npy")).expect(name);
    let bytes = tree.read(file, 1 << 20).unwrap();
    let array = npy::parse(name, &bytes).unwrap();
    (array.data.to_vec(), array.shape.iter().map(|&dim| dim as usize).collect())
}

/// An image (height, width, channels) as planes, with its channels, height and width.
pub(crate) fn planes(name: &str) -> (Vec<u8>, [usize; 3]) {
    let (pixels, shape) = array(name);
    let [height, width, channels] = shape[..] else { panic!("{name}: {shape:?}") };
    let plane = |c: usize| pixels[c..].iter().step_by(channels).copied();
    ((0..channels).flat_map(plane).collect(), [channels, height, width])
}
