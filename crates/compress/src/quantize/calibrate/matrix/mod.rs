//! One layer as a matrix: second moments, targets, codebooks and codes. Pure functions on slices; nothing here knows of
//! graphs, files or settings.

mod chunk;
mod codebook;
mod curvature;
mod damping;
mod descent;
mod error_pass;
mod factor;
mod gram;
mod layout;
mod normal;
mod product;
mod regression;
mod scale;
mod shared;
mod shrinkage;
mod solve;
mod start;
#[cfg(test)]
mod target_tests;
mod targets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use codebook::Values;
pub use curvature::Curvature;
pub use gram::{Block, Gathering, Gram, LayerShape};
pub use layout::Books;
pub use shared::Start;
pub use solve::{Problem, Progress, Solution, SolveOptions, quantize};
pub(crate) use start::importance;
pub use targets::{Moments, Prepared, Shrinkage, Strength, TargetOptions};
