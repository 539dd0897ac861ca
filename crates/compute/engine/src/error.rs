//! Errors of planning, running and training a network.

use slq_graph::GraphError;

use crate::options::Loss;

/// Why a network cannot be run or trained.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// An error in the graph: an unsupported operator, shapes that do not match.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The network has no input, or several where one is needed.
    #[error("the network has {count} inputs, which this does not take")]
    InputCount {
        /// Inputs of the graph.
        count: usize,
    },
    /// A dimension other than the batch size is not given in the file.
    #[error(
        "input `{input}` declares the shape {declared}, in which more than the batch size is unknown; give its sizes with --input-shape {input}=1x3x224x224 or the like"
    )]
    OpenShape {
        /// The input.
        input: String,
        /// Its shape as declared.
        declared: String,
    },
    /// An element type that the engine does not support.
    #[error("{place} is of type {found}, but the engine computes with 32-bit floats")]
    ElementType {
        /// Input, weight or node.
        place: String,
        /// Its type.
        found: String,
    },
    /// Data that an operator cannot compute with.
    #[error("node `{node}` {reason}")]
    Data {
        /// Name of the node.
        node: String,
        /// What is wrong with them.
        reason: String,
    },
    /// No value was given for an input, or for one that does not exist.
    #[error("input `{input}` is {problem}")]
    InputName {
        /// The name.
        input: String,
        /// `missing` or `not an input of the network`.
        problem: &'static str,
    },
    /// A tensor of another shape than its input.
    #[error("input `{input}` is {found:?}, where the network takes {wanted:?}")]
    InputShape {
        /// The input.
        input: String,
        /// Shape given.
        found: Vec<usize>,
        /// Shape wanted, examples along the first axis.
        wanted: Vec<usize>,
    },
    /// A batch that is not a whole number of images, is empty or exceeds the planned size.
    #[error(
        "a batch of {values} values does not fit input `{input}`: an image has {per_image} values, and the plan takes \
         1 to {batch} images"
    )]
    Batch {
        /// The input.
        input: String,
        /// Values given.
        values: usize,
        /// Values of one image.
        per_image: usize,
        /// Images of the planned batch.
        batch: usize,
    },
    /// A batch of no images was planned.
    #[error("a batch must hold at least one image")]
    EmptyBatch,
    /// The number of targets is not the number of images.
    #[error("{found} target values were given for {images} images; {expected} were expected")]
    TargetCount {
        /// Values given.
        found: usize,
        /// Values expected: one label, or one probability per class, for each image.
        expected: usize,
        /// Images of the batch.
        images: usize,
    },
    /// A label that is not below the number of classes.
    #[error("image {image} of the batch has label {label}, but the network has {classes} classes")]
    Label {
        /// Position in the batch.
        image: usize,
        /// Its label.
        label: u32,
        /// Outputs of the network.
        classes: usize,
    },
    /// A distillation temperature that is not positive.
    #[error("a distillation temperature of {temperature} is not a positive number")]
    Temperature {
        /// The value given.
        temperature: f32,
    },
    /// A setting of the optimiser that is out of range.
    #[error("{setting} {value} is out of range: {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The value given.
        value: f32,
        /// What it has to be.
        expected: &'static str,
    },
    /// A loss at something that is not an output of the network, or a second loss at the same scores.
    #[error("a loss at `{output}`: {problem}")]
    Head {
        /// The output named.
        output: String,
        /// Why it cannot have a loss of its own.
        problem: &'static str,
    },
    /// A target distribution for a loss that takes labels only.
    #[error("{loss:?} compares with labels and cannot be distilled")]
    LabelsOnly {
        /// The loss.
        loss: Loss,
    },
    /// A loss that compares with another network's values, given labels.
    #[error("{loss:?} compares with the values of another network and takes no labels")]
    NetworkOnly {
        /// The loss.
        loss: Loss,
    },
    /// The network to follow has other inputs.
    #[error("the network to follow has other inputs than this one")]
    OtherInputs,
    /// The target is another network's values, but none was named.
    #[error("no network is named whose values the outputs should follow")]
    NothingToFollow,
    /// The first output is not of shape N x classes.
    #[error("output `{output}` has the shape {shape:?}; a loss needs one row of class scores for each image")]
    Logits {
        /// The output.
        output: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// No such parameter.
    #[error("the network has no float parameter named `{name}`")]
    UnknownParameter {
        /// The name.
        name: String,
    },
    /// Values or flags whose number differs from the parameter's.
    #[error("parameter `{name}` has the shape {expected:?}, but {found} were given")]
    ParameterShape {
        /// The parameter.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
        /// What was given, such as `a shape of [3, 4]` or `12 values`.
        found: String,
    },
    /// No gradient has been computed for this parameter.
    #[error("no gradient of `{name}` is known: it is not trained, or no backward pass has run")]
    NoGradient {
        /// The parameter.
        name: String,
    },
    /// The loss or the gradient norm is not finite. Parameters keep their values from before the step.
    #[error(
        "training diverged at iteration {iteration}: the {what} is {value}; {}",
        match iteration {
            0 => "no step was made yet, so the network as it is computes it: check its weights, and how pixels become inputs (scale, \
                  mean, deviation)",
            _ => "lower the learning rate (ten times is a good first try) or clip the gradients",
        }
    )]
    Diverged {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Iteration, counted from 0.
        iteration: u64,
    },
    /// The plan needs more memory than machine, control group and limits of the process leave.
    #[error(
        "a batch of {batch} needs {bytes} bytes of memory where {available} may be taken; {}",
        match fits {
            0 => "not even one image fits".to_owned(),
            n => format!("a batch of {n} or less should fit"),
        }
    )]
    Memory {
        /// Images in the batch.
        batch: usize,
        /// Bytes wanted.
        bytes: usize,
        /// Bytes that may be taken.
        available: usize,
        /// A batch that should fit; 0 where none does.
        fits: usize,
    },
    /// A form of an operator that the engine does not support.
    #[error("node `{node}` ({op}): {reason}; `--method kmeans` compresses this network without running it")]
    Unsupported {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is missing.
        reason: String,
    },
    /// The other processes of a data-parallel training cannot be reached.
    #[error(transparent)]
    Reduce(#[from] slq_reduce::ReduceError),
    /// A learning-rate policy that cannot be parsed.
    #[error("`{text}` is not a learning-rate policy: {reason}")]
    Schedule {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}
