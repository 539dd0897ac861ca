//! Opening of datasets by path and by name.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::lmdb::folder::file_of;
use crate::tree::Tree;
use crate::{DataError, Dataset, OpenOptions, Split, idx, layout, npz};

/// Names that [`Dataset::named`] knows.
const NAMES: &[&str] = &["mnist-10k", "fashion-mnist"];

impl Dataset {
    /// Opens the dataset at `path`, whichever layout it has:
    ///
    /// - a folder of IDX files (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` ..., each gzip'd or not);
    /// - the binary version of CIFAR-10 (`data_batch_N.bin`, `test_batch.bin`) or CIFAR-100 (`train.bin`, `test.bin`);
    /// - an image folder, `train/CLASS/*.jpg` and `test/CLASS/*.png` (or `val`), or one without either: one split;
    /// - a zip archive of one of these;
    /// - a Caffe LMDB, or a folder of two, named as for training (`train`, `mnist_train_lmdb`) and test or validation;
    /// - an `.npz` with `x_train`, `y_train`, `x_test`, `y_test`.
    ///
    /// All of them may lie inside one outer folder. Where there is only one split, it stands for both
    /// ([`one_split`](Self::one_split)). Class folders that are all named `NNNN_name` state their index; others are numbered
    /// in sorted order, over both splits, or by [`OpenOptions::classes`].
    ///
    /// # Errors
    /// See [`DataError`]; every message names the file.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Dataset, DataError> {
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => DataError::NotFound { path: path.into() },
            _ => DataError::Io { path: path.into(), source },
        };
        let metadata = std::fs::metadata(path).map_err(io)?;
        if metadata.is_dir() {
            if let Some(dataset) = databases(path)? {
                return Ok(dataset);
            }
            return layout::open(Tree::folder(path)?, options);
        }
        let unrecognised = |found: &str| DataError::Unrecognised { path: path.into(), found: found.into() };
        if !metadata.is_file() {
            return Err(unrecognised("neither a file nor a folder"));
        }
        if let Some(what) = slq_file::stand_in(path) {
            return Err(unrecognised(what));
        }
        let mut start = Vec::new();
        File::open(path).and_then(|file| file.take(8).read_to_end(&mut start)).map_err(io)?;
        match start[..] {
            [b'P', b'K', 3 | 5, ..] => {
                let tree = Tree::zip(path)?;
                let arrays = tree.files.iter().any(|entry| entry.path.ends_with(".npy"));
                if arrays { npz::open(&tree) } else { layout::open(tree, options) }
            }
            [0, 0, 8, 1 | 3, ..] => Err(unrecognised("a single IDX file; give the folder it is in")),
            [0x1f, 0x8b, ..] => {
                Err(unrecognised("a gzip file; give the folder of the IDX files, or unpack it"))
            }
            [0x93, b'N', b'U', b'M', ..] => Err(unrecognised("a single array; save all of them in an .npz")),
            _ => Err(unrecognised("a file of another kind")),
        }
    }

    /// A dataset known by name: `mnist-10k` is built in; `fashion-mnist` is Debian's package `dataset-fashion-mnist`, looked
    /// for in `fashion-mnist` below the folder that the environment variable `SLQ_DATA` names, then where Debian puts it.
    ///
    /// # Errors
    /// [`DataError::UnknownName`], [`DataError::NotInstalled`] and those of [`open`](Self::open).
    pub fn named(name: &str) -> Result<Dataset, DataError> {
        match name {
            "mnist-10k" => sample(),
            "fashion-mnist" => {
                let own =
                    std::env::var_os("SLQ_DATA").map(|folder| PathBuf::from(folder).join("fashion-mnist"));
                let places: Vec<PathBuf> = own.into_iter().chain([FASHION_MNIST.into()]).collect();
                installed(&places)
            }
            _ => Err(DataError::UnknownName { name: name.into(), known: NAMES }),
        }
    }

    /// Opens what a user calls a dataset: one of the names, or a path. A name goes before a file that is called the same;
    /// `./mnist-10k` is always the file.
    ///
    /// # Errors
    /// Those of [`named`](Self::named) and [`open`](Self::open).
    pub fn find(name_or_path: &str, options: &OpenOptions) -> Result<Dataset, DataError> {
        match NAMES.contains(&name_or_path) {
            true => Dataset::named(name_or_path),
            false => Dataset::open(Path::new(name_or_path), options),
        }
    }
}

