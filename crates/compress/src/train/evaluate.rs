//! Accuracy and loss of a network.

use slq_data::{Mode, Split, Transform};
use slq_engine::{Executor, Statistics, Target};

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
    let mut sum = Statistics::default();
    for prepared in split.batches(batch, transform, Mode::Eval, false)? {
        let prepared = prepared?;
        sum.merge(&executor.evaluate(&prepared.images, Some(Target::Labels(&prepared.labels)))?);
    }
    Ok(Accuracy::new(&sum, executor.classes()?))
}
