//! The few vector operations that the inner loops of GEMM and convolution are written in, for each instruction set.

#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;
mod vector;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Simd128;
pub(crate) use plain::Plain;
#[cfg(target_arch = "x86_64")]
pub(crate) use vector::Masked;
pub(crate) use vector::Simd;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Simd128;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, spread};
