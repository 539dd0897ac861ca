//! Which operators compute with integers, and what they ask of scales.

use super::scale::Scale;
use crate::schema::Code;

/// How an operator is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// With integers of any scales.
    Free,
    /// With integers of one scale for the result and the inputs that hold activations.
    Tied,
    /// With integers; the result's scale is given.
    Given(Scale),
    /// A layer with a weight and a bias.
    Layer,
    /// A weight is decoded.
    Decode,
    /// With floats, between two conversions: interpreters have no such operator for integers.
    Floats,
}

/// How `code` is computed.
pub(super) fn way(code: Code) -> Way {
    let given = |steps: f32, zero| Way::Given(Scale { scale: 1.0 / steps, zero });
    match code {
        Code::Conv2d | Code::DepthwiseConv2d | Code::FullyConnected => Way::Layer,
        Code::Custom => Way::Decode,
        Code::AveragePool2d
        | Code::Concatenation
        | Code::MaxPool2d
        | Code::Maximum
        | Code::Minimum
        | Code::Pad
        | Code::PadV2
        | Code::Reshape
        | Code::StridedSlice
        | Code::Transpose => Way::Tied,
        Code::Softmax | Code::Logistic => given(256.0, -128),
        Code::Tanh => given(128.0, 0),
        Code::Add
        | Code::HardSwish
        | Code::LeakyRelu
        | Code::Mean
        | Code::Mul
        | Code::Relu
        | Code::Relu6
        | Code::Sub
        | Code::Quantize
        | Code::Dequantize => Way::Free,
        Code::Abs
        | Code::Ceil
        | Code::Div
        | Code::Elu
        | Code::Exp
        | Code::Floor
        | Code::Log
        | Code::LogSoftmax
        | Code::Neg
        | Code::Sqrt
        | Code::Sum => Way::Floats,
    }
}
