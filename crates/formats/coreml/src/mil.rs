//! The messages of an ML program (package `CoreML.Specification.MILSpec`), by field number.

use std::collections::BTreeMap;

/// The blob file as values name it.
const BLOB_FILE: &str = "@model_path/weights/weight.bin";

/// A program: functions by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Program {
    #[prost(int64, tag = "1")]
    pub version: i64,
    #[prost(btree_map = "string, message", tag = "2")]
    pub functions: BTreeMap<String, Function>,
}

/// A function: its inputs, and a block for each version of the operator set.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Function {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<NamedValueType>,
    #[prost(string, tag = "2")]
    pub opset: String,
    #[prost(btree_map = "string, message", tag = "3")]
    pub block_specializations: BTreeMap<String, Block>,
}

/// Operations in execution order and the names of the outputs.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Block {
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub operations: Vec<Operation>,
}

/// What an input of an operation is bound to; several bindings make a tuple.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Argument {
    #[prost(message, repeated, tag = "1")]
    pub arguments: Vec<Binding>,
}

/// A value by name or in place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Binding {
    #[prost(oneof = "Bound", tags = "1, 2")]
    pub binding: Option<Bound>,
}

/// See [`Binding`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Bound {
    #[prost(string, tag = "1")]
    Name(String),
    #[prost(message, tag = "2")]
    Value(Value),
}

/// An operation.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Operation {
    #[prost(string, tag = "1")]
    pub r#type: String,
    #[prost(btree_map = "string, message", tag = "2")]
    pub inputs: BTreeMap<String, Argument>,
    #[prost(message, repeated, tag = "3")]
    pub outputs: Vec<NamedValueType>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub attributes: BTreeMap<String, Value>,
}

/// A name and its type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedValueType {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<ValueType>,
}

/// A type; of the five kinds, tensors alone are written here.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ValueType {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorType>,
}

/// Element type and shape; rank 0 is a scalar.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorType {
    #[prost(enumeration = "DataType", tag = "1")]
    pub data_type: i32,
    #[prost(int64, tag = "2")]
    pub rank: i64,
    #[prost(message, repeated, tag = "3")]
    pub dimensions: Vec<Dimension>,
}

/// An extent; unknown ones are not written.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dimension {
    #[prost(message, optional, tag = "1")]
    pub constant: Option<ConstantDimension>,
}

/// See [`Dimension`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConstantDimension {
    #[prost(uint64, tag = "1")]
    pub size: u64,
}

/// Element types that are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    Unused = 0,
    Bool = 1,
    String = 2,
    Float32 = 11,
    Int32 = 23,
    Uint8 = 31,
    Uint4 = 35,
    Uint2 = 36,
    Uint1 = 37,
    Uint6 = 38,
    Uint3 = 39,
}

/// A constant, in place or in the blob file.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Value {
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<ValueType>,
    #[prost(oneof = "Content", tags = "3, 5")]
    pub value: Option<Content>,
}

/// See [`Value`].
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Content {
    #[prost(message, tag = "3")]
    Immediate(ImmediateValue),
    #[prost(message, tag = "5")]
    Blob(BlobFileValue),
}

/// A constant in place.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ImmediateValue {
    #[prost(message, optional, tag = "1")]
    pub tensor: Option<TensorValue>,
}

/// A constant in the blob file: the offset of its metadata.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BlobFileValue {
    #[prost(string, tag = "1")]
    pub file_name: String,
    #[prost(uint64, tag = "2")]
    pub offset: u64,
}

/// Elements in row-major order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorValue {
    #[prost(oneof = "Elements", tags = "1, 2, 3, 4, 7")]
    pub value: Option<Elements>,
}

/// See [`TensorValue`]; codes of less than a byte and unsigned bytes are `Bytes`, packed as in the blob file.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Elements {
    #[prost(message, tag = "1")]
    Floats(Floats),
    #[prost(message, tag = "2")]
    Ints(Ints),
    #[prost(message, tag = "3")]
    Bools(Bools),
    #[prost(message, tag = "4")]
    Strings(Strings),
    #[prost(message, tag = "7")]
    Bytes(Bytes),
}

macro_rules! elements {
    ($($name:ident $kind:ident $type:ty;)*) => {$(
        /// Elements of one type.
        #[derive(Clone, PartialEq, prost::Message)]
        pub struct $name {
            #[prost($kind, repeated, tag = "1")]
            pub values: Vec<$type>,
        }
    )*};
}

elements! {
    Floats float f32;
    Ints int32 i32;
    Bools bool bool;
    Strings string String;
}

/// Packed elements.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    pub values: Vec<u8>,
}

impl ValueType {
    /// A tensor type.
    pub fn tensor(data_type: DataType, shape: &[usize]) -> Self {
        let dimension = |&d: &usize| Dimension { constant: Some(ConstantDimension { size: d as u64 }) };
        Self {
            tensor: Some(TensorType {
                data_type: data_type.into(),
                rank: shape.len() as i64,
                dimensions: shape.iter().map(dimension).collect(),
            }),
        }
    }
}

impl Value {
    /// A constant in place.
    pub fn immediate(data_type: DataType, shape: &[usize], elements: Elements) -> Self {
        let tensor = Some(TensorValue { value: Some(elements) });
        Self {
            r#type: Some(ValueType::tensor(data_type, shape)),
            value: Some(Content::Immediate(ImmediateValue { tensor })),
        }
    }

    /// A constant in the blob file.
    pub fn blob(data_type: DataType, shape: &[usize], offset: u64) -> Self {
        let blob = BlobFileValue { file_name: BLOB_FILE.into(), offset };
        Self { r#type: Some(ValueType::tensor(data_type, shape)), value: Some(Content::Blob(blob)) }
    }

    /// A string.
    pub fn string(text: &str) -> Self {
        let values = vec![text.to_owned()];
        Self::immediate(DataType::String, &[], Elements::Strings(Strings { values }))
    }
}

impl From<&str> for Argument {
    fn from(name: &str) -> Self {
        Self { arguments: vec![Binding { binding: Some(Bound::Name(name.into())) }] }
    }
}

impl From<Value> for Argument {
    fn from(value: Value) -> Self {
        Self { arguments: vec![Binding { binding: Some(Bound::Value(value)) }] }
    }
}
