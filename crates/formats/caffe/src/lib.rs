//! Caffe prototxt and caffemodel files to graphs and back.
//!
//! [`read`] turns a prototxt and its caffemodel into a [`Graph`](slq_graph::Graph) of ONNX operators that
//! computes the same numbers; [`read_net`] gives what the prototxt says about data and losses beside it.
//! [`write()`] turns a graph into a caffemodel and a prototxt, [`read_solver`] reads how a net is trained,
//! [`read_state`] and [`write_state`] keep where a training stands.
//! What maps to what is written down in `docs/caffe.md`.

#![forbid(unsafe_code)]

mod error;
mod fill;
mod info;
mod names;
mod phase;
mod proto;
mod read;
mod solver;
mod state;
mod text;
mod upgrade;
mod wire;
mod write;

pub use error::CaffeError;
pub use info::{
    Accuracy, DataKind, DataSource, Loss, LossKind, Net, NetInfo, Normalization, ReadOptions, Source,
    TransformParam,
};
pub use phase::Phase;
pub use read::{data_sources, read, read_mean, read_net};
pub use solver::{
    LrPolicy, NetFile, Regularization, SnapshotSettings, SolverKind, SolverSettings, TestSettings,
    read_solver,
};
pub use state::{SolverState, learned_net, read_state, write_state};
pub use write::{WriteOptions, is_own_prototxt, write};
