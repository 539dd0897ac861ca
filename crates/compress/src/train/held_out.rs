//! Training images held out to measure the loss on: for partitions, ranks of layers and Fisher information.

use slq_data::{Mode, Split, Transform};
use slq_engine::{Executor, Statistics, Target, soften};
use slq_reduce::Reducer;

use super::processes::share_out;
use crate::error::CompressError;

/// Held-out images with their targets, prepared in batches.
#[derive(Debug, Clone)]
pub(crate) struct HeldOut {
    batches: Vec<Prepared>,
}

#[derive(Debug, Clone)]
struct Prepared {
    images: Vec<f32>,
    labels: Vec<u32>,
    /// The float network's outputs, where the run distils.
    probabilities: Option<(Vec<f32>, f32)>,
}

impl Prepared {
    fn target(&self, executor: &dyn Executor) -> Target<'_> {
        match &self.probabilities {
            _ if executor.follows() => Target::Network,
            Some((probabilities, temperature)) => {
                Target::Distribution { probabilities, temperature: *temperature }
            }
            None => Target::Labels(&self.labels),
        }
    }
}

impl HeldOut {
    /// Prepares the images of `split` as evaluation would, `batch` at a time.
    ///
    /// # Errors
    /// [`CompressError::Data`] for an image that cannot be read.
    pub(crate) fn new(split: &Split, transform: &Transform, batch: usize) -> Result<Self, CompressError> {
        let mut batches = Vec::new();
        for prepared in split.batches(batch, transform, Mode::Eval, false)? {
            let prepared = prepared?;
            batches.push(Prepared { images: prepared.images, labels: prepared.labels, probabilities: None });
        }
        Ok(Self { batches })
    }

    /// Replaces the labels by the outputs of `teacher` at a temperature.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where the teacher cannot run.
    pub(crate) fn distil(
        &mut self,
        teacher: &mut dyn Executor,
        temperature: f32,
    ) -> Result<(), CompressError> {
        for batch in &mut self.batches {
            let mut outputs = teacher.logits(&batch.images)?;
            let classes = teacher.classes()?;
            soften(&mut outputs, classes, temperature);
            batch.probabilities = Some((outputs, temperature));
        }
        Ok(())
    }

    /// The same as [`loss`](Self::loss), with the batches shared out over the processes.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where it cannot run; [`CompressError::Reduce`].
    pub(crate) fn loss_shared(
        &self,
        executor: &mut dyn Executor,
        reducer: &dyn Reducer,
    ) -> Result<f64, CompressError> {
        let mut sum = Statistics::default();
        for (loss, images) in self.losses(executor, reducer)? {
            sum.merge(&Statistics { loss, images, ..Statistics::default() });
        }
        Ok(sum.loss)
    }

    /// Mean loss and number of images of every batch, shared out over the processes.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where it cannot run; [`CompressError::Reduce`].
    pub(crate) fn losses(
        &self,
        executor: &mut dyn Executor,
        reducer: &dyn Reducer,
    ) -> Result<Vec<(f64, usize)>, CompressError> {
        let found = share_out(reducer, self.len(), |batch| {
            self.batch_loss(executor, batch).map(|(loss, images)| [loss, images as f64])
        })?;
        Ok(found.into_iter().map(|[loss, images]| (loss, images as usize)).collect())
    }

    /// Mean loss of the executor's network over all images.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where it cannot run.
    pub(crate) fn loss(&self, executor: &mut dyn Executor) -> Result<f64, CompressError> {
        let mut sum = Statistics::default();
        for batch in &self.batches {
            let target = batch.target(executor);
            sum.merge(&executor.evaluate(&batch.images, Some(target))?);
        }
        Ok(sum.loss)
    }

    /// Number of batches.
    pub(crate) fn len(&self) -> usize {
        self.batches.len()
    }

    /// Mean loss and number of images of one batch.
    ///
    /// # Errors
    /// [`CompressError::Engine`] where it cannot run.
    pub(crate) fn batch_loss(
        &self,
        executor: &mut dyn Executor,
        batch: usize,
    ) -> Result<(f64, usize), CompressError> {
        let batch = &self.batches[batch];
        let target = batch.target(executor);
        let found = executor.evaluate(&batch.images, Some(target))?;
        Ok((found.loss, found.images))
    }

    /// Runs `visit` after the gradients of each of this process's batches have been computed, with the batch's number of images:
    /// process r of N takes number r, r + N, ...
    ///
    /// # Errors
    /// [`CompressError::Engine`] where it cannot run.
    pub(crate) fn for_each_gradient(
        &self,
        executor: &mut dyn Executor,
        reducer: &dyn Reducer,
        mut visit: impl FnMut(&dyn Executor, usize) -> Result<(), CompressError>,
    ) -> Result<(), CompressError> {
        for batch in self.batches.iter().skip(reducer.rank()).step_by(reducer.size()) {
            let target = batch.target(executor);
            let images = executor.gradients(&batch.images, target)?.images;
            visit(executor, images)?;
        }
        Ok(())
    }
}
