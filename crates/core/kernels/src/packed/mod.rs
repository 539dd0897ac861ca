//! Products with matrices that stay packed: codes of 1 to 8 bits and their codebooks.
//!
//! A [`PackedMatrix`] holds a weight of `rows x depth` as codes. [`PackedMatrix::multiply`] computes `x W'` and looks up
//! sixteen weights at a time in a register; where many rows of `x` share a weight, [`PackedMatrix::multiply`] expands one
//! tile of weights after the other into a buffer of its thread. [`PackedMatrix::expand`] writes some rows as floats.
//! No float copy of the whole matrix is made.

#[cfg(target_arch = "x86_64")]
mod bytes;
mod layout;
mod loops;
mod matrix;
mod product;
mod table;
#[cfg(target_arch = "aarch64")]
mod table_neon;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod table_wasm;
#[cfg(test)]
mod tests;

pub use matrix::{Order, PackError, PackedBuilder, PackedMatrix};
