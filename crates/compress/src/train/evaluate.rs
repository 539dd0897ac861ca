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
    // Figures of each batch; those of other processes stay 0 until they are added.
    let mut figures = vec![0.0; FIGURES * count];
    let follows = executor.follows();
    for (prepared, own) in batches.skip(rank).step_by(size).zip((rank..count).step_by(size)) {
        let prepared = prepared?;
        let target = if follows { Target::Network } else { Target::Labels(&prepared.labels) };
        let seen = executor.evaluate(&prepared.images, Some(target))?;
        let [top1, top5, images] = [seen.top1, seen.top5, seen.images].map(|n| n as f64);
        figures[FIGURES * own..][..FIGURES].copy_from_slice(&[seen.loss, top1, top5, images, seen.agreement]);
    }
    reducer.sum(&mut figures)?;
    let mut sum = Statistics::default();
    for figures in figures.chunks_exact(FIGURES) {
        let [top1, top5, images] = [1, 2, 3].map(|i| figures[i] as usize);
        sum.merge(&Statistics { loss: figures[0], top1, top5, images, agreement: figures[4] });
    }
    if follows {
        return Ok(Accuracy::of_agreement(&sum));
    }
    Ok(Accuracy::new(&sum, executor.classes()?))
}

/// Loss, top-1, top-5, images and agreement of a batch.
const FIGURES: usize = 5;
