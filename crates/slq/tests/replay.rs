//! The fuzz targets on every seed, on every input that ever failed, and on mutations of both, which are the same in every
//! run.

#[path = "../../../fuzz/src/lib.rs"]
mod targets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Mutations of each input.
const MUTATIONS: usize = 60;
/// Longest that one input may take, in a build with debug assertions on a busy machine.
const LONGEST: Duration = Duration::from_secs(10);

fn folder(kind: &str, target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(kind).join(target)
}

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for kind in ["seeds", "regressions"] {
        let Ok(entries) = std::fs::read_dir(folder(kind, target)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// Changes bytes, or cuts, repeats or exchanges a part.
fn mutated(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    const EDGES: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];
    let mut new = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(new.len());
        let length = 1 + random.below(16);
        let part = at..(at + length).min(new.len());
        match random.below(6) {
            0 => new.iter_mut().skip(at).take(1).for_each(|b| *b ^= 1 << random.below(8)),
            1 => new[part].fill(EDGES[random.below(6)]),
            2 => new.truncate(at),
            3 => drop(new.drain(part)),
            4 => {
                let copy = new[part].to_vec();
                let to = random.below(new.len() + 1);
                new.splice(to..to, copy);
            }
            _ => new[part].iter_mut().for_each(|b| *b = random.below(256) as u8),
        }
    }
    new
}

fn replay(target: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let inputs = inputs(target);
    let (mut random, mut count) = (Random(7), 0);
    // Targets that build their input from bytes need none to begin with.
    let noise: Vec<(PathBuf, Vec<u8>)> = (0..200usize)
        .map(|i| (PathBuf::from(format!("noise {i}")), (0..2 * i).map(|_| random.below(256) as u8).collect()))
        .collect();
    for (path, bytes) in inputs.iter().chain(&noise) {
        let mutations = if path.is_absolute() { MUTATIONS } else { 1 };
        for mutation in 0..=mutations {
            let well_formed =
                || targets::protobuf::mutated(bytes, mutation as u64).filter(|_| mutation % 2 == 0);
            let input = match mutation {
                0 => bytes.clone(),
                _ => well_formed().unwrap_or_else(|| mutated(bytes, &mut random)),
            };
            let began = Instant::now();
            run(&input);
            let (name, took) = (path.display(), began.elapsed());
            assert!(took < LONGEST, "{name}, mutation {mutation}: {took:?}");
            count += 1;
        }
    }
    println!("{target}: {count} inputs");
}

#[test]
fn parts_make_the_files_that_they_are_of() {
    let dir = tempfile::tempdir().unwrap();
    let read = |target: &str, name: &str| std::fs::read(folder("seeds", target).join(name)).unwrap();
    let opened = |path: &Path| {
        let graph = slq::Model::open(path).unwrap().graph;
        (graph.weights, graph.nodes)
    };
    for (target, name, ending) in [
        ("container", "clusters", "slq"),
        ("container", "typed", "slq"),
        ("pytorch", "training", "pth"),
        ("pytorch", "parameters", "pth"),
    ] {
        let parts = read(target, &format!("{name}.parts"));
        let made = dir.path().join(format!("{name}.{ending}"));
        let bytes = match target {
            "container" => targets::parts::container(&parts),
            _ => targets::parts::archive(&parts, targets::parts::PYTORCH),
        };
        std::fs::write(&made, bytes).unwrap();
        let file = folder("seeds", target).join(format!("{name}.{ending}"));
        let (made, file) = (opened(&made), opened(&file));
        assert!(!file.0.is_empty() && made == file, "{target} {name}");
    }
    let made = dir.path().join("keras.npz");
    let bytes = targets::parts::archive(&read("npz", "keras.parts"), targets::parts::NPZ);
    std::fs::write(&made, bytes).unwrap();
    let summary = |path: &Path| {
        slq::data::Dataset::open(path, &slq::data::OpenOptions::default()).unwrap().summary().to_string()
    };
    assert_eq!(summary(&made), summary(&folder("seeds", "npz").join("keras.npz")));
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test]
        fn $name() {
            replay(stringify!($name));
        })*

        #[test]
        fn every_target_is_replayed() {
            let mut tested = vec![$(stringify!($name)),*];
            let mut all: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            tested.sort_unstable();
            all.sort_unstable();
            assert_eq!(tested, all);
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
            for name in all {
                assert!(root.join(format!("{name}.rs")).exists(), "{name} has no file in fuzz_targets");
            }
        }
    };
}

targets!(
    onnx,
    container,
    safetensors,
    pytorch,
    prototxt,
    caffemodel,
    solver,
    solverstate,
    npy,
    npz,
    zip,
    idx,
    cifar,
    lmdb,
    image,
    recipe,
    clustering,
    graph,
    network,
    packed
);
