//! Every layout, opened by its content.

mod common;

use std::path::Path;

use common::{gzip, idx_files, larger_data, open, pixels, png, put, zip};
use slq_data::{DataError, Dataset, Mode, OpenOptions, Resize, Split, Transform, write_npz};
use tempfile::tempdir;

#[test]
fn idx_files_plain_and_gzipped_in_a_folder_or_deeper() {
    for outer in ["", "MNIST/raw"] {
        let folder = tempdir().unwrap();
        for (i, (name, bytes)) in idx_files().into_iter().enumerate() {
            let inside = folder.path().join(outer);
            match i % 2 {
                0 => put(&inside.join(format!("{name}.gz")), &gzip(&bytes)),
                _ => put(&inside.join(name), &bytes),
            }
        }
        let data = open(folder.path()).unwrap();
        assert_eq!(data.summary().to_string(), "3 training and 1 test images of 1x2x2, 3 classes");
        assert_eq!(pixels(&data.train).images, (0..12).map(|v| v as f32).collect::<Vec<_>>());
        assert_eq!((pixels(&data.test).images, data.test.labels()), (vec![9.0, 8.0, 7.0, 6.0], &[1][..]));
    }
}

#[test]
fn idx_files_with_the_name_of_their_dataset() {
    let folder = tempdir().unwrap();
    for (name, bytes) in idx_files() {
        put(
            &folder.path().join(format!("emnist-letters-{}.gz", name.replace("t10k", "test"))),
            &gzip(&bytes),
        );
    }
    let data = open(folder.path()).unwrap();
    assert_eq!(data.summary().to_string(), "3 training and 1 test images of 1x2x2, 3 classes");
    put(&folder.path().join("emnist-digits-train-images-idx3-ubyte"), &idx_files()[0].1);
    let error = open(folder.path()).unwrap_err();
    assert!(matches!(error, DataError::SeveralIdx { .. }), "{error}");
}

#[test]
fn one_idx_split_stands_for_both() {
    let folder = tempdir().unwrap();
    for (name, bytes) in &idx_files()[2..] {
        put(&folder.path().join(name.replace("-idx", ".idx")), bytes);
    }
    let data = open(folder.path()).unwrap();
    assert!(data.one_split);
    assert_eq!((data.train.labels(), data.test.labels()), (&[1][..], &[1][..]));
}

#[test]
fn cifar_batches_with_their_names() {
    let record = |label: u8, value: u8| [vec![label], vec![value; 3072]].concat();
    let folder = tempdir().unwrap();
    let inside = folder.path().join("cifar-10-batches-bin");
    put(&inside.join("data_batch_1.bin"), &[record(3, 1), record(9, 2)].concat());
    put(&inside.join("data_batch_2.bin"), &record(0, 3));
    put(&inside.join("test_batch.bin"), &record(7, 4));
    let names: Vec<String> = (0..10).map(|i| format!("class {i}")).collect();
    put(&inside.join("batches.meta.txt"), names.join("\n").as_bytes());
    let data = open(folder.path()).unwrap();
    assert_eq!(data.train.labels(), [3, 9, 0]);
    assert_eq!((data.classes, &data.class_names), (10, &names));
    assert_eq!(pixels(&data.test).images, vec![4.0; 3072]);

    let hundred = tempdir().unwrap();
    put(&hundred.path().join("train.bin"), &[vec![0], record(42, 1)].concat());
    put(&hundred.path().join("test.bin"), &[vec![0], record(99, 1)].concat());
    let data = open(hundred.path()).unwrap();
    assert_eq!((data.train.labels(), data.test.labels(), data.classes), (&[42][..], &[99][..], 100));
}

/// The files of a small image folder: (path, content).
fn image_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/cat/b.png", png(2, 3, [1, 2, 3])),
        ("train/cat/a.png", png(2, 3, [4, 5, 6])),
        ("train/ant/deeper/c.png", png(2, 3, [7, 8, 9])),
        ("train/ant/notes.txt", b"not an image".to_vec()),
        ("train/.hidden/x.png", b"broken".to_vec()),
        ("val/cat/d.png", png(2, 3, [10, 11, 12])),
        ("val/bee/e.png", png(2, 3, [13, 14, 15])),
        ("README", b"about".to_vec()),
    ]
}

