//! Typed operators: one form of each, whatever version of the operator set a node follows.
//!
//! A [`Node`](crate::Node) keeps what its file says. [`Op`] is the same operator with its attributes, defaults
//! and constant inputs resolved (`Clip` takes its bounds from attributes in opset 6 and from inputs in opset
//! 11; both become [`Op::Clip`]). Shape inference and the engine look at `Op` only.

/// How a window slides over the two spatial axes. Arrays are (height, width).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Extent of the kernel.
    pub kernel: [usize; 2],
    /// Steps.
    pub strides: [usize; 2],
    /// Dilation of the kernel.
    pub dilations: [usize; 2],
    /// Padding: explicit, or to be derived from the input's extent.
    pub padding: Padding,
}

/// Padding of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// Top, left, bottom, right.
    Explicit([usize; 4]),
    /// `auto_pad = SAME_UPPER`: output = ceil(input / stride), the odd element at the end.
    SameUpper,
    /// `auto_pad = SAME_LOWER`: the odd element at the beginning.
    SameLower,
}

/// Rule that combines two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Max,
    Min,
    Pow,
    /// Comparisons and logic give 1 where they hold and 0 where they do not, and have no gradient.
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
    And,
    Or,
    Xor,
}

/// Function applied to each element.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum UnaryOp {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    Elu {
        alpha: f32,
    },
    Sigmoid,
    Tanh,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Exp,
    Log,
    Sqrt,
    Abs,
    Neg,
    Reciprocal,
    Erf,
    /// x times the normal distribution function.
    Gelu,
    /// Its approximation by a hyperbolic tangent.
    GeluTanh,
    Softplus,
    Mish,
    /// x sigmoid(alpha x).
    Swish {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Softsign,
    Sign,
    Floor,
    Ceil,
    /// To the nearest integer, halves to the even one.
    Round,
    /// A cast to an integer type: the fraction is dropped.
    Truncate,
    /// A cast to a Boolean: 1 where the value is not 0.
    NotZero,
    Not,
}

/// What a [`Op::Normalize`] takes mean and variance over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Normalization {
    /// All axes from `axis` on; the scale has their shape.
    Layer {
        /// First axis, not negative.
        axis: usize,
    },
    /// As `Layer`, by the root mean square alone: nothing is subtracted.
    Rms {
        /// First axis, not negative.
        axis: usize,
    },
    /// The spatial axes of each channel of `[N, C, ...]`; the scale is `[C]`.
    Instance,
    /// The spatial axes and the channels of each group of `[N, C, ...]`.
    Group {
        /// Number of groups; it divides the channels.
        groups: usize,
        /// The scale is `[C]`, else `[groups]` (operator sets 18 to 20).
        by_channel: bool,
    },
}

/// Statistic of a reduction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Reduction {
    Mean,
    Sum,
}

/// How `Pad` fills.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum PadMode {
    Constant(f32),
    Reflect,
    Edge,
}

