//! Splits as sequences of batches.

use rayon::prelude::*;

use crate::order::epoch_order;
use crate::place::{Draw, Work, place};
use crate::transform::Plan;
use crate::{DataError, Split, Stream, Transform};

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
    /// Images, channels, height, width.
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

/// One pass over a split. See [`Split::batches`].
#[derive(Clone, Debug)]
pub struct Batches {
    loader: Loader,
    /// `None` is the split's own order.
    order: Option<Vec<u32>>,
    epoch: u64,
    batch_size: usize,
    /// First image not yet delivered, and the end.
    next: usize,
    end: usize,
}

impl Split {
    /// One pass over the split, `batch_size` images at a time. The last batch holds what is left, or is dropped with
    /// `drop_last`.
    ///
    /// The content of every batch depends on the arguments alone: not on the number of threads, and the augmentation of an
    /// image not on the batch size either. Images are decoded and transformed on rayon's threads.
    ///
    /// # Errors
    /// [`DataError::BatchSize`]; [`DataError::Transform`], [`DataError::Channels`], [`DataError::SizesDiffer`] or
    /// [`DataError::CropTooLarge`] if the transform does not fit the images.
    pub fn batches(
        &self,
        batch_size: usize,
        transform: &Transform,
        mode: Mode,
        drop_last: bool,
    ) -> Result<Batches, DataError> {
        let (seed, epoch, order) = match mode {
            Mode::Train { seed, epoch } => (seed, epoch, Some(epoch_order(seed, epoch, self.len()))),
            Mode::Eval => (0, 0, None),
        };
        let loader = Loader::new(self, batch_size, transform, seed, order.is_some())?;
        let end = if drop_last { self.len() / batch_size * batch_size } else { self.len() };
        Ok(Batches { loader, order, epoch, batch_size, next: 0, end })
    }

    /// An endless sequence of training batches. See [`Stream`].
    ///
    /// # Errors
    /// Those of [`batches`](Self::batches); [`DataError::Empty`] if the split has no images.
    pub fn stream(&self, batch_size: usize, transform: &Transform, seed: u64) -> Result<Stream, DataError> {
        if self.is_empty() {
            return Err(DataError::Empty { place: "the training split".into() });
        }
        Ok(Stream::new(Loader::new(self, batch_size, transform, seed, true)?, batch_size))
    }
}

impl Batches {
    /// The shape of one image: channels, height, width.
    pub fn image_shape(&self) -> [usize; 3] {
        self.loader.plan.shape
    }

    /// Batches still to come.
    pub fn remaining(&self) -> usize {
        (self.end - self.next).div_ceil(self.batch_size)
    }

    /// The next batch in the memory of an old one; see [`BatchSource::next_into`].
    ///
    /// # Errors
    /// An image that cannot be read or does not fit the transform.
    pub fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        let start = self.next;
        self.next = (start + self.batch_size).min(self.end);
        let picks = (start..self.next).map(|i| self.order.as_ref().map_or(i as u32, |order| order[i]));
        let picks: Vec<(u64, u32)> = picks.map(|position| (self.epoch, position)).collect();
        self.loader.fill(&picks, batch)?;
        Ok(!picks.is_empty())
    }
}

impl BatchSource for Batches {
    fn next_into(&mut self, batch: &mut Batch) -> Result<bool, DataError> {
        Batches::next_into(self, batch)
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batch = Batch::default();
        match self.next_into(&mut batch) {
            Ok(true) => Some(Ok(batch)),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
    }
}

impl ExactSizeIterator for Batches {}

/// Makes batches of chosen images.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub split: Split,
    pub plan: Plan,
    seed: u64,
}

impl Loader {
    fn new(
        split: &Split,
        batch_size: usize,
        transform: &Transform,
        seed: u64,
        train: bool,
    ) -> Result<Loader, DataError> {
        if batch_size == 0 {
            return Err(DataError::BatchSize);
        }
        Ok(Loader { split: split.clone(), plan: Plan::new(transform, split, train)?, seed })
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Fills `batch` with the images at these (epoch, position).
    pub fn fill(&self, picks: &[(u64, u32)], batch: &mut Batch) -> Result<(), DataError> {
        let [channels, height, width] = self.plan.shape;
        let size = channels * height * width;
        batch.shape = [picks.len(), channels, height, width];
        batch.labels.clear();
        batch.labels.extend(picks.iter().map(|&(_, p)| self.split.labels[p as usize]));
        batch.positions.clear();
        batch.positions.extend(picks.iter().map(|&(_, p)| p));
        batch.images.resize(picks.len() * size, 0.0);
        let failed = batch
            .images
            .par_chunks_exact_mut(size)
            .zip(picks)
            .with_min_len(4)
            .map_init(<(Vec<u8>, Work)>::default, |(decoded, work), (out, &(epoch, position))| {
                let stored = self.split.index[position as usize] as usize;
                let image = self.split.storage.image(stored, decoded)?;
                let draw = Draw { seed: self.seed, epoch, position };
                place(&self.plan, image, draw, work, || self.split.storage.name(stored), out)
            })
            // The first in order, so that the message does not depend on the threads.
            .find_map_first(Result::err);
        failed.map_or(Ok(()), Err)
    }
}
