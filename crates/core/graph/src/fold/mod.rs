//! Nodes that become constants: a graph that computes the same with fewer nodes.
//!
//! [`fold_constants`] is what reading an ONNX file does, so that weights behind a `Transpose` or a `Cast` can be
//! quantized and trained. [`fold_batch_norms`] is for inference only: formats without batch-norm, and speed; so is
//! [`collapse_batch_norms`], for small files.

mod batch_norm;
mod collapse;
mod constants;
mod plan;

pub use batch_norm::fold_batch_norms;
pub use collapse::{collapse_batch_norms, has_collapsed_batch_norms};
pub use constants::fold_constants;
