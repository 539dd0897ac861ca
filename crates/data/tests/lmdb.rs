//! Caffe's databases: made by another program and read here, written here and read by another program, damaged.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;
use slq_data::{DataError, Dataset, Mode, OpenOptions, Split, Transform, write_lmdb};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lmdb").join(name)
}

/// Pixels and labels of a split as they are, in Caffe's order of colours.
fn pixels(split: &Split) -> (Vec<f32>, Vec<u32>) {
    let plain = Transform::caffe(1.0, Vec::new());
    let (mut images, mut labels) = (Vec::new(), Vec::new());
    for batch in split.batches(7, &plain, Mode::Eval, false).unwrap() {
        let batch = batch.unwrap();
        images.extend(batch.images);
        labels.extend(batch.labels);
    }
    (images, labels)
}

#[test]
fn raw_images_of_another_program() {
    let split = Split::open_lmdb(&fixture("raw")).unwrap();
    assert_eq!((split.len(), split.channels(), split.height(), split.width()), (40, 3, Some(4), Some(5)));
    let (found, labels) = pixels(&split);
    for (i, image) in found.chunks_exact(60).enumerate() {
        assert_eq!(labels[i], i as u32 % 7);
        for (at, value) in image.iter().enumerate() {
            let (c, y, x) = (at / 20, at / 5 % 4, at % 5);
            assert_eq!(*value, ((i + 50 * c + 10 * y + x) % 256) as f32, "image {i}, {c} {y} {x}");
        }
    }
}

#[test]
fn encoded_images_of_another_program() {
    let split = Split::open_lmdb(&fixture("encoded")).unwrap();
    assert_eq!((split.len(), split.channels(), split.height()), (3, 3, None));
    let crop = Transform { crop: Some((2, 2)), scale: Some(1.0), ..Transform::default() };
    let batch = split.batches(3, &crop, Mode::Eval, false).unwrap().next().unwrap().unwrap();
    for (i, image) in batch.images.chunks_exact(12).enumerate() {
        let want: Vec<f32> = [200.0, 100.0, i as f32].into_iter().flat_map(|v| [v; 4]).collect();
        assert_eq!(image, want, "image {i}");
    }
}

fn sample(channels: usize) -> Dataset {
    let split = |len: usize, shift: usize| {
        let pixels = (0..len * channels * 30).map(|i| ((i * 7 + shift) % 251) as u8).collect();
        let labels = (0..len as u32).map(|i| i * 3 % 10).collect();
        Split::from_bytes(pixels, labels, [channels, 5, 6]).unwrap()
    };
    Dataset::of(split(300, 0), split(20, 5))
}

#[test]
fn a_dataset_comes_back_as_it_was_written() {
    for channels in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.lmdb");
        let dataset = sample(channels);
        for _ in 0..2 {
            write_lmdb(&dataset, &path, 0).unwrap();
        }
        let back = Dataset::open(&path, &OpenOptions::default()).unwrap();
        assert!(!back.one_split);
        for (a, b) in [(&dataset.train, &back.train), (&dataset.test, &back.test)] {
            assert_eq!(a.fingerprint(), b.fingerprint());
        }
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["out.lmdb"], "nothing temporary is left");
    }
}

#[test]
fn floats_come_back_too() {
    let dir = tempfile::tempdir().unwrap();
    let values: Vec<f32> = (0..5 * 12).map(|i| i as f32 / 7.0 - 1.0).collect();
    let split = Split::from_floats(values, vec![3, 1, 4, 1, 5], [3, 2, 2]).unwrap();
    let dataset = Dataset { one_split: true, ..Dataset::of(split.clone(), split.clone()) };
    write_lmdb(&dataset, &dir.path().join("f"), 0).unwrap();
    let back = Dataset::open(&dir.path().join("f"), &OpenOptions::default()).unwrap();
    assert!(back.one_split && back.train.is_float());
    assert_eq!(pixels(&back.train), pixels(&split));
}

