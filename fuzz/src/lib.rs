//! What each fuzz target does with its bytes. A target returns; a panic, a hang or memory without bound is a finding.
//!
//! `make fuzz` runs every target under libFuzzer; the test `replay` of the crate `slq-nn` runs all seeds, all inputs that
//! ever failed (`regressions/`) and some thousand mutations of them in an ordinary test run.

mod bytes;
mod clusters;
mod files;
mod graphs;
mod networks;
mod packed;
pub mod parts;
pub mod protobuf;

pub use clusters::clustering;
pub use files::{
    caffemodel, cifar, container, idx, image, lmdb, npy, npz, onnx, prototxt, pytorch, recipe, safetensors,
    solver, solverstate, zip,
};
pub use graphs::graph;
pub use networks::network;
pub use packed::packed;

/// Lets libFuzzer change a target's bytes field by field, for three seeds of four, where they are a message.
#[macro_export]
macro_rules! changes_fields {
    () => {
        libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, most: usize, seed: u32| {
            let changed =
                (seed % 4 > 0).then(|| $crate::protobuf::mutated(&data[..size], seed.into())).flatten();
            match changed.filter(|c| c.len() <= most) {
                Some(changed) => {
                    data[..changed.len()].copy_from_slice(&changed);
                    changed.len()
                }
                None => libfuzzer_sys::fuzzer_mutate(data, size, most),
            }
        });
    };
}

/// A target: its name, which is that of its folder of seeds, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("onnx", onnx),
    ("container", container),
    ("safetensors", safetensors),
    ("pytorch", pytorch),
    ("prototxt", prototxt),
    ("caffemodel", caffemodel),
    ("solver", solver),
    ("solverstate", solverstate),
    ("npy", npy),
    ("npz", npz),
    ("zip", zip),
    ("idx", idx),
    ("cifar", cifar),
    ("lmdb", lmdb),
    ("image", image),
    ("recipe", recipe),
    ("clustering", clustering),
    ("graph", graph),
    ("packed", packed),
    ("network", network),
];
