//! Neural networks as graphs of ONNX operators whose weights carry palettes.
//!
//! A [`Graph`] is what every file format is read into and written from, and what every method changes: nodes
//! in the ONNX operator vocabulary, and [`Weight`]s that carry their own [`Palette`] (codebook, codes, which
//! weights are fixed). Quantization is stored, never recomputed.

mod error;
mod graph;
pub mod infer;
mod node;
pub mod op;
mod order;
mod palette;
mod resolve;
pub mod rewrite;
pub mod stats;
mod tensor;
pub mod validate;
mod window;

pub use error::GraphError;
pub use graph::{Graph, Metadata, Quantizable, TrainingRates, Weight};
pub use infer::{Shapes, infer_shapes};
pub use node::{Attribute, Dim, Node, ValueInfo};
pub use order::execution_order;
pub use palette::{Palette, bits_for};
pub use tensor::{DType, Tensor, TensorData, element_count};
pub use validate::{name_nodes, sort_topologically, validate};
