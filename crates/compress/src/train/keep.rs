//! What a training keeps between its first step and its last, so that it can be stopped at any step.

use std::time::Duration;

use serde_json::Value;
use slq_engine::Executor;
use slq_graph::Graph;
use slq_reduce::Reducer;

use crate::error::CompressError;

/// A training between two of its steps, beside the parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Moment {
    /// Steps done.
    pub(crate) iteration: u64,
    /// Seconds they took.
    pub(crate) seconds: f64,
    /// The optimiser's momentum by parameter ([`Executor::momentum`]).
    pub(crate) history: Vec<(String, Vec<f32>)>,
    /// What the caller of the training adds, see [`Between`].
    pub(crate) between: Value,
}

/// Keeps moments of one training, with the parameters of that time.
pub(crate) trait Keep {
    /// The last moment that was kept, if there is one; its parameters go into `graph`.
    ///
    /// # Errors
    /// Files that are damaged or belong to another job.
    fn load(&mut self, graph: &mut Graph) -> Result<Option<Moment>, CompressError>;

    /// Keeps a moment and the parameters in `graph`, in place of the moment before.
    ///
    /// # Errors
    /// A disk that refuses.
    fn save(&mut self, graph: &Graph, moment: &Moment) -> Result<(), CompressError>;

    /// Time between two moments.
    fn every(&self) -> Duration;
}

/// Where the parameters of a training go, and what keeps them on the way.
pub(crate) struct Home<'g, 'k> {
    /// Receives the parameters.
    pub(crate) graph: &'g mut Graph,
    /// Keeps moments; `None` keeps none.
    pub(crate) keeper: Option<&'k mut dyn Keep>,
}

impl Home<'_, '_> {
    /// Brings `executor` to the last moment that was kept.
    ///
    /// # Errors
    /// As [`Keep::load`].
    pub(crate) fn resume(&mut self, executor: &mut dyn Executor) -> Result<Option<Moment>, CompressError> {
        let Some(keeper) = &mut self.keeper else { return Ok(None) };
        let Some(moment) = keeper.load(self.graph)? else { return Ok(None) };
        executor.load_parameters(self.graph)?;
        executor.set_momentum(&moment.history)?;
        Ok(Some(moment))
    }

    /// Keeps where `executor` stands.
    ///
    /// # Errors
    /// As [`Keep::save`].
    pub(crate) fn keep(
        &mut self,
        executor: &dyn Executor,
        iteration: u64,
        seconds: f64,
        between: &dyn Between,
    ) -> Result<(), CompressError> {
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        executor.store_parameters(self.graph)?;
        between.store(self.graph)?;
        let (history, between) = (executor.momentum(), between.state());
        keeper.save(self.graph, &Moment { iteration, seconds, history, between })
    }

    /// As [`Home::keep`] in the first of several processes; the others wait, so that none ends before.
    ///
    /// # Errors
    /// As [`Keep::save`]; [`CompressError::Reduce`].
    pub(crate) fn keep_first(
        &mut self,
        executor: &dyn Executor,
        iteration: u64,
        seconds: f64,
        between: &dyn Between,
        reducer: &dyn Reducer,
    ) -> Result<(), CompressError> {
        if reducer.rank() == 0 {
            self.keep(executor, iteration, seconds, between)?;
        }
        Ok(reducer.barrier()?)
    }

    /// Time between two moments; `None` where none are kept.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.keeper.as_ref().map(|k| k.every())
    }
}

/// What happens between the steps of a training.
pub(crate) trait Between {
    /// Called after each step, with the step's learning rate.
    ///
    /// # Errors
    /// What the engine reports.
    fn after_step(&mut self, executor: &mut dyn Executor, rate: f32) -> Result<(), CompressError>;

    /// Brings the palettes of `graph`, whose weights are those of the moment, to that moment, too.
    ///
    /// # Errors
    /// Values that make no palette.
    fn store(&self, _graph: &mut Graph) -> Result<(), CompressError> {
        Ok(())
    }

    /// What must be kept with a moment of the training.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Restores [`Between::state`].
    ///
    /// # Errors
    /// [`CompressError::MethodState`] for the state of another training.
    fn restore(&mut self, _state: Value) -> Result<(), CompressError> {
        Ok(())
    }
}

/// Nothing happens.
pub(crate) struct Nothing;

impl Between for Nothing {
    fn after_step(&mut self, _: &mut dyn Executor, _: f32) -> Result<(), CompressError> {
        Ok(())
    }
}
