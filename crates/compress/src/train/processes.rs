//! A training on several processes: each takes its share of every batch, and all keep the same parameters.

use sha2::{Digest, Sha256};
use slq_data::{Batch, DataError, Stream};
use slq_engine::{Share, Statistics};
use slq_graph::Graph;
use slq_reduce::Reducer;

use super::settings::TrainingSettings;
use crate::error::CompressError;

/// The images of each batch that this process reads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shard<'a> {
    reducer: &'a dyn Reducer,
    batch: usize,
    first: usize,
    /// Their number.
    pub(crate) count: usize,
}

impl<'a> Shard<'a> {
    /// Consecutive images, as many in each process, or one more in some.
    ///
    /// # Errors
    /// [`CompressError::Setting`] for a batch of fewer images than processes.
    pub(crate) fn new(settings: &TrainingSettings, reducer: &'a dyn Reducer) -> Result<Self, CompressError> {
        let (batch, size) = (settings.batch, reducer.size());
        if batch < size {
            let reason = format!("{batch} images cannot be shared out over {size} processes");
            return Err(CompressError::Setting { name: "batch", reason });
        }
        let start = |rank: usize| batch * rank / size;
        let first = start(reducer.rank());
        Ok(Self { reducer, batch, first, count: start(reducer.rank() + 1) - first })
    }

    /// This process's images of batch number `batch` of the training.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub(crate) fn read(&self, stream: &mut Stream, batch: u64, into: &mut Batch) -> Result<(), DataError> {
        stream.seek(batch.wrapping_mul(self.batch as u64).wrapping_add(self.first as u64));
        stream.next_into(into)
    }

    /// The share as the engine takes it.
    pub(crate) fn share(&self) -> Share<'a> {
        Share { reducer: self.reducer, weight: self.count as f32 / self.batch as f32 }
    }

    /// The figures of the whole batch.
    ///
    /// # Errors
    /// [`CompressError::Reduce`].
    pub(crate) fn figures(&self, seen: Statistics) -> Result<Statistics, CompressError> {
        if self.reducer.size() == 1 {
            return Ok(seen);
        }
        let images = seen.images as f64;
        let mut all = [seen.loss * images, seen.top1 as f64, seen.top5 as f64, images];
        self.reducer.sum(&mut all)?;
        let [loss, top1, top5, images] = all;
        let [top1, top5] = [top1, top5].map(|n| n as usize);
        Ok(Statistics { loss: loss / images, top1, top5, images: images as usize })
    }

    /// Whether any process asks to stop, and whether the first one asks for a pause: its clock counts for all.
    ///
    /// # Errors
    /// [`CompressError::Reduce`].
    pub(crate) fn agree(&self, stop: bool, pause: bool) -> Result<(bool, bool), CompressError> {
        if self.reducer.size() == 1 {
            return Ok((stop, pause));
        }
        let flags = self.reducer.gather(&[u8::from(stop), u8::from(pause)])?;
        Ok((flags.iter().any(|f| f[0] == 1), flags[0][1] == 1))
    }
}

/// Checks that every process has the weights of `graph`: another processor or library of mathematics could make the last
/// bits differ, and from there on everything.
///
/// # Errors
/// [`CompressError::Processes`], [`CompressError::Reduce`].
pub(crate) fn check_same(graph: &Graph, reducer: &dyn Reducer) -> Result<(), CompressError> {
    if reducer.size() == 1 {
        return Ok(());
    }
    let mut hash = Sha256::new();
    for weight in graph.weights.values() {
        for values in weight.tensor.as_f32().unwrap_or_default().chunks(1 << 12) {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            hash.update(&bytes);
        }
    }
    let what = "result of the training (it runs on another kind of processor, or with another C library)";
    match reducer.first_that_differs(&hash.finalize())? {
        Some(rank) => Err(CompressError::Processes { rank, what }),
        None => Ok(()),
    }
}
