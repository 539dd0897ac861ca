//! Convolution with stride 1 by Winograd's minimal filtering (Winograd, "Arithmetic Complexity of Computations", 1980;
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015): 36 products for 4 x 4 output pixels of a
//! 3 x 3 kernel instead of 144, and 36 for 2 x 2 output pixels of a 5 x 5 kernel instead of 100.
//!
//! Output tiles overlap in their 6 x 6 inputs. A work item takes some lines of tiles. It copies their input to
//! channels-last order, transforms it, computes 36 matrix products (tiles x channels by channels x output channels) and
//! transforms the result back. The data gradient ([`sums`], too) exchanges the channels and rotates the kernel; the weight
//! gradient is in [`gradient`], kernels of 3 x 1 and 1 x 3 are in [`one_dim`]. Rounding errors are larger than those of
//! direct sums (`docs/kernels.md`).

mod gradient;
mod grid;
mod one_dim;
mod sums;
mod transforms;

pub(crate) use gradient::WinogradWeights;
pub(crate) use one_dim::Winograd1d;
pub(crate) use sums::Winograd;
