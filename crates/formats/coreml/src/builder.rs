//! A program under construction: operations, constants, weights.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Write};

use prost::Message;
use slq_graph::{DType, Graph, Shapes, Tensor, Weight};

use crate::blob::BlobWriter;
use crate::error::CoremlError;
use crate::mil::{
    Argument, Bools, Bytes, DataType, Elements, Floats, Ints, NamedValueType, Operation, Value, ValueType,
};
use crate::names::Names;
use crate::options::WriteOptions;
use crate::palette;

/// Constants of up to this many elements lie in the program, others in the blob file: a blob takes some 140 bytes beside its
/// data (record, padding, reference).
const SMALL: usize = 256;
/// Floats that are turned into bytes at once.
const PIECE: usize = 1 << 16;

/// A value of the program.
#[derive(Debug, Clone)]
pub struct Val {
    /// Its name in the program.
    pub name: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// `Float32` or `Int32`.
    pub data_type: DataType,
}

/// Operations so far, and what values they made.
pub struct Builder<'a, W> {
    pub graph: &'a Graph,
    pub shapes: &'a Shapes,
    pub options: &'a WriteOptions,
    pub operations: Vec<Operation>,
    pub names: Names,
    /// Values of the network by their names there.
    pub values: HashMap<String, Val>,
    /// Weights by name in the program, with the shape they have there: what a check reads back.
    pub weights: BTreeMap<String, String>,
    /// Weights that stay floats although they have a palette.
    pub dense: Vec<String>,
    /// Names that outputs of the network get, by their names there.
    reserved: HashMap<String, String>,
    /// Names that operations write.
    written: HashSet<String>,
    constants: HashMap<Vec<u8>, String>,
    fillings: HashMap<(u32, usize), Val>,
    blobs: BlobWriter<W>,
}

impl<'a, W: Write> Builder<'a, W> {
    /// An empty program whose blobs go to `out`.
    pub fn new(graph: &'a Graph, shapes: &'a Shapes, options: &'a WriteOptions, out: W) -> io::Result<Self> {
        Ok(Self {
            graph,
            shapes,
            options,
            operations: Vec::new(),
            names: Names::default(),
            values: HashMap::new(),
            weights: BTreeMap::new(),
            dense: Vec::new(),
            reserved: HashMap::new(),
            written: HashSet::new(),
            constants: HashMap::new(),
            fillings: HashMap::new(),
            blobs: BlobWriter::new(out)?,
        })
    }

    /// The operations, and the blob file with the number of its blobs.
    pub fn finish(self) -> io::Result<(Vec<Operation>, W, u32)> {
        let (out, count) = self.blobs.finish()?;
        Ok((self.operations, out, count))
    }

    /// Keeps a name for an output of the network.
    pub fn reserve(&mut self, output: &str) {
        if !self.reserved.contains_key(output) {
            let name = self.names.free(output);
            self.reserved.insert(output.to_owned(), name);
        }
    }

    /// The name kept for an output of the network.
    pub fn reserved(&self, output: &str) -> Option<&str> {
        self.reserved.get(output).map(String::as_str)
    }

    /// Appends an operation with one output.
    pub fn op(&mut self, kind: &str, inputs: &[(&str, Argument)], label: &str, like: &Val) -> Val {
        let mut outputs = self.op_many(kind, inputs, &[(label, like.clone())]);
        outputs.pop().unwrap_or_else(|| like.clone())
    }

    /// Appends an operation; `outputs` are wanted names, and shapes and types (the names in the values are not read).
    pub fn op_many(&mut self, kind: &str, inputs: &[(&str, Argument)], outputs: &[(&str, Val)]) -> Vec<Val> {
        let mut made: Vec<Val> = Vec::new();
        for (label, val) in outputs {
            let name = self.reserved.get(*label).filter(|name| !self.written.contains(*name)).cloned();
            let name = name.unwrap_or_else(|| self.names.free(label));
            self.written.insert(name.clone());
            made.push(Val { name, ..val.clone() });
        }
        let named = |v: &Val| NamedValueType {
            name: v.name.clone(),
            r#type: Some(ValueType::tensor(v.data_type, &v.shape)),
        };
        let name = made.first().map_or("", |v| v.name.as_str());
        self.operations.push(Operation {
            r#type: kind.into(),
            inputs: inputs.iter().map(|(n, a)| ((*n).to_owned(), a.clone())).collect(),
            outputs: made.iter().map(named).collect(),
            attributes: BTreeMap::from([("name".to_owned(), Value::string(name))]),
        });
        made
    }

