//! Runs and differentiates graphs on the CPU, with masked SGD.
//!
//! A [`CpuExecutor`] plans a [`Graph`](slq_graph::Graph) once for a batch size; then it evaluates batches, takes
//! training steps and computes gradients without allocating memory. Its interface is the [`Executor`] trait, behind which
//! other devices can be added. [`run()`](run::run) runs a graph once, on any named inputs.
//!
//! ```
//! use slq_engine::{CpuExecutor, EngineOptions, Executor, StepSettings, Target};
//! use slq_graph::{Attribute, DType, Dim, Graph, Node, Tensor, ValueInfo};
//!
//! // y = x W' : two inputs, three classes
//! let mut graph = Graph::default();
//! let value = |name: &str, n| ValueInfo {
//!     name: name.into(),
//!     dtype: DType::F32,
//!     shape: Some(vec![Dim::Symbol("N".into()), Dim::Known(n)]),
//! };
//! graph.inputs.push(value("x", 2));
//! graph.outputs.push(value("y", 3));
//! graph.nodes.push(Node::new("fc", "Gemm", &["x", "W"], &["y"]).with("transB", Attribute::Int(1)));
//! graph.weights.insert("W".into(), Tensor::f32(vec![3, 2], vec![0.0; 6])?.into());
//!
//! let mut executor = CpuExecutor::new(&graph, 4, &EngineOptions::default())?;
//! let (images, labels) = ([1.0, 0.0, 0.0, 1.0, 1.0, 1.0], [0, 1, 2]);
//! let settings = StepSettings { learning_rate: 0.5, ..StepSettings::default() };
//! for _ in 0..20 {
//!     executor.train_step(&images, Target::Labels(&labels), &settings)?;
//! }
//! let after = executor.evaluate(&images, Some(Target::Labels(&labels)))?;
//! assert_eq!((after.top1, after.images), (3, 3));
//! executor.store_parameters(&mut graph)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod buckets;
mod compose;
mod cpu;
mod emit;
mod error;
mod executor;
mod follow;
mod inputs;
mod limits;
mod loss;
mod lower;
mod memory;
mod ops;
mod options;
mod packed;
mod pass;
mod plan;
mod program;
pub mod run;
pub mod schedule;
mod share;
mod trace;
mod update;

pub use cpu::CpuExecutor;
pub use error::EngineError;
pub use executor::Executor;
pub use inputs::{InputInfo, examples};
pub use limits::thread_room;
pub use options::{
    BatchNormMode, EngineOptions, Follow, Head, Loss, Penalty, Statistics, StepSettings, Target, UpdateRule,
};
pub use packed::{NotPacked, PackedWeight, packed_form};
pub use run::{Session, run};
pub use schedule::LearningRate;
pub use share::Share;
pub use slq_kernels::centroids::{CentroidRule, CentroidStep, mean_gradients};
pub use slq_kernels::softmax::soften;
pub use slq_kernels::{Isa, UnknownIsa};
