//! Weights, codes and codebooks in safetensors files.
//!
//! [`write()`] stores the weights of a [`Graph`](slq_graph::Graph) with their palettes: codes packed to their
//! width, codebooks, which weights are fixed. [`read`] gives them back bit for bit; [`read_into`] puts them into a
//! network of the same layers. Files of other programs are read too: their tensors are plain weights. The layout
//! has its own page, `docs/safetensors.md`.
//!
//! ```no_run
//! # use std::path::Path;
//! let mut network = slq_graph::Graph::default(); // read from an ONNX file, say
//! slq_safetensors::write(&network, Path::new("weights.safetensors"))?;
//! slq_safetensors::read_into(&mut network, Path::new("weights.safetensors"))?;
//! # Ok::<(), slq_safetensors::SafetensorsError>(())
//! ```

#![forbid(unsafe_code)]

mod container;
mod dtype;
mod error;
mod manifest;
mod read;
mod write;

pub use error::SafetensorsError;
pub use read::{Contents, ReadOptions, read, read_into, read_with};
pub use write::write;