/// An operator with everything but its tensor inputs resolved. The comment of each variant names the tensor
/// inputs it reads, as indices of the node's `inputs`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Inputs: 0 data `[N, C, H, W]`, 1 weight `[M, C / groups, kh, kw]`, 2 optional bias `[M]`. One-dimensional
    /// convolutions are not supported.
    Conv {
        /// Kernel, strides, dilations, padding.
        window: Window,
        /// Number of groups.
        groups: usize,
    },
    /// Inputs: 0 data `[N, C, H, W]`, 1 weight `[C, M / groups, kh, kw]`, 2 optional bias `[M]`.
    ConvTranspose {
        /// Kernel, strides, dilations, padding.
        window: Window,
        /// Number of groups.
        groups: usize,
        /// Extra rows and columns at the end of the output.
        output_padding: [usize; 2],
    },
    /// Inputs: 0 A, 1 B, 2 optional C (broadcast): alpha A' B' + beta C.
    Gemm {
        /// Factor of the product.
        alpha: f32,
        /// Factor of C.
        beta: f32,
        /// Whether A is transposed.
        trans_a: bool,
        /// Whether B is transposed.
        trans_b: bool,
    },
    /// Inputs: 0 A `[.., m, k]`, 1 B `[.., k, n]`, leading dimensions broadcast.
    MatMul,
    /// Input: 0 `[N, C, H, W]`. A window past the padded end in ceil mode counts only what is inside.
    MaxPool {
        /// Kernel, strides, dilations, padding.
        window: Window,
        /// Output extent rounded up.
        ceil: bool,
    },
    /// Input: 0 `[N, C, H, W]`.
    AveragePool {
        /// Kernel, strides, dilations, padding.
        window: Window,
        /// Output extent rounded up.
        ceil: bool,
        /// Whether the divisor counts padding (up to input + padding, never the excess of ceil mode).
        count_include_pad: bool,
    },
    /// Input: 0 `[N, C, ...]`; output `[N, C, 1, ...]`.
    GlobalAveragePool,
    /// Input: 0 `[N, C, ...]`; output `[N, C, 1, ...]`.
    GlobalMaxPool,
    /// Inputs: 0 data `[N, C, ...]`, 1 scale, 2 bias, 3 running mean, 4 running variance, each `[C]`.
    BatchNorm {
        /// Added to the variance.
        epsilon: f32,
        /// Share of the old running statistic that a training step keeps.
        momentum: f32,
    },
    /// Input: 0 `[N, C, ...]`: x / (bias + alpha / size * sum of squares over `size` channels)^beta.
    Lrn {
        /// Channels in the sum.
        size: usize,
        /// Factor.
        alpha: f32,
        /// Exponent.
        beta: f32,
        /// Constant.
        bias: f32,
    },
    /// Input: 0, each element by itself.
    Unary(UnaryOp),
    /// Inputs: 0 data `[N, C, ...]`, 1 slope, broadcast to the data (`[C, 1, 1]`, `[1]` …).
    PRelu,
    /// Input: 0, bounded below and above (infinite where a bound is absent).
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// Inputs: 0 and 1, broadcast against each other.
    Binary(BinaryOp),
    /// All inputs, combined one after the other with broadcasting (`Sum`, and `Max` and `Min` of more than two).
    Chain(BinaryOp),
    /// All inputs, joined along `axis`.
    Concat {
        /// Axis, not negative.
        axis: usize,
    },
    /// Input: 0; one output for each of `sizes`.
    Split {
        /// Axis, not negative.
        axis: usize,
        /// Extent of each output.
        sizes: Vec<usize>,
    },
    /// Input: 0; output [prod(d < axis), prod(d >= axis)].
    Flatten {
        /// Axis, not negative.
        axis: usize,
    },
    /// Input: 0, element order unchanged (`Reshape`, `Squeeze`, `Unsqueeze`). The target is resolved during
    /// shape inference: 0 copies the input's extent, -1 is inferred.
    Reshape {
        /// Target shape as written, one entry for each output dimension.
        target: Vec<i64>,
    },
    /// Input: 0; output dimension i is input dimension `perm[i]`.
    Transpose {
        /// The permutation.
        perm: Vec<usize>,
    },
    /// Input: 0; for each axis a start, an end (exclusive; -1 means "before the first" for negative steps)
    /// and a step, all resolved against the input's shape.
    Slice {
        /// (start, end, step) for each axis of the input.
        ranges: Vec<(i64, i64, i64)>,
    },
    /// Input: 0; `before[i]` and `after[i]` elements are added around axis i (negative values crop).
    Pad {
        /// Elements added before.
        before: Vec<i64>,
        /// Elements added after.
        after: Vec<i64>,
        /// How they are filled.
        mode: PadMode,
    },
    /// Input: 0.
    Reduce {
        /// The statistic.
        reduction: Reduction,
        /// Axes, not negative, ascending.
        axes: Vec<usize>,
        /// Whether reduced axes stay with extent 1.
        keep_dims: bool,
    },
    /// Input: 0; identity in evaluation, in training each element is dropped with probability `ratio` and the
    /// rest divided by (1 - ratio). The mask output is not supported.
    Dropout {
        /// Probability of dropping an element.
        ratio: f32,
    },
    /// Input: 0.
    Softmax {
        /// Axis, not negative.
        axis: usize,
        /// Opset below 13: the sum runs over `axis` and everything after it.
        flatten: bool,
        /// Log-softmax.
        log: bool,
    },
    /// Inputs: 0 data, 1 scale, 2 optional bias: (x - mean) / sqrt(variance + epsilon) * scale + bias.
    Normalize {
        /// What is normalised together.
        over: Normalization,
        /// Added to the variance.
        epsilon: f32,
    },
    /// Inputs: 0 condition, 1 value where it is not 0, 2 value elsewhere, broadcast together.
    Where,
    /// Inputs: 0 data, 1 indices (whole numbers; negative ones count from the end). Output: the data's shape with `axis`
    /// replaced by the shape of the indices.
    Gather {
        /// Axis, not negative.
        axis: usize,
    },
    /// Input: 0, repeated along axes of extent 1 until it has `shape`.
    Expand {
        /// Shape of the output.
        shape: Vec<usize>,
    },
    /// No inputs: values that were computed from shapes and constants. No node resolves to it; a runtime makes it for
    /// [`Shapes::constant`](crate::Shapes::constant).
    Constant {
        /// The values.
        values: Vec<f32>,
    },
    /// Input: 0, handed on.
    Identity,
}

impl Op {
    /// How many of a node's `given` inputs are tensors; the others are settings of the typed operator.
    pub fn tensor_inputs(&self, given: usize) -> usize {
        let most = match self {
            Op::Chain(_) | Op::Concat { .. } => given,
            Op::BatchNorm { .. } => 5,
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Gemm { .. } => 3,
            Op::Normalize { .. } | Op::Where => 3,
            Op::MatMul | Op::PRelu | Op::Binary(_) | Op::Gather { .. } => 2,
            Op::Constant { .. } => 0,
            _ => 1,
        };
        most.min(given)
    }
}
