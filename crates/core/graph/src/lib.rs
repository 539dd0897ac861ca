//! Neural networks as graphs of ONNX operators whose weights carry palettes.
//!
//! A [`Graph`] is what every file format is read into and written from, and what every method changes: nodes
//! with ONNX's operators, and [`Weight`]s with their own [`Palette`] (codebook, codes, which values are fixed).
//! Quantization is stored, never recomputed.
//!
//! | to | see |
//! |---|---|
//! | check a graph that comes from a file | [`validate()`], [`name_nodes`], [`sort_topologically`] |
//! | know every shape, and every node as a typed operator | [`infer_shapes`], [`op::Op`] |
//! | fold constants, fold batch-norm into the layer before it | [`fold`] |
//! | store matrices with their output channels as rows | [`Graph::turn_rows`] |
//! | know which weights are quantizable, which are trained | [`Graph::quantizable`], [`Graph::trainable`], [`Role`] |
//! | count parameters, bytes, entropy, MACs | [`stats`] |
//!
//! ```
//! use slq_graph::{Graph, Node, Tensor, ValueInfo, DType, infer_shapes, stats, validate};
//!
//! let value = |name: &str| ValueInfo { name: name.into(), dtype: DType::F32, shape: None };
//! let mut graph = Graph { inputs: vec![value("x")], outputs: vec![value("y")], ..Graph::default() };
//! graph.weights.insert("w".into(), Tensor::f32(vec![8, 3, 3, 3], vec![0.5; 216])?.into());
//! graph.nodes.push(Node::new("conv", "Conv", &["x", "w"], &["y"]));
//! validate(&graph)?;
//!
//! let shapes = infer_shapes(&graph, &[("x", vec![1, 3, 32, 32])])?;
//! assert_eq!(shapes.get("y"), Some(&[1, 8, 30, 30][..]));
//! assert_eq!(stats::macs(&graph, &shapes)?[0].macs, 8 * 30 * 30 * 27);
//! assert_eq!(stats::summary(&graph).total.dense_bytes, 4 * 216);
//! # Ok::<(), slq_graph::GraphError>(())
//! ```

#![forbid(unsafe_code)]

mod body;
mod dtype;
mod error;
mod evaluate;
pub mod fold;
mod graph;
pub mod infer;
mod node;
pub mod op;
mod order;
mod parameters;
mod quantizable;
mod resolve;
mod rules;
pub mod stats;
mod tensor;
mod turn;
mod types;
pub mod validate;
mod window;

pub use body::Bodies;
pub use dtype::DType;
pub use error::{GraphError, Missing};
pub use graph::{Graph, Metadata, TrainingRates, Weight};
pub use infer::{Shapes, infer_shapes};
pub use node::{Attribute, Dim, Node, ValueInfo};
pub use order::execution_order;
pub use parameters::Role;
pub use quantizable::Quantizable;
pub use slq_codebook::{Palette, PaletteError, bits_for};
pub use tensor::{Tensor, TensorData, element_count};
pub use validate::{name_nodes, sort_topologically, validate};
