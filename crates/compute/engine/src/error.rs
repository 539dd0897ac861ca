//! What can go wrong between a graph and its numbers.

use slq_graph::GraphError;

/// A network that cannot be run or trained as asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The graph itself: an unsupported operator, shapes that do not fit.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// Batches of images need a network with one input.
    #[error("the network has {count} inputs; evaluation and training take exactly one")]
    InputCount {
        /// Inputs of the graph.
        count: usize,
    },
    /// An extent other than the batch size is left open by the file.
    #[error("input `{input}` declares the shape {declared}, which leaves more than the batch size open")]
    OpenShape {
        /// The input.
        input: String,
        /// Its shape as declared.
        declared: String,
    },
    /// A value whose element type the engine does not compute with.
    #[error("{place} is of type {found}, but the engine computes with 32-bit floats")]
    ElementType {
        /// Input, weight or node.
        place: String,
        /// Its type.
        found: String,
    },
    /// No value was given for an input, or for one that does not exist.
    #[error("input `{input}` is {problem}")]
    InputName {
        /// The name.
        input: String,
        /// `missing` or `not an input of the network`.
        problem: &'static str,
    },
    /// A batch that is no whole number of images, or none, or too many.
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
    /// A label past the last class.
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
    /// A setting of the optimiser that is not a number it can use.
    #[error("{setting} {value} is out of range: {expected}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// The value given.
        value: f32,
        /// What it has to be.
        expected: &'static str,
    },
    /// A loss is asked for at something that is no output of the network, or twice at the same scores.
    #[error("a loss at `{output}`: {problem}")]
    Head {
        /// The output named.
        output: String,
        /// Why it cannot have a loss of its own.
        problem: &'static str,
    },
    /// A distribution over classes where the loss compares with labels.
    #[error("{loss:?} compares with labels and cannot be distilled")]
    LabelsOnly {
        /// The loss.
        loss: crate::Loss,
    },
    /// The first output is no table of scores.
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
    /// Values or flags that do not fit a parameter.
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
    /// Training has left the realm of numbers. The parameters are those from before the step.
    #[error(
        "training diverged at iteration {iteration}: the {what} is {value}; lower the learning rate (ten times is a \
         good first try) or clip the gradients"
    )]
    Diverged {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// Its value.
        value: f64,
        /// Iteration, counted from 0.
        iteration: u64,
    },
    /// The plan needs more memory than there is.
    #[error(
        "a batch of {batch} needs {bytes} bytes of memory, but the machine has {available}; try a smaller batch"
    )]
    Memory {
        /// Images in the batch.
        batch: usize,
        /// Bytes wanted.
        bytes: usize,
        /// Bytes of the machine.
        available: usize,
    },
    /// A part of an operator that the engine does not compute.
    #[error("node `{node}` ({op}): {reason}; `--method kmeans` compresses this network without running it")]
    Unsupported {
        /// The node.
        node: String,
        /// Its operator.
        op: String,
        /// What is missing.
        reason: String,
    },
    /// A learning-rate policy that cannot be read.
    #[error("`{text}` is no learning-rate policy: {reason}")]
    Schedule {
        /// The text given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
}
