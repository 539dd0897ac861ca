//! A graph for one batch size and one purpose, as a list of steps.

use slq_graph::DType;
use slq_graph::op::Op;
use slq_kernels::conv::Post;

use crate::options::{BatchNormMode, Loss};

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forward and backward pass with dropout; gradients of the parameters that are not fixed as a whole.
    Train(BatchNormMode),
    /// Forward and backward pass in inference mode; gradients of every parameter.
    Gradients,
    /// Forward pass in inference mode.
    Evaluate,
}

impl Mode {
    /// Whether batch-norm normalises with the batch's own statistics.
    pub fn batch_statistics(self) -> bool {
        matches!(self, Mode::Train(BatchNormMode::Train | BatchNormMode::Sync))
    }

    /// Whether these are those of all shares of a step.
    pub fn synchronized(self) -> bool {
        self == Mode::Train(BatchNormMode::Sync)
    }
}

/// Where an operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An activation, by number.
    Value(usize),
    /// A parameter, by its position among the graph's weights.
    Weight(usize),
    /// A weight that stays packed, by its position among these.
    Packed(usize),
}

/// A tensor as one step sees it. Two operands of one source may differ in shape (a view), never in length.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Operand {
    pub source: Source,
    pub shape: Vec<usize>,
}

impl Operand {
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same elements under another shape of as many.
    pub fn seen_as(&self, shape: &[usize]) -> Self {
        Self { source: self.source, shape: shape.to_vec() }
    }
}

/// One operator to compute.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Position of its node in the graph.
    pub node: usize,
    pub op: Op,
    pub inputs: Vec<Option<Operand>>,
    /// Number of the value written.
    pub output: usize,
    /// Its shape.
    pub shape: Vec<usize>,
    /// A fused activation.
    pub post: Post,
    /// Scale, bias, mean and variance (weights by position) and epsilon of a batch-norm behind a convolution,
    /// to be folded into its weights.
    pub fold: Option<([usize; 4], f32)>,
    /// The integer type of the result where it is computed: values that it or a float does not hold are an error.
    pub check: Option<DType>,
}

impl Step {
    /// Input `i`, which the operator's definition requires.
    pub fn operand(&self, i: usize) -> Option<&Operand> {
        self.inputs.get(i)?.as_ref()
    }
}

/// A graph for one batch size and one purpose.
#[derive(Debug, Default)]
pub(crate) struct Program {
    /// Number of elements of each value.
    pub lens: Vec<usize>,
    pub steps: Vec<Step>,
    /// Value of each graph input, in the graph's order.
    pub inputs: Vec<usize>,
    /// The graph's outputs.
    pub outputs: Vec<Operand>,
    /// The first output, before a final softmax.
    pub logits: Option<Operand>,
    /// Further outputs with a loss, each with its position, when training.
    pub heads: Vec<(usize, Operand)>,
}

/// What is computed at the end of a network.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    /// The loss at the first output.
    pub first: Loss,
    /// Positions and losses of other outputs with a loss: in training or, where a network is followed, all of them, always.
    pub heads: Vec<(usize, Loss)>,
    /// Whether a network is followed: the first output has no loss of its own then.
    pub follows: bool,
}