/// The databases at `path`: one, or a training and a test database side by side.
fn databases(path: &Path) -> Result<Option<Dataset>, DataError> {
    if file_of(path).is_some() {
        let split = Split::open_lmdb(path)?;
        return Dataset::of_parts(Some(split), None, Vec::new(), path);
    }
    let io = |source| DataError::Io { path: path.into(), source };
    let (mut train, mut test) = (None, None);
    for entry in std::fs::read_dir(path).map_err(io)? {
        let folder = entry.map_err(io)?.path();
        if file_of(&folder).is_none() {
            continue;
        }
        let name = folder.file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let place = match (name.contains("train"), name.contains("test") || name.contains("val")) {
            (true, false) => &mut train,
            (false, true) => &mut test,
            _ => continue,
        };
        if let Some(other) = place.replace(folder.clone()) {
            let problem = format!("both {} and {} could be meant", other.display(), folder.display());
            return Err(DataError::Lmdb { path: path.into(), problem });
        }
    }
    let (Some(train), Some(test)) = (train, test) else { return Ok(None) };
    let (train, test) = (Split::open_lmdb(&train)?, Split::open_lmdb(&test)?);
    Dataset::of_parts(Some(train), Some(test), Vec::new(), path)
}

/// Where Debian's package puts Fashion-MNIST.
const FASHION_MNIST: &str = "/usr/share/datasets/fashion-mnist";

fn installed(places: &[PathBuf]) -> Result<Dataset, DataError> {
    match places.iter().find(|place| place.is_dir()) {
        Some(place) => {
            let mut dataset = Dataset::open(place, &OpenOptions::default())?;
            dataset.class_names = FASHION_CLASSES.map(str::to_owned).to_vec();
            Ok(dataset)
        }
        None => Err(DataError::NotInstalled {
            name: "fashion-mnist",
            searched: places.iter().map(|place| place.display().to_string()).collect(),
            hint: "install Debian's package dataset-fashion-mnist (apt-get install dataset-fashion-mnist), or set SLQ_DATA to the folder that holds a folder fashion-mnist with the four IDX files",
        }),
    }
}

/// The labels' meanings, from the dataset's description.
const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// The built-in sample: 8000 training and 2000 test images of MNIST (`sample/LICENCE.md`).
fn sample() -> Result<Dataset, DataError> {
    let train = idx::read(
        ("train-images", include_bytes!("../sample/train-images-idx3-ubyte.gz")),
        ("train-labels", include_bytes!("../sample/train-labels-idx1-ubyte.gz")),
    )?;
    let test = idx::read(
        ("t10k-images", include_bytes!("../sample/t10k-images-idx3-ubyte.gz")),
        ("t10k-labels", include_bytes!("../sample/t10k-labels-idx1-ubyte.gz")),
    )?;
    Ok(Dataset::of(train, test))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Mode, Transform};

    #[test]
    fn the_sample_has_all_digits() {
        let sample = Dataset::named("mnist-10k").unwrap();
        assert_eq!((sample.train.len(), sample.test.len(), sample.classes), (8000, 2000, 10));
        assert!(sample.train.class_counts().values().all(|&count| count == 800));
        assert!(sample.test.class_counts().values().all(|&count| count == 200));
        assert_eq!(
            (sample.train.channels(), sample.train.height(), sample.train.width()),
            (1, Some(28), Some(28))
        );
    }

    #[test]
    fn a_dataset_that_is_not_installed_says_how_to_get_it() {
        let places = ["no/such/a", "no/such/b"].map(PathBuf::from);
        let message = installed(&places).unwrap_err().to_string();
        assert!(message.starts_with("the files of fashion-mnist were not found (no/such/a, no/such/b); "));
        assert!(message.contains("apt-get install dataset-fashion-mnist"), "{message}");
    }

    #[test]
    fn installed_files_get_their_class_names() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 4] = [
            ("train-images-idx3-ubyte.gz", include_bytes!("../sample/train-images-idx3-ubyte.gz")),
            ("train-labels-idx1-ubyte.gz", include_bytes!("../sample/train-labels-idx1-ubyte.gz")),
            ("t10k-images-idx3-ubyte.gz", include_bytes!("../sample/t10k-images-idx3-ubyte.gz")),
            ("t10k-labels-idx1-ubyte.gz", include_bytes!("../sample/t10k-labels-idx1-ubyte.gz")),
        ];
        for (name, bytes) in files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        let data = installed(&["no/such".into(), folder.path().into()]).unwrap();
        assert_eq!((data.train.len(), data.class_names[9].as_str()), (8000, "Ankle boot"));
    }

    #[test]
    fn a_resumed_stream_goes_on_with_the_same_samples() {
        let train = Dataset::named("mnist-10k").unwrap().train.subset(":100").unwrap();
        let transform = Transform { pad_crop: Some(2), mirror: true, ..Transform::default() };
        let mut stream = train.stream(32, &transform, 9).unwrap();
        let all: Vec<Batch> = stream.by_ref().take(10).map(|b| b.unwrap()).collect();
        let mut resumed = train.stream(32, &transform, 9).unwrap();
        resumed.seek(5 * 32);
        for expected in &all[5..] {
            assert_eq!(&resumed.next().unwrap().unwrap(), expected);
        }
        let epoch = train
            .batches(100, &transform, Mode::Train { seed: 9, epoch: 0 }, false)
            .unwrap()
            .next()
            .unwrap()
            .unwrap();
        assert_eq!(epoch.images[..32 * 784], all[0].images);
    }
}
