//! Runs palettized networks with their weights packed.
//!
//! A [`Network`] is read from a `.slq` container, a palettized ONNX file or a [`Graph`](slq_graph::Graph). Its palettized
//! weights stay codes and codebooks in memory: products look codes up in registers, convolutions expand a bounded part of
//! their weights at a time. Activations are 32-bit floats. A [`Session`] runs it on named inputs, a
//! [`CpuExecutor`] evaluates batches of images.
//!
//! ```
//! use slq_graph::{Attribute, DType, Dim, Graph, Node, Palette, Tensor, ValueInfo, Weight};
//! use slq_runtime::{Expand, Isa, Network};
//!
//! // y = x W': two inputs, three outputs; W holds 1 and -1 as codes.
//! let mut graph = Graph::default();
//! let value = |name: &str, n| ValueInfo {
//!     name: name.into(),
//!     dtype: DType::F32,
//!     shape: Some(vec![Dim::Symbol("N".into()), Dim::Known(n)]),
//! };
//! graph.inputs.push(value("x", 2));
//! graph.outputs.push(value("y", 3));
//! graph.nodes.push(Node::new("fc", "Gemm", &["x", "W"], &["y"]).with("transB", Attribute::Int(1)));
//! let palette = Palette::fully_fixed(vec![-1.0, 1.0], 1, vec![0, 1, 1, 1, 0, 0])?;
//! let tensor = Tensor::f32(vec![3, 2], palette.decode())?;
//! graph.weights.insert("W".into(), Weight { palette: Some(palette), ..tensor.into() });
//!
//! let network = Network::from_graph(graph, Expand::None)?;
//! assert_eq!(network.report().packed.len(), 1);
//! let mut session = network.session(Isa::detect());
//! let x = Tensor::f32(vec![1, 2], vec![2.0, 3.0])?;
//! let outputs = session.run(&[("x", &x)])?;
//! assert_eq!(outputs[0].1.as_f32(), Some([1.0, 5.0, -5.0].as_slice()));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod error;
mod expand;
mod load;
mod network;
mod report;

pub use error::RuntimeError;
pub use expand::{Expand, UnknownExpand};
pub use network::Network;
pub use report::{Expanded, Reason, Report};
pub use slq_engine::{CpuExecutor, EngineError, Executor, Isa, Session};