    /// A constant operation; equal constants are one.
    fn constant(&mut self, label: &str, value: Value) -> Argument {
        let key = value.encode_to_vec();
        if let Some(name) = self.constants.get(&key) {
            return name.as_str().into();
        }
        let name = self.names.free(label);
        self.operations.push(Operation {
            r#type: "const".into(),
            inputs: BTreeMap::new(),
            outputs: vec![NamedValueType { name: name.clone(), r#type: value.r#type.clone() }],
            attributes: BTreeMap::from([
                ("name".to_owned(), Value::string(&name)),
                ("val".to_owned(), value),
            ]),
        });
        self.constants.insert(key, name.clone());
        name.as_str().into()
    }

    pub fn ints(&mut self, values: impl IntoIterator<Item = i64>) -> Argument {
        let values: Vec<i32> = values.into_iter().map(saturated).collect();
        let shape = [values.len()];
        self.constant("ints", Value::immediate(DataType::Int32, &shape, Elements::Ints(Ints { values })))
    }

    pub fn sizes(&mut self, values: &[usize]) -> Argument {
        self.ints(values.iter().map(|&v| i64::try_from(v).unwrap_or(i64::MAX)))
    }

    pub fn int(&mut self, value: usize) -> Argument {
        let values = vec![saturated(i64::try_from(value).unwrap_or(i64::MAX))];
        self.constant("int", Value::immediate(DataType::Int32, &[], Elements::Ints(Ints { values })))
    }

    pub fn float(&mut self, value: f32) -> Argument {
        let elements = Elements::Floats(Floats { values: vec![value] });
        self.constant("float", Value::immediate(DataType::Float32, &[], elements))
    }

    pub fn flag(&mut self, value: bool) -> Argument {
        let elements = Elements::Bools(Bools { values: vec![value] });
        self.constant("flag", Value::immediate(DataType::Bool, &[], elements))
    }

    pub fn flags(&mut self, values: Vec<bool>) -> Argument {
        let shape = [values.len()];
        self.constant("flags", Value::immediate(DataType::Bool, &shape, Elements::Bools(Bools { values })))
    }

    pub fn text(&mut self, value: &str) -> Argument {
        self.constant("text", Value::string(value))
    }

    /// A constant of floats under a shape of its own.
    pub fn floats(&mut self, label: &str, shape: &[usize], values: &[f32]) -> Result<Val, CoremlError> {
        let value = self.float_value(shape, values)?;
        let name = self.constant(label, value);
        Ok(Val { name: name_of(&name), shape: shape.to_vec(), data_type: DataType::Float32 })
    }

    /// A vector of `count` equal floats, written once.
    pub fn filled(&mut self, value: f32, count: usize) -> Result<Val, CoremlError> {
        if let Some(found) = self.fillings.get(&(value.to_bits(), count)) {
            return Ok(found.clone());
        }
        let made = self.floats("all", &[count], &vec![value; count])?;
        self.fillings.insert((value.to_bits(), count), made.clone());
        Ok(made)
    }

    fn float_value(&mut self, shape: &[usize], values: &[f32]) -> Result<Value, CoremlError> {
        if values.len() <= SMALL {
            let values = values.to_vec();
            return Ok(Value::immediate(DataType::Float32, shape, Elements::Floats(Floats { values })));
        }
        let pieces = values.chunks(PIECE).map(|p| p.iter().flat_map(|v| v.to_le_bytes()).collect());
        let offset = self.blobs.append(DataType::Float32, 4 * values.len(), 0, pieces).map_err(broken)?;
        Ok(Value::blob(DataType::Float32, shape, offset))
    }

    /// The value `name` of the network: a result so far, or a weight or folded constant, which is written when it is first
    /// asked for.
    pub fn value(&mut self, name: &str) -> Result<Val, CoremlError> {
        if let Some(found) = self.values.get(name) {
            return Ok(found.clone());
        }
        let graph = self.graph;
        let made = match graph.weights.get(name) {
            Some(weight) => self.weight(name, weight)?,
            None => match self.shapes.constant(name) {
                Some(tensor) => self.tensor(name, tensor)?,
                // Validated graphs define what they read.
                None => Val { name: String::new(), shape: Vec::new(), data_type: DataType::Unused },
            },
        };
        self.values.insert(name.to_owned(), made.clone());
        Ok(made)
    }

    fn weight(&mut self, name: &str, weight: &Weight) -> Result<Val, CoremlError> {
        let shape = weight.tensor.shape();
        let packed = weight.palette.as_ref().filter(|p| {
            !self.options.dense && p.is_fully_fixed() && weight.tensor.dtype().is_float() && !shape.is_empty()
        });
        let Some(palette) =
            packed.filter(|p| p.codes().len() == weight.tensor.len() && !p.codes().is_empty())
        else {
            return self.tensor(name, &weight.tensor);
        };
        if palette::entries(palette, shape).is_none_or(|n| n > weight.tensor.len()) {
            self.dense.push(name.to_owned());
            return self.tensor(name, &weight.tensor);
        }
        let fail = |source| CoremlError::Pack { weight: name.into(), source };
        let lut = palette::lut(palette, shape).map_err(fail)?;
        let code_type = palette::code_type(lut.width);
        let codes = if weight.tensor.len() <= SMALL {
            let values = lut.codes;
            Value::immediate(code_type, shape, Elements::Bytes(Bytes { values }))
        } else {
            let len = lut.codes.len();
            let offset = self.blobs.append(code_type, len, lut.unused_bits, [lut.codes]).map_err(broken)?;
            Value::blob(code_type, shape, offset)
        };
        let tables = self.float_value(&lut.shape, &lut.tables)?;
        let inputs = [("indices", codes.into()), ("lut", tables.into())];
        let like = Val { name: String::new(), shape: shape.to_vec(), data_type: DataType::Float32 };
        let made = self.op("constexpr_lut_to_dense", &inputs, name, &like);
        self.weights.insert(made.name.clone(), name.to_owned());
        Ok(made)
    }

    fn tensor(&mut self, name: &str, tensor: &Tensor) -> Result<Val, CoremlError> {
        if let Some(values) = tensor.to_f32() {
            let made = self.floats(name, tensor.shape(), &values)?;
            if self.graph.weights.contains_key(name) {
                self.weights.insert(made.name.clone(), name.to_owned());
            }
            return Ok(made);
        }
        let ints = tensor.to_i64().unwrap_or_default();
        let values: Vec<i32> = ints.iter().map(|&v| saturated(v)).collect();
        if ints.len() != tensor.len() || ints.iter().zip(&values).any(|(&a, &b)| a != i64::from(b)) {
            let what = format!("holds elements of {:?} that 32-bit integers do not", tensor.dtype());
            return Err(CoremlError::Feature { value: name.into(), what });
        }
        let elements = Elements::Ints(Ints { values });
        let made = self.constant(name, Value::immediate(DataType::Int32, tensor.shape(), elements));
        Ok(Val { name: name_of(&made), shape: tensor.shape().to_vec(), data_type: DataType::Int32 })
    }

    /// The values of a constant float input of a node.
    pub fn constant_floats(&self, name: &str) -> Option<Cow<'a, [f32]>> {
        let tensor = match self.graph.weights.get(name) {
            Some(weight) => &weight.tensor,
            None => self.shapes.constant(name)?,
        };
        tensor.to_f32()
    }

    /// Shape and type of value `name` of the network as an output of an operation.
    pub fn like(&self, name: &str) -> Val {
        let shape = self.shapes.get(name).unwrap_or_default().to_vec();
        let data_type = if self.shapes.is_integer(name) { DataType::Int32 } else { DataType::Float32 };
        Val { name: String::new(), shape, data_type }
    }
}

/// Shapes, axes and indices that a program can hold are far below the limits.
fn saturated(value: i64) -> i32 {
    value.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn name_of(argument: &Argument) -> String {
    match argument.arguments.first().and_then(|b| b.binding.as_ref()) {
        Some(crate::mil::Bound::Name(name)) => name.clone(),
        _ => String::new(),
    }
}

/// An error of the blob file, whose path the caller knows.
fn broken(source: io::Error) -> CoremlError {
    CoremlError::Io { path: "weights/weight.bin".into(), source }
}

/// Whether a feature can be of this type, and as which type it is written.
pub fn feature_type(dtype: DType) -> Option<DataType> {
    match dtype {
        d if d.is_float() => Some(DataType::Float32),
        DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::U8 | DType::U16 | DType::Bool => {
            Some(DataType::Int32)
        }
        _ => None,
    }
}