fn check_image_folder(path: &Path) {
    let data = open(path).unwrap();
    assert_eq!(data.class_names, ["ant", "bee", "cat"], "numbered over both splits");
    assert_eq!(data.train.labels(), [0, 2, 2], "in the order of the paths");
    assert_eq!(data.test.labels(), [1, 2]);
    let batch = pixels(&data.train);
    assert_eq!(batch.shape, [3, 3, 3, 2]);
    let first: Vec<f32> = batch.images.chunks_exact(6).map(|plane| plane[0]).collect();
    assert_eq!(first, [7.0, 8.0, 9.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
}

#[test]
fn an_image_folder_and_a_zip_of_it() {
    for outer in ["", "outer/"] {
        let folder = tempdir().unwrap();
        let files = image_files();
        for (path, bytes) in &files {
            put(&folder.path().join(format!("{outer}{path}")), bytes);
        }
        check_image_folder(folder.path());
        let names: Vec<String> = files.iter().map(|(path, _)| format!("{outer}{path}")).collect();
        let entries: Vec<(&str, &[u8])> =
            names.iter().zip(&files).map(|(name, (_, bytes))| (name.as_str(), bytes.as_slice())).collect();
        let archive = tempdir().unwrap();
        put(&archive.path().join("data.zip"), &zip(&entries));
        check_image_folder(&archive.path().join("data.zip"));
    }
}

#[test]
fn a_zip_of_idx_files() {
    let folder = tempdir().unwrap();
    let files = idx_files();
    let entries: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    put(&folder.path().join("x.zip"), &zip(&entries));
    assert_eq!(open(&folder.path().join("x.zip")).unwrap().train.len(), 3);
}

#[test]
fn a_test_folder_without_labels_gives_way_to_validation() {
    let folder = tempdir().unwrap();
    put(&folder.path().join("train/a/1.png"), &png(1, 1, [0; 3]));
    put(&folder.path().join("test/1.png"), &png(1, 1, [0; 3]));
    assert!(matches!(open(folder.path()), Err(DataError::NoClasses { .. })));
    put(&folder.path().join("val/a/1.png"), &png(1, 1, [9; 3]));
    assert_eq!(pixels(&open(folder.path()).unwrap().test).images, [9.0; 3]);
    put(&folder.path().join("test/a/1.png"), &png(1, 1, [5; 3]));
    assert_eq!(pixels(&open(folder.path()).unwrap().test).images, [5.0; 3], "test goes before val");
}

#[test]
fn one_split_with_stated_indices_in_many_sizes() {
    let folder = tempdir().unwrap();
    put(&folder.path().join("sample/0004_n1/n1.png"), &png(8, 4, [10; 3]));
    put(&folder.path().join("sample/0001_n2/n2.png"), &png(3, 6, [20; 3]));
    let data = open(folder.path()).unwrap();
    assert!(data.one_split);
    assert_eq!((data.train.labels(), data.classes), (&[1, 4][..], 5));
    assert_eq!((data.train.height(), data.train.width()), (None, None));
    assert_eq!(data.summary().to_string(), "2 images (one split) of 3 channels in many sizes, 5 classes");
    let plain = data.train.batches(2, &Transform::default(), Mode::Eval, false);
    assert!(matches!(plain, Err(DataError::SizesDiffer)));
    let transform = Transform {
        scale: Some(1.0),
        resize: Some(Resize::ShortSide(5)),
        crop: Some((4, 4)),
        ..Transform::default()
    };
    let batch = data.train.batches(2, &transform, Mode::Eval, false).unwrap().next().unwrap().unwrap();
    assert_eq!(batch.shape, [2, 3, 4, 4]);
    assert_eq!(batch.images, [vec![20.0; 48], vec![10.0; 48]].concat());
    // A crop that fits one of the images alone fails when the other comes, and names it.
    let crop = Transform { crop: Some((5, 3)), ..Transform::default() };
    let results: Vec<_> = data.train.batches(1, &crop, Mode::Eval, false).unwrap().collect();
    assert!(results[0].is_ok());
    let message = results[1].as_ref().unwrap_err().to_string();
    assert!(message.contains("0004_n1/n1.png") || message.contains("0004_n1\\n1.png"), "{message}");
}

#[test]
fn a_file_of_classes_numbers_the_folders() {
    let folder = tempdir().unwrap();
    put(&folder.path().join("d/a/1.png"), &png(1, 1, [0; 3]));
    put(&folder.path().join("d/b/1.png"), &png(1, 1, [0; 3]));
    let classes = folder.path().join("classes.txt");
    put(&classes, b"b\nc\na\n");
    let options = OpenOptions { classes: Some(classes), ..OpenOptions::default() };
    let data = Dataset::open(&folder.path().join("d"), &options).unwrap();
    assert_eq!((data.train.labels(), data.classes), (&[2, 0][..], 3));
}

#[test]
fn grey_images_stay_grey_unless_the_others_have_colours() {
    let folder = tempdir().unwrap();
    let grey = b"P5 2 1 255\n\x05\x06";
    put(&folder.path().join("test/a/1.pgm"), grey);
    put(&folder.path().join("train/a/1.pgm"), grey);
    assert_eq!(open(folder.path()).unwrap().train.channels(), 1);
    put(&folder.path().join("train/a/2.png"), &png(2, 1, [1, 2, 3]));
    let data = open(folder.path()).unwrap();
    assert_eq!(pixels(&data.test).images, [5.0, 6.0, 5.0, 6.0, 5.0, 6.0]);
}

fn splits() -> [Split; 3] {
    let bytes = |channels: usize| {
        let pixels = (0..2 * channels * 12).map(|v| (v * 5) as u8).collect();
        Split::from_bytes(pixels, vec![1, 70_000 % 1000], [channels, 3, 4]).unwrap()
    };
    let floats = (0..24).map(|v| v as f32 / 7.0 - 1.0).collect();
    [bytes(1), bytes(3), Split::from_floats(floats, vec![3, 0], [1, 3, 4]).unwrap()]
}

#[test]
fn an_npz_written_is_read_back() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("x.npz");
    for split in splits() {
        let data = Dataset::of(split.shuffled(3), split.subset("1:").unwrap());
        write_npz(&data, &path).unwrap();
        let back = open(&path).unwrap();
        assert_eq!(pixels(&back.train), pixels(&data.train));
        assert_eq!(pixels(&back.test), pixels(&data.test));
        assert_eq!((back.classes, back.one_split), (data.classes, false));
        let first = std::fs::read(&path).unwrap();
        write_npz(&data, &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first, "the same data gives the same file");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays behind");
}

#[cfg(unix)]
#[test]
fn a_written_npz_has_the_permissions_of_any_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempdir().unwrap();
    let (path, other) = (folder.path().join("x.npz"), folder.path().join("y"));
    let split = splits()[0].clone();
    write_npz(&Dataset::of(split.clone(), split), &path).unwrap();
    put(&other, b"");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&other));
}

