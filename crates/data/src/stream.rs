//! Training batches without end.

use crate::loader::Loader;
use crate::transform::Phase;
use crate::{Batch, BatchSource, DataError, Split, Transform};

/// The largest batch of a stream, a guard against slips: a pass is bounded by its split.
const MAX_BATCH: usize = 1 << 20;

/// An endless sequence of full training batches, made by [`Split::stream`](crate::Split::stream).
///
/// It runs through one epoch after the other, each shuffled unless the split is [`in_order`](crate::Split::in_order); a batch at the end of an epoch is filled up from the next one. Sample
/// number `n` of the sequence depends on the split, the transform, the seed and `n` alone, so that
/// [`seek`](Self::seek) to the [`position`](Self::position) of an interrupted run goes on with the very same samples. (Behind
/// a [`Prefetch`](crate::Prefetch) the position is the number of batches taken times the batch size.)
#[derive(Clone, Debug)]
pub struct Stream {
    loader: Loader,
    batch_size: usize,
    position: u64,
    /// The epoch that `order` is of.
    epoch: u64,
    order: Vec<u32>,
}

impl Split {
    /// An endless sequence of training batches. See [`Stream`].
    ///
    /// # Errors
    /// Those of [`batches`](Self::batches) ([`DataError::BatchSize`] above 2^20 too); [`DataError::Empty`] if the split has no images.
    pub fn stream(&self, batch_size: usize, transform: &Transform, seed: u64) -> Result<Stream, DataError> {
        if batch_size > MAX_BATCH {
            return Err(DataError::BatchSize);
        }
        if self.is_empty() {
            return Err(DataError::Empty { place: "the training split".into() });
        }
        Ok(Stream::new(Loader::new(self, batch_size, transform, seed, Phase::Train)?, batch_size))
    }
}

impl Stream {
    fn new(loader: Loader, batch_size: usize) -> Stream {
        let order = loader.order(0);
        Stream { loader, batch_size, position: 0, epoch: 0, order }
    }

    /// The shape of one image: channels, height, width.
    pub fn image_shape(&self) -> [usize; 3] {
        self.loader.plan.output_shape()
    }

    /// Images in a batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Samples delivered so far: the number of the next one.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The epoch of the next sample, from 0.
    pub fn epoch(&self) -> u64 {
        self.position / self.loader.split.len() as u64
    }

    /// Goes on at sample number `position`.
    pub fn seek(&mut self, position: u64) {
        self.position = position;
    }

    /// The next batch in the memory of an old one; always a full batch.
    ///
    /// # Errors
    /// An image that cannot be read or does not fit the transform. The sequence then stays where it is.
    pub fn next_into(&mut self, batch: &mut Batch) -> Result<(), DataError> {
        let len = self.loader.split.len() as u64;
        let mut picks = Vec::with_capacity(self.batch_size);
        for i in 0..self.batch_size as u64 {
            let sample = self.position.wrapping_add(i);
            let epoch = sample / len;
            if epoch != self.epoch {
                self.order = self.loader.order(epoch);
                self.epoch = epoch;
            }
            picks.push((epoch, self.order[(sample % len) as usize]));
        }
        self.loader.fill(&picks, batch)?;
        self.position = self.position.wrapping_add(self.batch_size as u64);
        Ok(())
    }
}

impl BatchSource for Stream {
    fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        Stream::next_into(self, batch).map(|()| true)
    }
}

impl Iterator for Stream {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Batch::default();
        Some(Stream::next_into(self, &mut batch).map(|()| batch))
    }
}
