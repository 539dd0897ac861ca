//! Image datasets as deterministic iterators of batches.
//!
//! [`Dataset::open`] recognises what lies at a path (IDX files, CIFAR's binary files, an image folder, a zip archive of one
//! of these, a Caffe LMDB, an `.npz`) and gives two [`Split`]s, for training and for
//! test. Validation and calibration images are taken from the training split ([`Split::split_off_validation`],
//! [`Split::calibration`]). A [`Transform`] is the preprocessing and augmentation; [`Split::batches`] makes one pass,
//! [`Split::stream`] is endless and can be resumed at any sample.
//!
//! All randomness depends on a seed, the epoch and the image alone. Batches are therefore the same on any number of
//! threads, and with or without [`Prefetch`].
//!
//! ```
//! use slq_data::{Dataset, Mode, Portion, Transform};
//!
//! let data = Dataset::named("mnist-10k")?;
//! println!("{}", data.summary()); // 8000 training and 2000 test images of 1x28x28, 10 classes
//! let (train, validation) = data.train.split_off_validation(Portion::Fraction(0.1), 0)?;
//!
//! let transform = Transform { mean: vec![0.1307], std: vec![0.3081], ..Transform::default() };
//! for batch in train.batches(64, &transform, Mode::Train { seed: 0, epoch: 0 }, true)?.take(3) {
//!     let batch = batch?;
//!     assert_eq!(batch.shape, [64, 1, 28, 28]);
//! }
//! assert_eq!(validation.batches(100, &transform, Mode::Eval, false)?.len(), 8);
//! # Ok::<(), slq_data::DataError>(())
//! ```
//!
//! The layouts, and what is refused, are described in `docs/datasets.md`.

#![deny(unsafe_code)]

mod array;
mod batch;
mod batches;
mod cifar;
mod classes;
mod database;
mod dataset;
mod decode;
mod error;
mod examples;
#[cfg(test)]
mod fixture;
mod gzip;
mod idx;
mod layout;
mod list;
mod lmdb;
mod loader;
pub mod npy;
mod npz;
mod open;
mod order;
mod picture;
mod place;
mod prefetch;
mod resize;
mod split;
mod storage;
mod stream;
mod transform;
mod tree;

pub use array::ArrayPixels;
pub use batch::{Batch, BatchSource, Mode};
pub use batches::Batches;
pub use database::write_lmdb;
pub use dataset::{Dataset, OpenOptions, SplitSummary, Summary};
pub use error::DataError;
pub use npz::{npz_arrays, npz_names, write_npz};
pub use order::epoch_order;
pub use prefetch::Prefetch;
pub use split::{InputArray, Portion, Split};
pub use stream::Stream;
pub use transform::{AxisOrder, ChannelOrder, MeanImage, Resize, Transform};
