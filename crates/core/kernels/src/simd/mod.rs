//! The few vector operations that the inner loops of GEMM and convolution are written in, for each instruction set.

mod plain;
mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use plain::Plain;
#[cfg(target_arch = "x86_64")]
pub(crate) use vector::Masked;
pub(crate) use vector::Simd;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};
