//! Numbers of TensorFlow Lite's schema, version 3: operators, option tables and element types.

/// The file identifier.
pub(crate) const IDENTIFIER: &str = "TFL3";
/// Version of the schema.
pub(crate) const VERSION: u32 = 3;
/// Name of the operator of TensorFlow Lite for Microcontrollers that rebuilds tensors.
pub(crate) const DECODE: &str = "TFLM_DECODE";

/// Position of field `index` of a table in its vtable.
pub(crate) const fn slot(index: u16) -> u16 {
    4 + 2 * index
}

/// Built-in operators, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
pub(crate) enum Code {
    Add = 0,
    AveragePool2d = 1,
    Concatenation = 2,
    Conv2d = 3,
    DepthwiseConv2d = 4,
    Dequantize = 6,
    Floor = 8,
    FullyConnected = 9,
    Logistic = 14,
    MaxPool2d = 17,
    Mul = 18,
    Relu = 19,
    Relu6 = 21,
    Reshape = 22,
    Softmax = 25,
    Tanh = 28,
    /// `TFLM_DECODE`.
    Custom = 32,
    Pad = 34,
    Transpose = 39,
    Mean = 40,
    Sub = 41,
    Div = 42,
    StridedSlice = 45,
    Exp = 47,
    LogSoftmax = 50,
    Maximum = 55,
    Minimum = 57,
    Neg = 59,
    PadV2 = 60,
    Log = 73,
    Sum = 74,
    Sqrt = 75,
    LeakyRelu = 98,
    Abs = 101,
    Ceil = 104,
    Elu = 111,
    Quantize = 114,
    HardSwish = 117,
}

impl Code {
    /// The number in a file.
    pub(crate) fn number(self) -> i32 {
        self as i32
    }

    /// The first version of the operator that reads such elements.
    pub(crate) fn version(self, first: Element) -> i32 {
        if first != Element::I8 {
            return 1;
        }
        match self {
            Self::FullyConnected => 4,
            Self::Conv2d | Self::DepthwiseConv2d => 3,
            Self::Reshape | Self::HardSwish | Self::Custom => 1,
            _ => 2,
        }
    }
}

/// Element types, with their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Element {
    F32 = 0,
    I32 = 2,
    U8 = 3,
    I8 = 9,
}

/// A function that a layer applies to its result; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Activation {
    Relu = 1,
    Relu6 = 3,
}

/// A field of an options table: its index and value. Fields that hold their default are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    /// An enumeration of one byte, default 0.
    Byte(u16, i8),
    /// A Boolean, default false.
    Flag(u16, bool),
    /// An integer, with its default.
    Int(u16, i32, i32),
    /// A float, default 0.
    Float(u16, f32),
}

/// The options of an operator: number of the union's member, and the fields.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Options {
    pub(crate) member: u8,
    pub(crate) fields: Vec<Field>,
    /// Index of the field that holds a fused activation.
    pub(crate) fusible: Option<u16>,
}

impl Options {
    fn new(member: u8, fusible: Option<u16>, fields: Vec<Field>) -> Self {
        Self { member, fields, fusible }
    }

    /// Applies `activation` in the same operator, where it can.
    pub(crate) fn fuse(&mut self, activation: Activation) -> bool {
        let Some(index) = self.fusible.take() else { return false };
        self.fields.push(Field::Byte(index, activation as i8));
        true
    }

    /// `Conv2DOptions`: whether padding is SAME, strides and dilations as (height, width).
    pub(crate) fn conv(same: bool, strides: [i32; 2], dilations: [i32; 2]) -> Self {
        let fields = vec![
            Field::Byte(0, i8::from(!same)),
            Field::Int(1, strides[1], 0),
            Field::Int(2, strides[0], 0),
            Field::Int(4, dilations[1], 1),
            Field::Int(5, dilations[0], 1),
        ];
        Self::new(1, Some(3), fields)
    }

    /// `DepthwiseConv2DOptions`.
    pub(crate) fn depthwise(same: bool, strides: [i32; 2], dilations: [i32; 2], multiplier: i32) -> Self {
        let fields = vec![
            Field::Byte(0, i8::from(!same)),
            Field::Int(1, strides[1], 0),
            Field::Int(2, strides[0], 0),
            Field::Int(3, multiplier, 0),
            Field::Int(5, dilations[1], 1),
            Field::Int(6, dilations[0], 1),
        ];
        Self::new(2, Some(4), fields)
    }

    /// `Pool2DOptions`.
    pub(crate) fn pool(same: bool, strides: [i32; 2], kernel: [i32; 2]) -> Self {
        let fields = vec![
            Field::Byte(0, i8::from(!same)),
            Field::Int(1, strides[1], 0),
            Field::Int(2, strides[0], 0),
            Field::Int(3, kernel[1], 0),
            Field::Int(4, kernel[0], 0),
        ];
        Self::new(5, Some(5), fields)
    }

    pub(crate) fn fully_connected() -> Self {
        Self::new(8, Some(0), Vec::new())
    }

    pub(crate) fn softmax() -> Self {
        Self::new(9, None, vec![Field::Float(0, 1.0)])
    }

    pub(crate) fn concatenation(axis: i32) -> Self {
        // A joined tensor's activation is not fused: the microcontrollers' kernel has none.
        Self::new(10, None, vec![Field::Int(0, axis, 0)])
    }

    pub(crate) fn reducer(keep: bool) -> Self {
        Self::new(27, None, vec![Field::Flag(0, keep)])
    }

    pub(crate) fn leaky_relu(alpha: f32) -> Self {
        Self::new(75, None, vec![Field::Float(0, alpha)])
    }

    /// The options of an operator that has no settings beside a fused activation.
    pub(crate) fn of(code: Code) -> Self {
        let (member, fusible) = match code {
            Code::Add => (11, Some(0)),
            Code::Reshape => (17, None),
            Code::Mul => (21, Some(0)),
            Code::Pad => (22, None),
            Code::Transpose => (26, None),
            Code::Sub => (28, Some(0)),
            Code::Div => (29, Some(0)),
            Code::StridedSlice => (32, None),
            Code::Exp => (33, None),
            Code::LogSoftmax => (36, None),
            Code::Maximum | Code::Minimum => (39, None),
            Code::Neg => (42, None),
            Code::PadV2 => (43, None),
            Code::Abs => (78, None),
            Code::HardSwish => (91, None),
            _ => (0, None),
        };
        Self::new(member, fusible, Vec::new())
    }
}
