//! Convolution with stride 1 by Winograd's minimal filtering: 36 products for 4 x 4 output pixels of a 3 x 3 kernel, where the
//! definition has 144, and 36 for 2 x 2 of a 5 x 5 kernel, where it has 100.
//!
//! Tiles of output pixels overlap in inputs of 6 x 6. A work item takes some lines of tiles; their input, turned so
//! that the channels of a pixel lie together, goes through the transform; then 36 matrix products (tiles x channels by
//! channels x output channels) are summed in registers and transformed back. The data gradient is the same with weights transposed
//! and turned, the weight gradient is in [`gradient`]; kernels of one row or column are in [`lines`]. The error is larger than that of direct sums (`docs/kernels.md`).

mod gradient;
mod grid;
mod lines;
mod sums;
mod transforms;

pub(crate) use gradient::WinogradWeights;
pub(crate) use lines::Lines;
pub(crate) use sums::Winograd;