#[test]
fn image_files_are_kept_as_files_and_classes_are_mixed() {
    let dir = tempfile::tempdir().unwrap();
    for class in ["cat", "dog"] {
        let folder = dir.path().join("set").join(class);
        fs::create_dir_all(&folder).unwrap();
        for i in 0..10u8 {
            let size = 4 + u32::from(i);
            let image = image::RgbImage::from_pixel(size, 4, image::Rgb([i, 2, class.as_bytes()[0]]));
            image.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let dataset = Dataset::open(&dir.path().join("set"), &OpenOptions::default()).unwrap();
    let path = dir.path().join("db");
    write_lmdb(&dataset, &path, 1).unwrap();
    let back = Dataset::open(&path, &OpenOptions::default()).unwrap().train;
    assert!(dataset.train.labels().is_sorted() && !back.labels().is_sorted());
    let crop = Transform { crop: Some((4, 4)), ..Transform::caffe(1.0, Vec::new()) };
    let images = |split: &Split| {
        let batches = split.batches(1, &crop, Mode::Eval, false).unwrap();
        let mut all: Vec<(u32, Vec<u32>)> = batches
            .map(|b| b.map(|b| (b.labels[0], b.images.iter().map(|&v| v as u32).collect())).unwrap())
            .collect();
        all.sort();
        all
    };
    assert_eq!(images(&dataset.train), images(&back));
}

#[test]
fn another_program_reads_what_is_written() {
    let Some(python) = std::env::var_os("SLQ_PYTHON") else {
        println!("skipped: another_program_reads_what_is_written (SLQ_PYTHON is not set)");
        return;
    };
    if !Command::new(&python).args(["-c", "import lmdb"]).status().is_ok_and(|s| s.success()) {
        println!("skipped: another_program_reads_what_is_written (no lmdb for Python)");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    write_lmdb(&sample(1), &dir.path().join("db"), 0).unwrap();
    let script = "import lmdb, sys
env = lmdb.open(sys.argv[1], readonly=True, lock=False)
with env.begin() as txn:
    for i, (k, v) in enumerate(txn.cursor()):
        assert k == b'%08d' % i, k
        assert v[:6] == bytes([8, 1, 16, 5, 24, 6]) and v[6:8] == bytes([34, 30]), v[:9]
        assert list(v[8:38]) == [((i * 30 + j) * 7) % 251 for j in range(30)], i
        assert v[38:] == bytes([40, i * 3 % 10]), v[38:]
    assert i == 299, i
";
    let train = dir.path().join("db/train");
    let ran = Command::new(python).arg("-c").arg(script).arg(train).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn entries_in_training_keep_their_order_where_asked() {
    let split = Split::open_lmdb(&fixture("raw")).unwrap().in_order();
    let stream = split.stream(16, &Transform::default(), 5).unwrap();
    let seen: Vec<u32> = stream.take(5).flat_map(|b| b.unwrap().positions).collect();
    assert_eq!(seen, (0..80).map(|i| i % 40).collect::<Vec<u32>>());
    assert_ne!(split.fingerprint(), Split::open_lmdb(&fixture("raw")).unwrap().fingerprint());
}

#[test]
fn what_is_no_database_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        matches!(Split::open_lmdb(dir.path()), Err(DataError::NotFound { path }) if path.ends_with("data.mdb"))
    );
    fs::write(dir.path().join("data.mdb"), b"no database").unwrap();
    assert!(matches!(Split::open_lmdb(dir.path()), Err(DataError::Lmdb { .. })));
    fs::write(dir.path().join("other"), b"mine").unwrap();
    let refused = write_lmdb(&sample(1), dir.path(), 0);
    assert!(matches!(refused, Err(DataError::NotReplaced { .. })));
    assert!(dir.path().join("other").exists());
}

/// Opens a changed copy of a fixture: whatever comes of it, it comes as an answer.
fn opens(bytes: &[u8]) -> Result<Split, DataError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data.mdb"), bytes).unwrap();
    Split::open_lmdb(dir.path())
}

#[test]
fn a_database_that_was_cut_off_is_refused() {
    let whole = fs::read(fixture("raw/data.mdb")).unwrap();
    assert!(opens(&whole).is_ok());
    for pages in 0..whole.len() / 4096 {
        for extra in [0, 100] {
            let cut = &whole[..pages * 4096 + extra];
            assert!(matches!(opens(cut), Err(DataError::Lmdb { .. })), "{pages} pages and {extra} bytes");
        }
    }
}

#[test]
fn pages_of_other_kinds_are_refused() {
    let whole = fs::read(fixture("raw/data.mdb")).unwrap();
    // Bytes 10 and 11 of a page are its flags; 2 is a leaf.
    let leaves: Vec<usize> =
        (2..whole.len() / 4096).map(|p| p * 4096 + 10).filter(|&at| whole[at] == 2).collect();
    assert!(!leaves.is_empty());
    for &at in &leaves {
        for flag in [1, 4, 8, 0x20, 0x40] {
            let mut bytes = whole.clone();
            bytes[at] |= flag;
            // The page may be one that is free, which nobody reads.
            if let Ok(split) = opens(&bytes) {
                assert_eq!(split.len(), opens(&whole).unwrap().len());
                assert_eq!(pixels(&split), pixels(&opens(&whole).unwrap()));
            }
        }
    }
    let refused = |flag: u8| {
        let mut bytes = whole.clone();
        leaves.iter().for_each(|&at| bytes[at] |= flag);
        matches!(opens(&bytes), Err(DataError::Lmdb { .. }))
    };
    assert!([1, 4, 8, 0x20, 0x40].into_iter().all(refused));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn a_garbled_database_ends_in_an_answer(
        changes in prop::collection::vec((0usize..16_384, any::<u8>()), 1..6),
        encoded: bool,
    ) {
        let mut bytes = fs::read(fixture(if encoded { "encoded/data.mdb" } else { "raw/data.mdb" })).unwrap();
        for (at, value) in changes {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        if let Ok(split) = opens(&bytes) {
            prop_assert!(!split.is_empty());
        }
    }
}
