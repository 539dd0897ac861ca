//! Caffe's files beside the network: where they are, data layers and their images.

mod files;
mod sources;

use std::path::{Path, PathBuf};

use crate::Error;

pub use files::CaffeFiles;
pub(crate) use files::TestNet;
pub use slq_caffe::{Phase, ReadOptions, Source, learned_net};
pub use sources::{Images, images_of, layer_without_shape, needs_data, transform};

/// The file that `near` calls `name`. Caffe looks below the folder it is started in; where there is no such file here,
/// the folder of `near` and those above it are tried, so that a project can be used from anywhere.
///
/// # Errors
/// [`Error::CaffeFile`] naming both.
pub fn resolve(name: &Path, near: &Path) -> Result<PathBuf, Error> {
    if name.exists() {
        return Ok(name.into());
    }
    let real = near.canonicalize().unwrap_or_else(|_| near.into());
    let below = real.ancestors().skip(1).map(|folder| folder.join(name)).find(|path| path.exists());
    below.ok_or_else(|| Error::CaffeFile { name: name.into(), near: near.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_for_beside_and_above_the_file_that_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("examples/mnist");
        std::fs::create_dir_all(&deep).unwrap();
        let solver = deep.join("solver.prototxt");
        for file in [solver.clone(), deep.join("net.prototxt")] {
            std::fs::write(file, "").unwrap();
        }
        for name in ["net.prototxt", "examples/mnist/net.prototxt"] {
            let found = resolve(Path::new(name), &solver).unwrap();
            assert!(found.is_file() && found.ends_with("net.prototxt"), "{name}");
        }
        let missing = resolve(Path::new("train_lmdb"), &solver).unwrap_err().to_string();
        assert!(missing.contains("train_lmdb") && missing.contains("solver.prototxt"), "{missing}");
    }
}
