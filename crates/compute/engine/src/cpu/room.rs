//! Whether there is memory for what an executor will need.

use slq_graph::Graph;

use super::{CpuExecutor, skeleton};
use crate::error::EngineError;
use crate::memory;
use crate::options::EngineOptions;
use crate::packed::PackedWeight;
use crate::plan::{Losses, Plan};
use crate::program::Mode;

impl CpuExecutor {
    /// An executor that is ready to evaluate.
    pub(super) fn planned(
        graph: Graph,
        packed: Vec<PackedWeight>,
        batch: usize,
        how: (&EngineOptions, bool),
    ) -> Result<Self, EngineError> {
        let mut executor = Self::unplanned(graph, packed, batch, how)?;
        executor.ready(Mode::Evaluate, batch)?;
        Ok(executor)
    }

    /// Checks, without taking it, that there is memory for training steps of `batch` images on `graph`, with the network that
    /// `options` follow and that of a `teacher`, where there are such; a share of `spare` as much again, and `further` bytes.
    ///
    /// # Errors
    /// As [`CpuExecutor::new`], for what a training takes.
    pub fn check_training(
        (graph, teacher): (&Graph, Option<&Graph>),
        batch: usize,
        options: &EngineOptions,
        (spare, further): (f64, usize),
    ) -> Result<(), EngineError> {
        let follows = options.follow.is_some();
        let student = Self::unplanned(skeleton(graph), Vec::new(), batch, (options, follows))?;
        let mut bytes = student.planned_bytes(&[Mode::Evaluate, Mode::Train(options.batch_norm)])?;
        let alone = EngineOptions { follow: None, heads: Vec::new(), ..options.clone() };
        let mut others = Vec::new();
        for other in teacher.into_iter().chain(options.follow.as_ref().map(|f| f.network.as_ref())) {
            let other = Self::unplanned(skeleton(other), Vec::new(), batch, (&alone, follows))?;
            bytes = bytes.saturating_add(other.planned_bytes(&[Mode::Evaluate])?);
            // Its weights are taken until the check.
            others.push(other);
        }
        let bytes = (bytes as f64 * (1.0 + spare)) as usize;
        memory::check_free(batch, bytes.saturating_add(further))
    }

    /// Checks that `bytes` can be taken beside what the executor has; less than 16 MB are not looked at.
    ///
    /// # Errors
    /// [`EngineError::Memory`], for the largest batch that was planned for.
    pub fn check_room(&self, bytes: usize) -> Result<(), EngineError> {
        memory::check_free(self.batch, bytes)
    }

    /// Plans a training step of the largest batch, so that memory that is missing is missed now.
    ///
    /// # Errors
    /// As [`CpuExecutor::new`], for what a step takes.
    pub fn plan_training(&mut self) -> Result<(), EngineError> {
        self.ready(Mode::Train(self.options.batch_norm), self.batch).map(drop)
    }

    /// Bytes that plans of the largest batch take beside the weights: their buffers, which they share, what their layers keep,
    /// gradients and momentum.
    fn planned_bytes(&self, modes: &[Mode]) -> Result<usize, EngineError> {
        let shapes = self.inputs.iter().map(|i| [&[self.batch], i.shape.as_slice()].concat());
        let shapes: Vec<Vec<usize>> = shapes.collect();
        let losses = Losses { heads: &self.options.heads, follows: self.keeps_heads };
        let (mut slots, mut bytes) = (Vec::new(), 0usize);
        for &mode in modes {
            let network = (&self.graph, self.packed.as_slice());
            let plan = Plan::new(network, &shapes, mode, self.options.isa, &self.frozen(), losses)?;
            slots.resize(slots.len().max(plan.slots.len()), 0usize);
            slots.iter_mut().zip(&plan.slots).for_each(|(all, one)| *all = (*all).max(*one));
            bytes = bytes.saturating_add(plan.scratch_bytes());
            if mode != Mode::Evaluate {
                let trained = self.graph.weights.values().zip(&plan.trained).filter(|(_, trained)| **trained);
                bytes = trained.fold(bytes, |sum, (w, _)| sum.saturating_add(8 * w.tensor.len()));
            }
        }
        Ok(slots.iter().fold(bytes, |sum, len| sum.saturating_add(len.saturating_mul(4))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Executor;
    use crate::{StepSettings, Target};

    #[test]
    fn what_is_wanted_is_what_a_training_takes() {
        let graph = slq_zoo::build("lenet", 0).unwrap();
        let options = EngineOptions::default();
        let weights: usize = graph.weights.values().map(|w| 4 * w.tensor.len()).sum();
        let mut executor = CpuExecutor::new(&graph, 32, &options).unwrap();
        let wanted =
            executor.planned_bytes(&[Mode::Evaluate, Mode::Train(options.batch_norm)]).unwrap() + weights;
        executor.train_step(&[0.5; 32 * 784], Target::Labels(&[1; 32]), &StepSettings::default()).unwrap();
        let taken = executor.peak_bytes();
        let share = wanted as f64 / taken as f64;
        assert!((0.9..1.2).contains(&share), "{wanted} of {taken}");
        CpuExecutor::check_training((&graph, Some(&graph)), 32, &options, (0.5, 0)).unwrap();
        let error = CpuExecutor::check_training((&graph, None), 32, &options, (0.5, usize::MAX)).unwrap_err();
        assert!(matches!(error, EngineError::Memory { batch: 32, .. }), "{error}");
    }
}
