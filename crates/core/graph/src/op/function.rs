//! Functions of elements, statistics and modes of padding.

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
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
    /// The remainder with the sign of the divisor.
    Mod,
    /// The remainder with the sign of the dividend.
    Remainder,
}

impl BinaryOp {
    /// Whether the result is 0 or 1: comparisons and logic.
    pub fn is_test(self) -> bool {
        use BinaryOp::*;
        matches!(self, Equal | Greater | GreaterOrEqual | Less | LessOrEqual | And | Or | Xor)
    }
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
    IsNan,
    IsInf {
        negative: bool,
        positive: bool,
    },
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Celu {
        alpha: f32,
    },
    /// x where it is above alpha, else 0.
    ThresholdedRelu {
        alpha: f32,
    },
    /// 0 within lambda of 0, else x moved by the bias towards 0.
    Shrink {
        lambda: f32,
        bias: f32,
    },
}

/// What a [`Op::Normalize`](super::Op::Normalize) takes mean and variance over.
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
#[non_exhaustive]
pub enum Reduction {
    Mean,
    Sum,
    Max,
    Min,
    Prod,
    /// The sum of the absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
    SumSquare,
    /// The logarithm of the sum.
    LogSum,
    /// The logarithm of the sum of the exponentials.
    LogSumExp,
}

/// How `Pad` fills.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)]
pub enum PadMode {
    Constant(f32),
    Reflect,
    Edge,
    /// The tensor repeats itself.
    Wrap,
}
