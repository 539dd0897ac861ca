//! Neural networks as graphs of ONNX operators whose weights carry palettes.
//!
//! A [`Graph`] is what every file format is read into and written from, and what every method changes: nodes
//! in the ONNX operator vocabulary, and [`Weight`]s that carry their own [`Palette`] (codebook, codes, which
//! weights are fixed). Quantization is stored, never recomputed.

mod error;
mod graph;
mod node;
pub mod op;
mod palette;
mod tensor;

pub use error::GraphError;
pub use graph::{Graph, Metadata, Quantizable, TrainingRates, Weight};
pub use node::{Attribute, Dim, Node, ValueInfo};
pub use palette::{Palette, bits_for};
pub use tensor::{DType, Tensor, TensorData, element_count};
