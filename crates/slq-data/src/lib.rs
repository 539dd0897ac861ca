//! Image datasets as deterministic iterators of batches.

mod batches;
mod cifar;
mod classes;
mod dataset;
mod decode;
mod error;
mod gzip;
mod idx;
mod layout;
mod npy;
mod npz;
mod order;
mod place;
mod resize;
mod split;
mod storage;
mod stream;
mod transform;
mod tree;

pub use batches::{Batch, BatchSource, Batches, Mode};
pub use dataset::{Dataset, OpenOptions, SplitSummary, Summary};
pub use error::DataError;
pub use npz::write_npz;
pub use split::{Portion, Split};
pub use stream::Stream;
pub use transform::{ChannelOrder, Resize, Transform};
