//! The interface of an executor, on any device.

use slq_graph::Graph;

use crate::error::EngineError;
use crate::options::{Statistics, StepSettings, Target};
use crate::share::Share;

/// Runs and trains one network with batches up to a planned size.
///
/// Images are given as N x C x H x W floats in row-major order (the shape of the graph's input), N being
/// anything from 1 to the planned batch. For a network with several inputs each of the N examples holds all of them, one
/// after the other, in the graph's order, integers and Booleans as floats ([`examples`](crate::examples)). A parameter is any float weight of the graph, known by its name.
pub trait Executor {
    /// Copies the values of all parameters from `graph`, by name.
    ///
    /// # Errors
    /// [`EngineError::UnknownParameter`] where `graph` lacks one, [`EngineError::ParameterShape`] where a shape
    /// differs.
    fn load_parameters(&mut self, graph: &Graph) -> Result<(), EngineError>;

    /// Writes all parameters, running batch-norm statistics included, back into `graph`. Palettes are untouched.
    ///
    /// # Errors
    /// As [`Executor::load_parameters`].
    fn store_parameters(&self, graph: &mut Graph) -> Result<(), EngineError>;

    /// Replaces the values of one parameter.
    ///
    /// # Errors
    /// [`EngineError::UnknownParameter`]; [`EngineError::ParameterShape`] where the number of values differs.
    fn set_parameter(&mut self, name: &str, values: &[f32]) -> Result<(), EngineError>;

    /// The values of one parameter.
    ///
    /// # Errors
    /// [`EngineError::UnknownParameter`].
    fn parameter(&self, name: &str) -> Result<&[f32], EngineError>;

    /// Sets which weights of a parameter are fixed (`true`): training steps keep their exact bits. `None` frees all. No
    /// weight gradient is computed for a parameter that is fixed as a whole.
    ///
    /// # Errors
    /// As [`Executor::set_parameter`].
    fn set_mask(&mut self, name: &str, fixed: Option<&[bool]>) -> Result<(), EngineError>;

    /// Runs a batch in inference mode (running statistics, no dropout) and computes loss and accuracy for `target`.
    ///
    /// # Errors
    /// [`EngineError::Batch`], [`EngineError::TargetCount`], [`EngineError::Label`], [`EngineError::Logits`],
    /// [`EngineError::NothingToFollow`].
    fn evaluate(&mut self, images: &[f32], target: Option<Target<'_>>) -> Result<Statistics, EngineError>;

    /// Whether there is a network that [`Target::Network`] stands for.
    fn follows(&self) -> bool {
        false
    }

    /// Runs a batch and returns all outputs of the graph, in its order, after a final softmax if there is one.
    ///
    /// # Errors
    /// [`EngineError::Batch`].
    fn outputs(&mut self, images: &[f32]) -> Result<Vec<Vec<f32>>, EngineError>;

    /// Runs a batch and returns the class scores before a final softmax, N x classes.
    ///
    /// # Errors
    /// [`EngineError::Batch`], [`EngineError::Logits`].
    fn logits(&mut self, images: &[f32]) -> Result<Vec<f32>, EngineError>;

    /// One training step under the masks; loss and accuracy are those of the forward pass, before the update.
    ///
    /// # Errors
    /// As [`Executor::evaluate`]; [`EngineError::Setting`]; [`EngineError::Diverged`], in which case parameters
    /// and momentum are those from before the step.
    fn train_step(
        &mut self,
        images: &[f32],
        target: Target<'_>,
        settings: &StepSettings,
    ) -> Result<Statistics, EngineError> {
        self.train_share(images, target, settings, Share::whole())
    }

    /// A training step on a share of its images, while other executors take it on the other shares: gradients are added over
    /// all of them before the update, and the running statistics of batch-norm are averaged, so that all keep the same
    /// parameters. Batch-norm normalises by the statistics of the share, or of all shares
    /// ([`BatchNormMode::Sync`](crate::BatchNormMode::Sync)). Loss and accuracy are those of the share.
    ///
    /// # Errors
    /// As [`Executor::train_step`]; [`EngineError::Reduce`] where another executor is gone.
    fn train_share(
        &mut self,
        images: &[f32],
        target: Target<'_>,
        settings: &StepSettings,
        share: Share<'_>,
    ) -> Result<Statistics, EngineError>;

    /// Forward and backward pass of a training step without the update: the gradients are added to those of the next
    /// [`train_step`](Executor::train_step) (Caffe's `iter_size`). Running statistics are updated, parameters are not.
    ///
    /// # Errors
    /// As [`Executor::train_step`], in which case nothing is added.
    fn accumulate(&mut self, images: &[f32], target: Target<'_>) -> Result<Statistics, EngineError> {
        self.accumulate_share(images, target, Share::whole())
    }

    /// The same on a share of the images. Gradients stay with this executor until [`train_share`](Executor::train_share) adds
    /// them over all; only statistics that are shared ([`BatchNormMode::Sync`](crate::BatchNormMode::Sync)) travel.
    ///
    /// # Errors
    /// As [`Executor::train_share`], in which case nothing is added.
    fn accumulate_share(
        &mut self,
        images: &[f32],
        target: Target<'_>,
        share: Share<'_>,
    ) -> Result<Statistics, EngineError>;

    /// Forward and backward pass without an update, with running batch-norm statistics and no dropout. Unlike in
    /// a training step, masks and `lr_mult` are ignored: every parameter gets its gradient.
    ///
    /// # Errors
    /// As [`Executor::evaluate`].
    fn gradients(&mut self, images: &[f32], target: Target<'_>) -> Result<Statistics, EngineError>;

    /// The gradient of the mean loss from the last [`gradients`](Executor::gradients) or
    /// [`train_step`](Executor::train_step), before weight decay and clipping.
    ///
    /// # Errors
    /// [`EngineError::UnknownParameter`], [`EngineError::NoGradient`].
    fn gradient(&self, name: &str) -> Result<&[f32], EngineError>;

    /// The momentum of every parameter that has one, by name, for a checkpoint. Adam and AdaDelta keep two values for
    /// each weight: all first ones, then all second ones.
    fn momentum(&self) -> Vec<(String, Vec<f32>)>;

    /// Restores the momentum from a checkpoint; parameters not named start from zero.
    ///
    /// # Errors
    /// As [`Executor::set_parameter`].
    fn set_momentum(&mut self, momentum: &[(String, Vec<f32>)]) -> Result<(), EngineError>;

    /// Sets all momentum to zero, and drops accumulated gradients.
    fn reset_momentum(&mut self);

    /// Number of batches trained on; with the seed it determines the dropout masks.
    fn iteration(&self) -> u64;

    /// Sets the number of batches trained on.
    fn set_iteration(&mut self, iteration: u64);

    /// Sets which of several copies of the network this is, from 0: each draws dropout masks of its own.
    fn set_copy(&mut self, copy: u64);

    /// Peak memory so far in bytes: parameters, gradients, momentum, activations, working memory.
    fn peak_bytes(&self) -> usize;

    /// Number of classes: the width of the first output.
    ///
    /// # Errors
    /// [`EngineError::Logits`] where its shape is not N x classes.
    fn classes(&mut self) -> Result<usize, EngineError>;
}
