//! Palettized networks and 1-D k-means in the browser.
//!
//! JavaScript writes an argument into the module's memory, makes a [`call`](Server::call) and reads the answer, see
//! `border`; `www/slq.js` does it. What the calls do is plain safe Rust, which runs and is tested on any machine:
//!
//! | call | argument | answer |
//! |---|---|---|
//! | [`Call::About`] | none | JSON: version, instruction set |
//! | [`Call::Open`] | a `.slq` or ONNX file | JSON: number, inputs, outputs, sizes, properties |
//! | [`Call::Run`] | rank, extents (32-bit integers), values (32-bit floats) | values of the first output |
//! | [`Call::Close`] | none | nothing |
//! | [`Call::Compress`] | an ONNX file | JSON: table of layers, sizes |
//! | [`Call::Part`] | none | what the last `Compress` made: 0 the palettized ONNX file, 1 the `.slq` container |

#![deny(unsafe_code)]

mod border;
mod compress;
mod error;
mod server;

pub use compress::{Compressed, Granularity, LayerRow, compress};
pub use error::WebError;
pub use server::{Call, Server};
