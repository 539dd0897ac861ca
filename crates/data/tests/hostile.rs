//! Broken and hostile files: an error that names file and place, never a panic.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{gzip, idx, open, png, put, put_idx, zip};
use proptest::prelude::*;
use slq_data::{DataError, Dataset, Mode, OpenOptions, Transform};
use tempfile::{TempDir, tempdir};

/// The message of opening a dataset, with the folder's own path cut out.
fn message(folder: &TempDir, path: &Path) -> String {
    let message = open(path).expect_err("the dataset must be refused").to_string();
    let top = folder.path().display().to_string();
    message.replace(&format!("{top}/"), "").replace(&top, "DATA")
}

/// Checks every case and reports all that differ.
fn check(cases: Vec<(&str, TempDir, PathBuf, &str)>) {
    let mut wrong = Vec::new();
    for (case, folder, path, expected) in &cases {
        let found = message(folder, path);
        if !found.starts_with(expected) {
            wrong.push(format!("{case}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A folder in which `fill` writes a dataset.
fn folder(fill: impl FnOnce(&Path)) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    fill(folder.path());
    let path = folder.path().to_owned();
    (folder, path)
}

const IMAGES: &str = "train-images-idx3-ubyte";
const LABELS: &str = "train-labels-idx1-ubyte";

/// What is wrong, the file, its content, and the beginning of the message.
type IdxCase = (&'static str, &'static str, Vec<u8>, &'static str);

#[allow(clippy::too_many_lines)] // a table
fn broken_idx_cases() -> Vec<IdxCase> {
    let good = common::idx_files();
    let bomb = gzip(&[idx(0x803, &[3, 2, 2], &[0; 12]), vec![0; 50_000_000]].concat());
    let mut bad_crc = gzip(&good[0].1);
    let at = bad_crc.len() - 8;
    bad_crc[at] ^= 1;
    vec![
        (
            "wrong magic",
            IMAGES,
            idx(0x801, &[3, 2, 2], &[0; 12]),
            "train-images-idx3-ubyte: magic number 0x00000801 where 0x00000803 is expected",
        ),
        (
            "shorter than announced",
            IMAGES,
            idx(0x803, &[3, 2, 2], &[0; 11]),
            "train-images-idx3-ubyte: the header announces 12 bytes of data but the file holds 11",
        ),
        (
            "absurd count",
            IMAGES,
            idx(0x803, &[u32::MAX, 28, 28], &[0; 12]),
            "train-images-idx3-ubyte: the header announces 3367254359280 bytes of data but the file holds 12",
        ),
        (
            "absurd sides",
            IMAGES,
            idx(0x803, &[u32::MAX; 3], &[]),
            "train-images-idx3-ubyte: impossible dimensions [4294967295, 4294967295, 4294967295]",
        ),
        (
            "no rows",
            IMAGES,
            idx(0x803, &[3, 0, 2], &[]),
            "train-images-idx3-ubyte: impossible dimensions [3, 0, 2]",
        ),
        ("no images", IMAGES, idx(0x803, &[0, 2, 2], &[]), "train-images-idx3-ubyte: there are no images"),
        (
            "longer than announced",
            LABELS,
            idx(0x801, &[3], &[0; 4]),
            "train-labels-idx1-ubyte: data goes on after the 3 bytes announced by the header",
        ),
        (
            "other count",
            LABELS,
            idx(0x801, &[4], &[0; 4]),
            "train-images-idx3-ubyte holds 3 images but train-labels-idx1-ubyte holds 4 labels",
        ),
        (
            "empty file",
            LABELS,
            vec![],
            "train-labels-idx1-ubyte: the header announces 8 bytes of data but the file holds 0",
        ),
        (
            "gzip bomb",
            IMAGES,
            bomb,
            "train-images-idx3-ubyte: data goes on after the 12 bytes announced by the header",
        ),
        (
            "gzip that cannot hold what is announced",
            IMAGES,
            gzip(&idx(0x803, &[60_000, 28, 28], &[0; 100])),
            "train-images-idx3-ubyte: the header announces 47040000 bytes of data but the file holds ",
        ),
        (
            "gzip cut off",
            IMAGES,
            gzip(&good[0].1)[..20].to_vec(),
            "train-images-idx3-ubyte: broken gzip stream: ",
        ),
        ("gzip checksum", IMAGES, bad_crc, "train-images-idx3-ubyte: broken gzip stream: "),
        (
            "other shape",
            "t10k-images-idx3-ubyte",
            idx(0x803, &[1, 1, 4], &[0; 4]),
            "DATA: training images are [1, 2, 2] but test images [1, 1, 4]",
        ),
    ]
}

#[test]
fn broken_idx_files() {
    let cases = broken_idx_cases().into_iter().map(|(case, file, content, expected)| {
        let (folder, path) = folder(|top| put_idx(top, file, &content));
        (case, folder, path, expected)
    });
    check(cases.collect());
    let (dir, path) = folder(|top| {
        put_idx(top, "", &[]);
        fs::remove_file(top.join(LABELS)).unwrap();
    });
    let expected = "DATA: there is train-images-idx3-ubyte but no train-labels-idx1-ubyte";
    assert_eq!(message(&dir, &path), expected);
}

#[test]
fn folders() {
    type Fill = fn(&Path);
    let cases: [(&str, Fill, &str); 9] = [
        ("empty", |_| (), "DATA: there are no images"),
        ("no images", |top| put(&top.join("a.txt"), b"x"), "DATA: not a dataset known here (no images; "),
        ("no LMDB", |top| put(&top.join("data.mdb"), b"x"), "data.mdb: page 0: the file is too short"),
        (
            "empty class",
            |top| {
                put(&top.join("train/cat/1.png"), &png(1, 1, [0; 3]));
                put(&top.join("train/dog/notes.txt"), b"x");
            },
            "train/dog: the class folder holds no images",
        ),
        ("empty train", |top| fs::create_dir(top.join("train")).unwrap(), "train: there are no images"),
        (
            "no classes",
            |top| put(&top.join("train/1.png"), &png(1, 1, [0; 3])),
            "train: images must lie in one folder for each class",
        ),
        (
            "unreadable image",
            |top| {
                put(&top.join("train/cat/1.png"), &png(1, 1, [0; 3]));
                put(&top.join("train/cat/2.png"), b"\x89PNG\r\n\x1a\nbroken");
            },
            "train/cat/2.png: unreadable image: ",
        ),
        (
            "not an image at all",
            |top| put(&top.join("train/cat/1.jpg"), b"hello"),
            "train/cat/1.jpg: unreadable image: ",
        ),
        (
            "deep",
            |top| put(&top.join("a/b/c/d/e/f/g/h/1.png"), b""),
            "a/b/c/d/e/f/g: folders are nested too deeply",
        ),
    ];
    let cases = cases.into_iter().map(|(case, fill, expected)| {
        let (folder, path) = folder(fill);
        (case, folder, path, expected)
    });
    check(cases.collect());
}

#[cfg(unix)]
#[test]
fn a_link_to_a_folder_above_ends() {
    let (_folder, path) = folder(|top| {
        put(&top.join("train/cat/1.png"), &png(1, 1, [0; 3]));
        std::os::unix::fs::symlink(top, top.join("train/again")).unwrap();
    });
    assert!(matches!(open(&path), Err(DataError::TooDeep { .. })));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_text_is_named() {
    use std::os::unix::ffi::OsStrExt;
    let (_folder, path) = folder(|top| {
        put(&top.join("train/cat").join(std::ffi::OsStr::from_bytes(b"\xff.png")), &png(1, 1, [0; 3]));
    });
    assert!(matches!(open(&path), Err(DataError::Name { .. })));
}

#[test]
fn an_image_that_breaks_later_is_named() {
    let (_folder, path) = folder(|top| {
        put(&top.join("cat/1.png"), &png(1, 1, [0; 3]));
        put(&top.join("cat/2.png"), &png(200, 200, [0; 3]));
    });
    let data = open(&path).unwrap();
    fs::write(path.join("cat/2.png"), b"gone bad").unwrap();
    let transform = Transform { crop: Some((1, 1)), ..Transform::default() };
    let mut batches = data.train.batches(2, &transform, Mode::Eval, false).unwrap();
    let error = batches.next().unwrap().unwrap_err().to_string();
    assert!(error.contains("cat/2.png: unreadable image"), "{error}");
}

/// A file called `name` with this content.
fn file(name: &str, content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let path = folder.path().join(name);
    put(&path, content);
    (folder, path)
}

/// A zip archive of one stored entry whose directory announces another size.
fn lying_zip(announced: u32) -> Vec<u8> {
    let mut bytes = zip(&[("train/a/1.png", &png(1, 1, [0; 3]))]);
    let at = bytes.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    bytes[at + 24..at + 28].copy_from_slice(&announced.to_le_bytes());
    bytes
}

#[test]
fn archives() {
    let image = png(1, 1, [0; 3]);
    let good = zip(&[("train/a/1.png", &image)]);
    let cut = &good[..good.len() - 30];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", zip(&[]), "x.zip: there are no images"),
        ("cut off", cut.to_vec(), "x.zip: "),
        ("above", zip(&[("../1.png", &image)]), "x.zip: entry \"../1.png\" points outside of the archive"),
        ("root", zip(&[("/etc/1.png", &image)]), "x.zip: entry \"/etc/1.png\" points outside of the archive"),
        (
            "size beyond what can be inflated",
            lying_zip(4_000_000_000),
            "x.zip: train/a/1.png: the header announces 4000000000 bytes of data but the file holds ",
        ),
        (
            "longer than announced",
            lying_zip(10),
            "x.zip: train/a/1.png: 10 bytes were announced but the content differs: ",
        ),
        (
            "shorter than announced",
            lying_zip(1000),
            "x.zip: train/a/1.png: 1000 bytes were announced but the content differs: ",
        ),
        ("broken image", zip(&[("train/a/1.png", b"x")]), "x.zip: train/a/1.png: unreadable image: "),
        ("nothing known", zip(&[("a.txt", b"x")]), "x.zip: not a dataset known here (no images; "),
    ];
    let cases = cases.into_iter().map(|(case, content, expected)| {
        let (folder, path) = file("x.zip", &content);
        (case, folder, path, expected)
    });
    check(cases.collect());
}

/// An archive whose directory names the same bytes many times.
#[test]
fn an_archive_of_overlapping_entries() {
    let image = [png(1, 1, [0; 3]), vec![0; 2000]].concat();
    let names: Vec<String> = (0..400).map(|i| format!("train/a/{i:03}.png")).collect();
    let first = zip(&[(names[0].as_str(), &image)]);
    let directory = first.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
    let end = first.windows(4).position(|w| w == b"PK\x05\x06").unwrap();
    let entry = &first[directory..end];
    let mut bytes = first[..directory].to_vec();
    for name in &names {
        let at = bytes.len();
        bytes.extend(entry);
        bytes[at + 46..at + 46 + name.len()].copy_from_slice(name.as_bytes());
    }
    let size = (bytes.len() - directory) as u32;
    let mut tail = first[end..].to_vec();
    for at in [8, 10] {
        tail[at..at + 2].copy_from_slice(&400u16.to_le_bytes());
    }
    tail[12..16].copy_from_slice(&size.to_le_bytes());
    bytes.extend(tail);
    let (_folder, path) = file("x.zip", &bytes);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, DataError::Truncated { .. } | DataError::Zip { .. }), "{error}");
}

/// A 64-bit directory that announces 2^39 entries, at a place and of a size far beyond the file.
#[test]
fn an_archive_of_absurdly_many_entries() {
    let (entries, size, start) = (1u64 << 39, 1u64 << 45, 1u64 << 40);
    let good = zip(&[("train/a/1.png", &png(1, 1, [0; 3]))]);
    for (size, start) in [(size, start), (1 << 45, 0), (u64::MAX, u64::MAX), (46, 4)] {
        let mut bytes = good[..good.len() - 22].to_vec();
        let record = bytes.len() as u64;
        bytes.extend(b"PK\x06\x06");
        bytes.extend(44u64.to_le_bytes());
        bytes.extend([45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        for number in [entries, entries, size, start] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(b"PK\x06\x07\0\0\0\0");
        bytes.extend(record.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(b"PK\x05\x06\0\0\0\0");
        bytes.extend([0xff; 12]);
        bytes.extend([0, 0]);
        let (_folder, path) = file("x.zip", &bytes);
        assert!(matches!(open(&path), Err(DataError::Zip { .. })), "{size} {start}");
    }
}

/// An array of `.npy` with this type and shape.
fn npy(dtype: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}");
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00".as_slice(), &length, header.as_bytes(), data].concat()
}

#[test]
fn npz_files() {
    let x = npy("|u1", "(2, 1, 2)", &[0; 4]);
    let y = npy("|u1", "(2,)", &[0; 2]);
    let nan = [0f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat();
    let long_y = npy("|u1", "(3,)", &[0; 3]);
    let cases: Vec<(&str, Vec<u8>, Vec<u8>, &str)> = vec![
        ("y missing", x.clone(), vec![], "x.npz: no array \"y_train\"; there are: x_train"),
        (
            "count",
            x.clone(),
            long_y,
            "x.npz: x_train.npy holds 2 images but x.npz: y_train.npy holds 3 labels",
        ),
        (
            "negative label",
            x.clone(),
            npy("|i1", "(2,)", &[0, 255]),
            "x.npz: y_train.npy: image 1 has label -1, but labels count from 0 and must be below 65536",
        ),
        (
            "float labels",
            x.clone(),
            npy("<f4", "(2,)", &[0; 8]),
            "x.npz: y_train.npy: element type \"<f4\" where an integer is expected",
        ),
        (
            "one-hot labels",
            x,
            npy("|u1", "(2, 5)", &[0; 10]),
            "x.npz: y_train.npy: shape [2, 5] where one dimension is expected",
        ),
        (
            "nan",
            npy("<f4", "(2, 1, 1)", &nan),
            y.clone(),
            "x.npz: x_train.npy: element 1 is not a finite number",
        ),
        ("flat", npy("|u1", "(2, 4)", &[0; 8]), y.clone(), "x.npz: x_train.npy: shape [2, 4] where NHW"),
        (
            "no side",
            npy("|u1", "(2, 0, 4)", &[]),
            y.clone(),
            "x.npz: x_train.npy: impossible dimensions [2, 0, 4]",
        ),
        (
            "integers",
            npy("<i2", "(2, 1, 1)", &[0; 4]),
            y,
            "x.npz: x_train.npy: element type \"<i2\" where uint8, float32 or float64 is expected",
        ),
        (
            "none",
            npy("|u1", "(0, 1, 1)", &[]),
            npy("|u1", "(0,)", &[]),
            "x.npz: x_train.npy: there are no images",
        ),
    ];
    let cases = cases.into_iter().map(|(case, x, y, expected)| {
        let mut entries = vec![("x_train.npy", x.as_slice())];
        entries.extend((!y.is_empty()).then_some(("y_train.npy", y.as_slice())));
        let (folder, path) = file("x.npz", &zip(&entries));
        (case, folder, path, expected)
    });
    check(cases.collect());
    let (folder, path) = file("x.npz", &zip(&[("arr_0.npy", b"x")]));
    assert_eq!(message(&folder, &path), "x.npz: no array \"x_train\"; there are: arr_0");
}

#[test]
fn other_files() {
    let cases: Vec<(&str, &[u8], &str)> = vec![
        (
            "a.npz",
            b"version https://git-lfs.github.com/spec/v1\n",
            "a.npz: not a dataset known here (a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`)",
        ),
        ("a.zip", b"", "a.zip: not a dataset known here (the file is empty)"),
        ("a.txt", b"hello world", "a.txt: not a dataset known here (a file of another kind)"),
        (
            "train-images",
            b"\0\0\x08\x03\0\0\0\0",
            "train-images: not a dataset known here (a single IDX file",
        ),
        ("t.gz", b"\x1f\x8b\x08\0\0\0\0\0", "t.gz: not a dataset known here (a gzip file"),
        ("x.npy", b"\x93NUMPY\x01\0", "x.npy: not a dataset known here (a single array"),
    ];
    let cases = cases.into_iter().map(|(name, content, expected)| {
        let (folder, path) = file(name, content);
        (name, folder, path, expected)
    });
    check(cases.collect());
    let missing = open(Path::new("no/such/file")).unwrap_err();
    assert_eq!(missing.to_string(), "no/such/file: no such file or folder");
    let unknown = Dataset::named("mnist").unwrap_err();
    assert_eq!(unknown.to_string(), "no dataset is named \"mnist\"; the names are: mnist-10k, fashion-mnist");
    assert!(Dataset::find("mnist-10k", &OpenOptions::default()).is_ok());
    assert!(matches!(Dataset::find("mnist-9k", &OpenOptions::default()), Err(DataError::NotFound { .. })));
}

/// Opens a dataset and, if that works, makes all of its batches: whatever happens, it must end without a panic.
fn use_up(path: &Path) {
    if let Ok(data) = open(path) {
        let transform = Transform { crop: Some((1, 1)), mirror: true, ..Transform::default() };
        if let Ok(batches) = data.train.batches(64, &transform, Mode::Train { seed: 0, epoch: 0 }, false) {
            let _ = batches.take(10).filter(Result::is_ok).count();
        }
    }
}

/// Overwrites a few bytes and cuts the end off.
fn garble(bytes: &[u8], changes: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, value) in changes {
        let len = bytes.len();
        bytes[at % len] = value;
    }
    bytes.truncate(bytes.len() - cut.min(bytes.len()));
    bytes
}

fn changes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0usize..2000, any::<u8>()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn garbled_idx_files(which in 0usize..4, changes in changes(), cut in 0usize..9, packed: bool) {
        let (name, bytes) = common::idx_files()[which].clone();
        let bytes = if packed { gzip(&bytes) } else { bytes };
        let (_folder, path) = folder(|top| put_idx(top, name, &garble(&bytes, &changes, cut)));
        use_up(&path);
    }

    #[test]
    fn garbled_archives(changes in changes(), cut in prop_oneof![Just(0usize), 0usize..300]) {
        let image = png(2, 2, [1, 2, 3]);
        let bytes = zip(&[("train/a/1.png", &image), ("train/b/2.png", &image), ("test/a/3.png", &image)]);
        let (_folder, path) = file("x.zip", &garble(&bytes, &changes, cut));
        use_up(&path);
    }

    #[test]
    fn garbled_npz_files(changes in changes(), cut in prop_oneof![Just(0usize), 0usize..300]) {
        let (x, y) = (npy("|u1", "(2, 1, 2)", &[0; 4]), npy("<i4", "(2,)", &[0; 8]));
        let bytes = zip(&[("x_train.npy", &x), ("y_train.npy", &y)]);
        let (_folder, path) = file("x.npz", &garble(&bytes, &changes, cut));
        use_up(&path);
    }

    #[test]
    fn random_files(start in prop_oneof![Just(&b""[..]), Just(&b"PK\x03\x04"[..]), Just(&b"PK\x05\x06"[..])],
                    bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let (_folder, path) = file("x", &[start, &bytes].concat());
        use_up(&path);
        let (_folder, path) = folder(|top| put(&top.join("data_batch_1.bin"), &bytes));
        use_up(&path);
        let (_folder, path) = folder(|top| put(&top.join("train/a/1.jpg"), &bytes));
        use_up(&path);
    }
}
