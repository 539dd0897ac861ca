//! A layer: the forward and backward pass of one operator.

use slq_graph::Graph;

use super::pass::{Backward, Forward};
use super::place::Place;
use crate::error::EngineError;

/// One operator of a plan. The plan's memory layout follows from what it declares here.
pub(crate) trait Layer: Send {
    /// Whether the backward pass reads input `i` (so that it has to be kept until then).
    fn reads_input(&self, _i: usize) -> bool {
        false
    }

    /// Whether the backward pass reads the output.
    fn reads_output(&self) -> bool {
        false
    }

    /// The input that the output may be written over; [`Forward::in_place`] then says whether it is.
    fn in_place(&self) -> Option<usize> {
        None
    }

    /// Whether the gradient of input 0 may be written over the output's gradient; [`Backward::in_place`] then
    /// says whether it is.
    fn gradient_in_place(&self) -> bool {
        false
    }

    /// Whether the layer can add to a gradient of input `i` that is there already. Otherwise the plan adds up gradients
    /// itself.
    fn accumulates(&self, _i: usize) -> bool {
        false
    }

    /// Called before the first pass after parameters have changed.
    fn refresh(&mut self, _weights: &Graph) {}

    /// Computes the output.
    fn forward(&mut self, pass: &mut Forward<'_>, y: &mut [f32]);

    /// Computes the gradients that [`Backward::take_gradient`] asks for.
    fn backward(&mut self, pass: &mut Backward<'_>);

    /// What the last pass met in its data that it cannot compute with, or in the other executors of a step.
    fn fault(&self) -> Option<EngineError> {
        None
    }

    /// Writes the running statistics of the last forward pass; called when the training step is accepted.
    fn commit(&mut self, _inputs: &[Place], _weights: &mut Graph) {}

    /// Bytes the layer itself holds.
    fn scratch_bytes(&self) -> usize {
        0
    }
}
