//! What the processes of one training tell each other: sums and copies of values, in an order that depends on the number of
//! processes and the lengths of the values alone, never on timing.
//!
//! A training sees the trait [`Reducer`]. [`Alone`] is a single process. [`Background`] is one of several: its thread runs
//! the algorithms of [`Group`] over a [`Transport`], which does no more than send and receive bytes: [`threads()`] makes one
//! over channels, the crate `slq-mpi` one over MPI.
//!
//! ```
//! use slq_reduce::{Reducer, threads};
//!
//! let sums: Vec<f64> = std::thread::scope(|scope| {
//!     let ranks = threads(3).into_iter().map(|rank| {
//!         scope.spawn(move || {
//!             let mut values = [rank.rank() as f64];
//!             rank.sum(&mut values).map(|()| values[0])
//!         })
//!     });
//!     let ranks: Vec<_> = ranks.collect();
//!     ranks.into_iter().map(|r| r.join().unwrap().unwrap()).collect()
//! });
//! assert_eq!(sums, [3.0, 3.0, 3.0]);
//! ```

#![forbid(unsafe_code)]

mod alone;
mod background;
mod error;
mod group;
mod reducer;
mod threads;

pub use alone::Alone;
pub use background::{Background, Patience};
pub use error::ReduceError;
pub use group::{Group, Transport};
pub use reducer::Reducer;
pub use threads::{Channels, threads};
