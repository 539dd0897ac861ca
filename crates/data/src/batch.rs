//! One batch, and what makes batches.

use crate::DataError;

/// How a pass over a split is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In random order, with augmentation; both depend on seed and epoch alone.
    Train {
        /// The run's seed.
        seed: u64,
        /// The epoch, from 0.
        epoch: u64,
    },
    /// In the split's own order, without augmentation.
    Eval,
}

/// Images and labels that go through a network together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The input, of [`shape`](Self::shape).
    pub images: Vec<f32>,
    /// The class of each image.
    pub labels: Vec<u32>,
    /// Position of each image in the split.
    pub positions: Vec<u32>,
    /// Images, channels, height, width; the channels last with [`AxisOrder::ChannelsLast`](crate::AxisOrder).
    pub shape: [usize; 4],
}

/// Something that fills one batch after the other.
pub trait BatchSource {
    /// Replaces the content of `batch` by the next batch, reusing its memory. At the end it returns `false` and leaves the
    /// batch empty.
    ///
    /// # Errors
    /// An image that cannot be read or does not fit the transform.
    fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError>;
}
