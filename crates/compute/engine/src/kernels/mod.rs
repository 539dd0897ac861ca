//! The arithmetic: pure functions on `f32` slices, tensors NCHW and contiguous.
//!
//! Every kernel
//! - takes the instruction set as an argument ([`isa::Isa`]), never from the build;
//! - runs on the current rayon pool, and gives the same bits on any number of threads: how the work is split and the
//!   order of every sum depend on shapes alone;
//! - panics when a slice has not the length its geometry says. Callers check shapes once, when they plan.
//!
//! Which algorithm serves which shape is written in `docs/kernels.md`.

pub mod activation;
pub mod adaptive;
pub mod batchnorm;
pub mod conv;
pub mod elementwise;
pub mod gemm;
pub mod isa;
pub(crate) mod losses;
pub mod lrn;
pub(crate) mod math;
pub(crate) mod par;
pub mod pool;
pub mod reduce;
pub mod reshape;
pub(crate) mod scratch;
pub mod sgd;
pub(crate) mod simd;
pub mod softmax;
#[cfg(test)]
pub(crate) mod testing;
