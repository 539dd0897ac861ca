//! The runtime for palettized networks as a C library.
//!
//! `include/slq.h` declares what [`ffi`] exports; `examples/c/classify.c` of the repository uses it. No panic crosses the border: it becomes an
//! error, and the network it happened in refuses further calls.

#![deny(unsafe_code)]

pub mod ffi;
mod network;

pub use network::Network;
