//! Training on several machines through MPI: a [`Transport`](slq_reduce::Transport) over the crate `mpi` (rsmpi).
//!
//! Without the feature `mpi` this crate is empty and needs no MPI library.

#![forbid(unsafe_code)]

#[cfg(feature = "mpi")]
mod world;

#[cfg(feature = "mpi")]
pub use world::start;
