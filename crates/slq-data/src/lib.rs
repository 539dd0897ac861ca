//! Image datasets as deterministic iterators of batches.

mod batches;
mod dataset;
mod error;
mod gzip;
mod idx;
mod order;
mod place;
mod resize;
mod split;
mod storage;
mod stream;
mod transform;

pub use batches::{Batch, BatchSource, Batches, Mode};
pub use dataset::{Dataset, OpenOptions};
pub use error::DataError;
pub use split::{Portion, Split};
pub use stream::Stream;
pub use transform::{ChannelOrder, Resize, Transform};
