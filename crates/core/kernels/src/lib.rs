//! Numeric kernels: pure functions on slices, tensors NCHW and contiguous. All `unsafe` code of the workspace is here.
//!
//! Every kernel
//! - takes the instruction set as an argument ([`Isa`]), never from the build;
//! - runs on the current rayon pool (in turn under WebAssembly, [`parallel`]), and gives the same bits on any number of threads: how the work is split and the
//!   order of every sum depend on shapes alone;
//! - panics when a slice has not the length its geometry says. Callers check shapes once, when they plan.
//!
//! Which algorithm serves which shape is written in `docs/kernels.md`.

// What only the vector code of x86-64 uses is unused elsewhere.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code, unused_imports))]

pub mod activation;
pub mod adaptive;
pub mod batchnorm;
mod buffer;
pub mod centroids;
pub mod cluster;
pub mod conv;
pub mod elementwise;
pub mod gemm;
mod isa;
pub mod losses;
pub mod lrn;
mod math;
pub mod normalize;
pub mod packed;
mod par;
pub mod parallel;
pub mod pool;
pub mod radix;
pub mod reduce;
pub mod reshape;
mod scratch;
pub mod sgd;
mod simd;
pub mod softmax;
mod store;
#[cfg(test)]
mod testing;
pub mod weighted;

pub use buffer::Buffer;
pub use isa::{Isa, UnknownIsa};
pub use store::Store;
