//! Decoding and transforming of chosen images into a batch, in parallel.

use rayon::prelude::*;

use crate::order::epoch_order;
use crate::place::{Draw, Work, place};
use crate::transform::{Phase, Plan};
use crate::{Batch, DataError, Split, Transform};

/// Makes batches of chosen images.
#[derive(Clone, Debug)]
pub(crate) struct Loader {
    pub split: Split,
    pub plan: Plan,
    seed: u64,
}

impl Loader {
    /// A loader of batches of `batch_size` images (at least 1).
    pub fn new(
        split: &Split,
        batch_size: usize,
        transform: &Transform,
        seed: u64,
        phase: Phase,
    ) -> Result<Loader, DataError> {
        if batch_size == 0 {
            return Err(DataError::BatchSize);
        }
        Ok(Loader { split: split.clone(), plan: Plan::new(transform, split, phase)?, seed })
    }

    /// The order of an epoch of training.
    pub fn order(&self, epoch: u64) -> Vec<u32> {
        match self.split.in_order {
            true => (0..self.split.len() as u32).collect(),
            false => epoch_order(self.seed, epoch, self.split.len()),
        }
    }

    /// Fills `batch` with the images at these (epoch, position).
    pub fn fill(&self, picks: &[(u64, u32)], batch: &mut Batch) -> Result<(), DataError> {
        let shape = self.plan.output_shape();
        let size = shape.iter().product();
        batch.shape = [picks.len(), shape[0], shape[1], shape[2]];
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