#[test]
fn images_in_many_sizes_do_not_replace_an_npz() {
    let folder = tempdir().unwrap();
    put(&folder.path().join("d/a/1.png"), &png(1, 1, [0; 3]));
    put(&folder.path().join("d/a/2.png"), &png(2, 1, [0; 3]));
    let path = folder.path().join("x.npz");
    put(&path, b"old");
    let result = write_npz(&open(&folder.path().join("d")).unwrap(), &path);
    assert!(matches!(result, Err(DataError::SizesDiffer)));
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

/// `tests/fixtures/keras.npz` is written by NumPy: NHWC bytes, labels as a column of bytes.
#[test]
fn an_npz_of_numpy_with_channels_last() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/keras.npz");
    let data = open(&fixture).unwrap();
    assert_eq!(data.summary().to_string(), "4 training and 2 test images of 3x5x6, 3 classes");
    assert_eq!(data.train.labels(), [0, 1, 2, 0]);
    // In the fixture, pixel (n, y, x, c) is (90 n + 18 y + 3 x + c) mod 256.
    let images = pixels(&data.train).images;
    for (i, value) in images.iter().enumerate() {
        let (n, c, y, x) = (i / 90, i / 30 % 3, i / 6 % 5, i % 6);
        assert_eq!(*value, ((90 * n + 18 * y + 3 * x + c) % 256) as f32);
    }
}

#[test]
fn mnist() {
    let Some(path) = larger_data("mnist", "data/mnist") else { return };
    let data = open(&path).unwrap();
    assert_eq!(data.summary().to_string(), "60000 training and 10000 test images of 1x28x28, 10 classes");
    // The first digits are known: 5 0 4 1 9, and 7 2 1 0 4.
    assert_eq!(
        (&data.train.labels()[..5], &data.test.labels()[..5]),
        (&[5, 0, 4, 1, 9][..], &[7, 2, 1, 0, 4][..])
    );
    let sum: f64 = pixels(&data.train).images.iter().map(|&v| f64::from(v)).sum();
    assert!((sum / 47_040_000.0 / 255.0 - 0.1307).abs() < 5e-5, "the mean that is used everywhere");
    let sample = Dataset::named("mnist-10k").unwrap();
    assert_eq!(
        pixels(&sample.train.subset(":5").unwrap()).images,
        pixels(&data.train.subset(":5").unwrap()).images
    );
}

#[test]
fn cifar_as_a_zip_of_jpeg_files() {
    let Some(path) = larger_data("cifar_as_a_zip_of_jpeg_files", "data/cifar10-jpeg.zip") else { return };
    let data = open(&path).unwrap();
    assert_eq!(data.summary().to_string(), "50000 training and 10000 test images of 3x32x32, 10 classes");
    assert_eq!((data.class_names[0].as_str(), data.class_names[9].as_str()), ("airplane", "truck"));
    assert!(data.train.class_counts().values().all(|&count| count == 5000));
}

#[test]
fn imagenet_sample_in_many_sizes() {
    let Some(path) = larger_data("imagenet_sample_in_many_sizes", "data/imagenet-sample-even.zip") else {
        return;
    };
    let data = open(&path).unwrap();
    assert_eq!((data.train.len(), data.classes, data.one_split), (500, 999, true));
    assert!(data.train.labels().iter().enumerate().all(|(i, &label)| label == 2 * i as u32));
    let transform =
        Transform { resize: Some(Resize::ShortSide(64)), crop: Some((56, 56)), ..Transform::default() };
    let mut batches = data.train.batches(50, &transform, Mode::Train { seed: 0, epoch: 0 }, false).unwrap();
    assert_eq!(batches.next().unwrap().unwrap().shape, [50, 3, 56, 56]);
}
