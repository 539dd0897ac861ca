//! One layer as a matrix: second moments, targets, codebooks and codes. Pure functions on slices; nothing here knows of
//! graphs, files or settings.

mod chunk;
mod codebook;
mod curvature;
mod descent;
mod error_pass;
mod factor;
mod gram;
mod layout;
mod normal;
mod product;
mod scale;
mod solve;
mod start;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use codebook::Values;
pub use curvature::Curvature;
pub use gram::{Gram, LayerShape, Moments};
pub use layout::Books;
pub use solve::{Problem, Progress, Solution, SolveOptions, quantize};
pub use targets::{Prepared, TargetOptions};
