//! A training on several processes: each takes its share of every batch, and all keep the same parameters.

use sha2::{Digest, Sha256};
use slq_data::{Batch, DataError, Stream};
use slq_engine::{Share, Statistics};
use slq_graph::Graph;
use slq_reduce::Reducer;

use super::settings::TrainingSettings;
use crate::error::CompressError;
use crate::processes::gather_rows;

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
        let mut all = [seen.loss * images, seen.top1 as f64, seen.top5 as f64, images, seen.agreement];
        self.reducer.sum(&mut all)?;
        let [loss, top1, top5, images, agreement] = all;
        let [top1, top5] = [top1, top5].map(|n| n as usize);
        Ok(Statistics { loss: loss / images, top1, top5, images: images as usize, agreement })
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

/// Shares out measurements that do not depend on each other: process r of N does number r, r + N, ... of `count`. Returns the
/// `N` figures of each in order, with the bits that one process alone would find.
///
/// # Errors
/// What `measure` reports for one of this process's own; [`CompressError::Reduce`].
pub(crate) fn share_out<const N: usize>(
    reducer: &dyn Reducer,
    count: usize,
    measure: impl FnMut(usize) -> Result<[f64; N], CompressError>,
) -> Result<Vec<[f64; N]>, CompressError> {
    let (rank, size) = (reducer.rank(), reducer.size());
    let own = (rank..count).step_by(size).map(measure).collect::<Result<Vec<_>, _>>()?;
    if size == 1 {
        return Ok(own);
    }
    let figure = |row: &Vec<f64>, n| row.get(n).copied().unwrap_or(f64::NAN);
    let rows = gather_rows(reducer, count, &own)?;
    Ok(rows.iter().map(|row| std::array::from_fn(|n| figure(row, n))).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_come_back_in_order_with_their_bits_from_any_number_of_processes() {
        let figures = |i: usize| [1.0 / (i as f64 + 3.0), if i == 2 { -0.0 } else { f64::NEG_INFINITY }];
        for (size, count) in [(1, 5), (2, 5), (3, 5), (4, 2), (3, 0)] {
            let wanted: Vec<_> = (0..count).map(|i| figures(i).map(f64::to_bits)).collect();
            std::thread::scope(|scope| {
                for rank in slq_reduce::threads(size) {
                    let wanted = &wanted;
                    scope.spawn(move || {
                        let mut done = 0;
                        let found = share_out(&rank, count, |i| {
                            done += 1;
                            assert_eq!(i % size, rank.rank());
                            Ok(figures(i))
                        });
                        let found: Vec<_> = found.unwrap().into_iter().map(|f| f.map(f64::to_bits)).collect();
                        assert_eq!(&found, wanted, "{size} processes, {count} measurements");
                        assert!(done <= count.div_ceil(size), "{done} of {count} on {size}");
                    });
                }
            });
        }
    }
}
