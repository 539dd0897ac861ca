//! Files of every kind that slq reads: read, and where that succeeds, used and written again.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use slq::data::Mode;
use slq::solver::{SolverJob, SolverOptions};
use slq::{DataOptions, Dataset, JobFile, Model, ModelName, SaveOptions, Transform};

use super::parts;

/// Images that are looked at.
const IMAGES: usize = 64;

/// Removes itself with its thread.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A folder of this thread, in memory where the system has such a place.
pub(super) fn scratch() -> PathBuf {
    thread_local!(static FOLDER: RefCell<Option<Scratch>> = const { RefCell::new(None) });
    FOLDER.with_borrow_mut(|folder| {
        let make = || {
            let memory = Path::new("/dev/shm");
            let base = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
            let thread = format!("{:?}", std::thread::current().id()).replace(['(', ')'], "");
            let folder = base.join(format!("slq-fuzz-{}-{thread}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("a folder for the inputs");
            Scratch(folder)
        };
        folder.get_or_insert_with(make).0.clone()
    })
}

pub(super) fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("a folder for the inputs");
    }
    std::fs::write(&path, bytes).expect("a file for the input");
    path
}

/// What was read can be described, and written and read again without a change.
fn round_trip(path: &Path, again: &str) {
    let Ok(model) = Model::open(path) else { return };
    let _ = slq::graph::stats::summary(&model.graph);
    let written = scratch().join(again);
    // What a format cannot express it refuses; what it takes it keeps.
    let options = SaveOptions { dense: false, ..SaveOptions::default() };
    if model.save_with(&written, &options).is_err() {
        return;
    }
    let back = Model::open(written.as_path()).expect("what slq writes it reads");
    assert_eq!(back.graph.weights.len(), model.graph.weights.len());
    for (name, weight) in &model.graph.weights {
        let found = back.graph.weights.get(name).expect("a weight keeps its name");
        assert!(found.tensor.data().is_identical(weight.tensor.data()), "weight {name} has changed");
    }
    assert_eq!(back.graph.nodes.len(), model.graph.nodes.len());
}

/// ONNX files.
pub fn onnx(bytes: &[u8]) {
    round_trip(&file("in.onnx", bytes), "out.onnx");
}

/// `.slq` containers, as files or in parts.
pub fn container(bytes: &[u8]) {
    round_trip(&file("in.slq", &parts::container(bytes)), "out.slq");
}

/// safetensors files.
pub fn safetensors(bytes: &[u8]) {
    round_trip(&file("in.safetensors", bytes), "out.safetensors");
}

/// PyTorch checkpoints, as files or in parts.
pub fn pytorch(bytes: &[u8]) {
    round_trip(&file("in.pth", &parts::archive(bytes, parts::PYTORCH)), "out-of-pth.safetensors");
}

/// Nets of Caffe, without weights.
pub fn prototxt(bytes: &[u8]) {
    let _ = Model::open(file("net.prototxt", bytes).as_path());
}

/// Weights of Caffe, for a net of one layer.
pub fn caffemodel(bytes: &[u8]) {
    const NET: &str = "name: 'net'
        layer { name: 'data' type: 'Input' top: 'data' input_param { shape { dim: 1 dim: 2 dim: 1 dim: 3 } } }
        layer { name: 'ip' type: 'InnerProduct' bottom: 'data' top: 'ip' inner_product_param { num_output: 2 } }";
    let name = ModelName {
        name: file("weights.prototxt", NET.as_bytes()).display().to_string(),
        weights: Some(file("weights.caffemodel", bytes)),
        ..ModelName::default()
    };
    let _ = Model::open(name);
}

/// Solver files of Caffe.
pub fn solver(bytes: &[u8]) {
    let data = DataOptions::default();
    let options = SolverOptions { weights: None, net: None, data: &data, seed: 0 };
    let _ = SolverJob::open(&file("solver.prototxt", bytes), &options);
}

/// Solver states of Caffe.
pub fn solverstate(bytes: &[u8]) {
    let _ = slq::caffe::learned_net(&file("in.solverstate", bytes));
}

/// NumPy arrays.
pub fn npy(bytes: &[u8]) {
    let path = file("in.npy", bytes);
    if let Ok(tensor) = slq::arrays::read(&path) {
        let again = scratch().join("out.npy");
        if slq::arrays::write(&again, &tensor).is_ok() {
            let back = slq::arrays::read(&again).expect("what slq writes it reads");
            assert!(back.data().is_identical(tensor.data()));
        }
    }
}

fn dataset(path: &Path) {
    let Ok(found) = Dataset::open(&path.display().to_string()) else { return };
    let transform = Transform::default();
    for split in [&found.train, &found.test] {
        let Ok(part) = split.subset(&format!(":{IMAGES}")) else { continue };
        let Ok(batches) = part.batches(7, &transform, Mode::Eval, false) else { continue };
        // The first image that cannot be read ends it.
        let _ = batches.map_while(Result::ok).count();
    }
}

/// NumPy archives of images, as files or in parts.
pub fn npz(bytes: &[u8]) {
    dataset(&file("in.npz", &parts::archive(bytes, parts::NPZ)));
}

/// Zip archives of images.
pub fn zip(bytes: &[u8]) {
    dataset(&file("in.zip", bytes));
}

/// IDX files; the bytes of images and labels lie one behind the other, the first two tell where the labels begin.
pub fn idx(bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(2));
    let at = head.iter().fold(0, |n, &b| n * 256 + usize::from(b)).min(rest.len());
    let (labels, images) = rest.split_at(at);
    for part in ["train", "t10k"] {
        file(&format!("idx/{part}-images-idx3-ubyte"), images);
        file(&format!("idx/{part}-labels-idx1-ubyte"), labels);
    }
    dataset(&scratch().join("idx"));
}

/// CIFAR's binary files.
pub fn cifar(bytes: &[u8]) {
    file("cifar/data_batch_1.bin", bytes);
    file("cifar/test_batch.bin", bytes);
    dataset(&scratch().join("cifar"));
}

/// LMDB databases.
pub fn lmdb(bytes: &[u8]) {
    file("lmdb/data.mdb", bytes);
    dataset(&scratch().join("lmdb"));
}

/// Single images.
pub fn image(bytes: &[u8]) {
    let _ = slq::inference::image_tensor(&file("in.jpg", bytes), &Transform::default());
}

/// Recipes: checked, and written and read again without a change.
pub fn recipe(bytes: &[u8]) {
    let Ok(job) = JobFile::read(&file("in.toml", bytes)) else { return };
    let _ = job.recipe().check();
    let again = scratch().join("out.toml");
    if job.write(&again).is_ok() {
        let back = JobFile::read(&again).expect("what slq writes it reads");
        // A number that is none differs from itself.
        assert_eq!(format!("{back:?}"), format!("{job:?}"));
    }
}
