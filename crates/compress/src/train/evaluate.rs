//! Accuracy and loss of a network.

use slq_data::{Mode, Split, Transform};
use slq_engine::{Executor, Statistics, Target};
use slq_reduce::{Alone, Reducer};

use crate::error::CompressError;
use crate::progress::Accuracy;

/// Accuracy and loss of the executor's network on a whole split, in batches of `batch` images.
///
/// # Errors
/// [`CompressError::Engine`] where it cannot run, [`CompressError::Data`] for an unreadable image.
pub fn evaluate(
    executor: &mut dyn Executor,
    split: &Split,
    transform: &Transform,
    batch: usize,
) -> Result<Accuracy, CompressError> {
    evaluate_shared(executor, (split, transform), batch, Alone::shared())
}

/// As [`evaluate`], with the batches shared out over the processes. The figures are added in the order of the batches, so
/// that they are those of a single process.
///
/// # Errors
/// As [`evaluate`]; [`CompressError::Reduce`].
pub(crate) fn evaluate_shared(
    executor: &mut dyn Executor,
    (split, transform): (&Split, &Transform),
    batch: usize,
    reducer: &dyn Reducer,
) -> Result<Accuracy, CompressError> {
    let (rank, size) = (reducer.rank(), reducer.size());
    let batches = split.batches(batch, transform, Mode::Eval, false)?;
    let count = batches.len();
    // Loss, top-1, top-5 and images of each batch; those of other processes stay 0 until they are added.
    let mut figures = vec![0.0; 4 * count];
    for (prepared, own) in batches.skip(rank).step_by(size).zip((rank..count).step_by(size)) {
        let prepared = prepared?;
        let seen = executor.evaluate(&prepared.images, Some(Target::Labels(&prepared.labels)))?;
        let counts = [seen.top1, seen.top5, seen.images].map(|n| n as f64);
        figures[4 * own] = seen.loss;
        figures[4 * own + 1..4 * own + 4].copy_from_slice(&counts);
    }
    reducer.sum(&mut figures)?;
    let mut sum = Statistics::default();
    for figures in figures.chunks_exact(4) {
        let [top1, top5, images] = [1, 2, 3].map(|i| figures[i] as usize);
        sum.merge(&Statistics { loss: figures[0], top1, top5, images });
    }
    Ok(Accuracy::new(&sum, executor.classes()?))
}
