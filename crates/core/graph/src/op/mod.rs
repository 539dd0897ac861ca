//! Typed operators: one form of each, whatever version of the operator set a node follows.
//!
//! A [`Node`](crate::Node) keeps what its file says. [`Op`] is the same operator with its attributes, defaults
//! and constant inputs resolved (`Clip` takes its bounds from attributes in opset 6 and from inputs in opset
//! 11; both become [`Op::Clip`]). Shape inference and the engine look at `Op` only.

mod function;
mod recurrent;
mod resize;
mod sequence;
mod window;

pub use function::{BinaryOp, Normalization, PadMode, Reduction, UnaryOp};
pub use recurrent::{Cell, Gate, Recurrent};
pub use resize::{Coordinates, Interpolation, Resize, Rounding};
pub use sequence::{Attention, Grid, GridPadding, Rotary};
pub use window::{Padding, Window};

/// An operator with everything but its tensor inputs resolved. The comment of each variant names the tensor
/// inputs it reads, as indices of the node's `inputs`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Op {
    /// Inputs: 0 data `[N, C, H, W]`, 1 weight `[M, C / groups, kh, kw]`, 2 optional bias `[M]`.
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
    /// All inputs, added with broadcasting and divided by their number.
    Mean,
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
    /// A convolution, transposed convolution or pooling over one spatial axis: the operator within, applied to
    /// `[N, C, 1, W]` where the node's data are `[N, C, W]` (and the kernel `[.., 1, k]` where it is `[.., k]`).
    Line(Box<Op>),
    /// One over three spatial axes: the operator within applies to the planes of `[N, C, D, H, W]`.
    Volume {
        /// The window along the depth, as one over (depth, 1).
        depth: Window,
        /// What `ConvTranspose` adds at the end of the depth; else 0.
        output_padding: usize,
        /// The operator over the planes, `[N, C, H, W]`.
        plane: Box<Op>,
    },
    /// Input: 0, resampled.
    Resize(Resize),
    /// Input: 0; element i along `axis` of the output is the sum of `terms[i]`: (element of the input, factor). No node
    /// resolves to it; a runtime makes it.
    Weighted {
        /// Axis, not negative.
        axis: usize,
        /// For each element of the output along the axis what it is the sum of.
        terms: Vec<Vec<(usize, f32)>>,
        /// Added to the elements of the output along the axis; empty where nothing is.
        added: Vec<f32>,
    },
    /// Input: 0, seen as `split`, its axes permuted, seen as `shape` (`DepthToSpace`, `SpaceToDepth`).
    Rearrange {
        /// Shape before the permutation.
        split: Vec<usize>,
        /// Axis `i` of the result is axis `perm[i]` of `split`.
        perm: Vec<usize>,
        /// Shape of the output.
        shape: Vec<usize>,
    },
    /// Input: 0; the position of the largest or smallest element along `axis`.
    ArgExtreme {
        /// Axis, not negative.
        axis: usize,
        /// Whether the axis stays with extent 1.
        keep_dims: bool,
        /// The largest element, else the smallest.
        largest: bool,
        /// Of equal elements the last, else the first.
        last: bool,
    },
    /// Input: 0; the `count` largest or smallest elements along `axis`, in order, and as a second output their positions.
    TopK {
        /// Axis, not negative.
        axis: usize,
        /// Number of elements, not above the axis's extent.
        count: usize,
        /// The largest, else the smallest.
        largest: bool,
        /// Whether a runtime's step writes the positions instead of the values; false for a node.
        positions: bool,
    },
    /// Input: 0, repeated `repeats[i]` times along axis i.
    Tile {
        /// Repetitions along each axis, at least 1.
        repeats: Vec<usize>,
    },
    /// Input: 0; sums of all elements up to each along `axis`.
    CumSum {
        /// Axis, not negative.
        axis: usize,
        /// Without the element itself.
        exclusive: bool,
        /// From the end.
        reverse: bool,
    },
    /// Input: 0; of its matrices (the last two axes) the elements on one side of a diagonal, 0 elsewhere.
    Trilu {
        /// The upper side, else the lower.
        upper: bool,
        /// The diagonal: 0 is the main one, positive ones lie above.
        diagonal: i64,
    },
    /// Inputs: 0 data, 1 indices of the same rank: the element of the data at the index along `axis`.
    GatherElements {
        /// Axis, not negative.
        axis: usize,
    },
    /// Inputs: 0 data, 1 indices `[.., k]`: the part of the data at each tuple of k indices, after `batch_dims` axes that both
    /// share.
    GatherNd {
        /// Leading axes in common.
        batch_dims: usize,
    },
    /// Inputs: 0 data `[T, B, I]` (or `[B, T, I]`), 1 W `[D, G H, I]`, 2 R `[D, G H, H]`, 3 optional biases `[D, 2 G H]`,
    /// 4 none here (lengths are a setting), 5 optional initial h `[D, B, H]`, 6 optional initial c, 7 optional peepholes
    /// `[D, 3 H]`. Outputs: all h `[T, D, B, H]`, the last h `[D, B, H]`, the last c.
    Recurrent(Recurrent),
    /// Inputs: 0 Q, 1 K, 2 V, 3 optional mask, 4 and 5 optional past keys and values.
    Attention(Attention),
    /// Inputs: 0 data, 1 cosines, 2 sines, 3 optional positions.
    Rotary(Rotary),
    /// Inputs: 0 data `[N, C, H, W]`, 1 grid `[N, H', W', 2]` of coordinates (x, y) within -1..1.
    GridSample(Grid),
    /// All inputs: the sum of products that an equation describes.
    Einsum {
        /// For each operand the label of each axis; labels are numbered from 0.
        operands: Vec<Vec<usize>>,
        /// The labels of the result's axes, each of them in some operand.
        result: Vec<usize>,
    },
    /// No tensor inputs: a tensor of one value (`ConstantOfShape`).
    Fill {
        /// The value.
        value: f32,
        /// The shape.
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
    /// Whether every element of the output is one of input 0 (or, of `Concat`, of any input; or a constant), unchanged.
    pub(crate) fn moves(&self) -> bool {
        matches!(
            self,
            Op::Gather { .. }
                | Op::Reshape { .. }
                | Op::Flatten { .. }
                | Op::Transpose { .. }
                | Op::Slice { .. }
                | Op::Split { .. }
                | Op::Expand { .. }
                | Op::Concat { .. }
                | Op::Pad { .. }
                | Op::Tile { .. }
                | Op::Trilu { .. }
                | Op::GatherElements { .. }
                | Op::GatherNd { .. }
                | Op::Rearrange { .. }
                | Op::Identity
        )
    }

    /// How many of a node's `given` inputs are tensors; the others are settings of the typed operator.
    pub fn tensor_inputs(&self, given: usize) -> usize {
        let most = match self {
            Op::Chain(_) | Op::Mean | Op::Concat { .. } | Op::Einsum { .. } => given,
            Op::Line(op) | Op::Volume { plane: op, .. } => return op.tensor_inputs(given),
            Op::Recurrent(_) => 8,
            Op::Attention(_) => 6,
            Op::Rotary(_) => 4,
            Op::BatchNorm { .. } => 5,
            Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Gemm { .. } => 3,
            Op::Normalize { .. } | Op::Where => 3,
            Op::MatMul | Op::PRelu | Op::Binary(_) | Op::Gather { .. } => 2,
            Op::GatherElements { .. } | Op::GatherNd { .. } | Op::GridSample(_) => 2,
            Op::Constant { .. } | Op::Fill { .. } => 0,
            _ => 1,
        };
        most.min(given)
    }
}
