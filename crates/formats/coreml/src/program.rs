//! The whole model file: program, inputs and outputs, metadata.

use std::collections::BTreeMap;
use std::io::Write;

use slq_graph::{Dim, Graph, Shapes, infer_shapes};

use crate::builder::{Builder, Val, feature_type};
use crate::error::{CoremlError, Unsupported};
use crate::lower::{Refusal, lower};
use crate::mil::{Block, DataType, Function, NamedValueType, Program, ValueType};
use crate::options::{Widths, WriteOptions};
use crate::palette::width;
use crate::spec::{
    ArrayDataType, ArrayFeatureType, FeatureDescription, FeatureType, Metadata, Model, ModelDescription,
    SPECIFICATION,
};

/// Operator set of iOS 18.
const OPSET: &str = "CoreML8";
/// Properties that describe the layout of an ONNX file.
const ONNX_ONLY: [&str; 2] = ["slq.onnx.", "slq.palettes"];

/// A model file and its blob file.
pub struct Assembled<W> {
    pub model: Model,
    pub blobs: W,
    /// Number of blobs, for the header.
    pub count: u32,
    pub notes: Vec<String>,
    /// The network's weights by their names in the program.
    pub weights: BTreeMap<String, String>,
}

/// Builds the model file of a network; its blobs go to `out`, behind a header of zeros.
pub fn assemble<W: Write>(
    graph: &Graph,
    options: &WriteOptions,
    out: W,
) -> Result<Assembled<W>, CoremlError> {
    if graph.nodes.is_empty() {
        return Err(CoremlError::NoNetwork);
    }
    check_widths(graph, options)?;
    let mut notes = Vec::new();
    let shapes = shapes(graph, &mut notes)?;
    let broken = |source| CoremlError::Io { path: "weights/weight.bin".into(), source };
    let mut b = Builder::new(graph, &shapes, options, out).map_err(broken)?;
    let inputs = inputs(&mut b, graph, &mut notes)?;
    graph.outputs.iter().for_each(|o| b.reserve(&o.name));
    body(&mut b)?;
    let outputs = outputs(&mut b, graph, &mut notes)?;
    if !b.dense.is_empty() {
        let names = b.dense.join(", ");
        notes.push(format!("weights that stay float32, since their tables would take more: {names}"));
    }
    let metadata = metadata(graph, &inputs, &outputs);
    let weights = std::mem::take(&mut b.weights);
    let (operations, blobs, count) = b.finish().map_err(broken)?;
    let description = ModelDescription {
        input: inputs.iter().map(|(_, v)| feature(v)).collect(),
        output: outputs.iter().map(|(_, v)| feature(v)).collect(),
        metadata: Some(metadata),
    };
    let named = |(_, v): &(&str, Val)| NamedValueType {
        name: v.name.clone(),
        r#type: Some(ValueType::tensor(v.data_type, &v.shape)),
    };
    let names = outputs.iter().map(|(_, v)| v.name.clone()).collect();
    let block = Block { outputs: names, operations };
    let function = Function {
        inputs: inputs.iter().map(named).collect(),
        opset: OPSET.into(),
        block_specializations: BTreeMap::from([(OPSET.to_owned(), block)]),
    };
    let program = Program { version: 1, functions: BTreeMap::from([("main".to_owned(), function)]) };
    let model = Model {
        specification_version: SPECIFICATION,
        description: Some(description),
        ml_program: Some(program),
    };
    Ok(Assembled { model, blobs, count, notes, weights })
}

/// Refuses palettes whose width Core ML lacks, all of them at once.
fn check_widths(graph: &Graph, options: &WriteOptions) -> Result<(), CoremlError> {
    if options.dense || options.widths == Widths::RoundUp {
        return Ok(());
    }
    let palettes = graph.weights.iter().filter_map(|(name, w)| Some((name, w.palette.as_ref()?)));
    let weights: Vec<(String, u8)> = palettes
        .filter(|(_, p)| p.is_fully_fixed() && width(p.bits()) != p.bits())
        .map(|(name, p)| (name.clone(), p.bits()))
        .collect();
    if weights.is_empty() { Ok(()) } else { Err(CoremlError::Widths { weights }) }
}

/// All shapes; an open batch becomes 1.
fn shapes(graph: &Graph, notes: &mut Vec<String>) -> Result<Shapes, CoremlError> {
    let mut given = Vec::new();
    for input in graph.free_inputs() {
        let open = || CoremlError::OpenShape { input: input.name.clone() };
        let mut shape = Vec::new();
        for (axis, dim) in input.shape.as_ref().ok_or_else(open)?.iter().enumerate() {
            shape.push(match dim {
                Dim::Known(n) => *n,
                _ if axis == 0 => {
                    notes.push(format!(
                        "input '{}' takes a batch of 1: a package has fixed shapes",
                        input.name
                    ));
                    1
                }
                _ => return Err(open()),
            });
        }
        given.push((input.name.as_str(), shape));
    }
    Ok(infer_shapes(graph, &given)?)
}

fn inputs<'g, W: Write>(
    b: &mut Builder<'_, W>,
    graph: &'g Graph,
    notes: &mut Vec<String>,
) -> Result<Vec<(&'g str, Val)>, CoremlError> {
    let mut inputs = Vec::new();
    for input in graph.free_inputs() {
        let shape = b.like(&input.name).shape;
        let refuse = |what: String| CoremlError::Feature { value: input.name.clone(), what };
        let data_type = feature_type(input.dtype)
            .ok_or_else(|| refuse(format!("holds elements of {:?}", input.dtype)))?;
        if shape.is_empty() || shape.len() > 5 {
            return Err(refuse(format!("has {} axes", shape.len())));
        }
        let (from, to) =
            (format!("{:?}", input.dtype), if data_type == DataType::Int32 { "I32" } else { "F32" });
        if from != to {
            notes.push(format!("input '{}' of {from} is one of {to} in the package", input.name));
        }
        let value = Val { name: b.names.free(&input.name), shape, data_type };
        if value.name != input.name {
            notes.push(format!("input '{}' is called '{}' in the package", input.name, value.name));
        }
        b.values.insert(input.name.clone(), value.clone());
        inputs.push((input.name.as_str(), value));
    }
    Ok(inputs)
}

/// The nodes in execution order. Of those without a counterpart all are found before anything fails.
fn body<W: Write>(b: &mut Builder<'_, W>) -> Result<(), CoremlError> {
    let (graph, shapes) = (b.graph, b.shapes);
    let mut missing = Vec::new();
    for (index, op) in shapes.ops() {
        let node = &graph.nodes[*index];
        match lower(b, node, op) {
            Ok(()) => {}
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::Unsupported(what)) => {
                missing.push(Unsupported { node: node.name.clone(), op: node.op.clone(), what });
            }
        }
        // What follows is looked at all the same.
        for output in node.outputs.iter().filter(|o| !o.is_empty()) {
            if !b.values.contains_key(output) {
                let like = b.like(output);
                b.values.insert(output.clone(), like);
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(CoremlError::Operators { nodes: missing }) }
}

/// The outputs under their names: one that is an input, a constant or another name of a value gets an operation.
fn outputs<'g, W: Write>(
    b: &mut Builder<'_, W>,
    graph: &'g Graph,
    notes: &mut Vec<String>,
) -> Result<Vec<(&'g str, Val)>, CoremlError> {
    let mut outputs: Vec<(&str, Val)> = Vec::new();
    for output in &graph.outputs {
        let mut value = b.value(&output.name)?;
        if value.shape.is_empty() {
            return Err(CoremlError::Feature { value: output.name.clone(), what: "has no axes".into() });
        }
        if b.reserved(&output.name) != Some(value.name.as_str()) {
            let x = ("x", value.name.as_str().into());
            value = b.op("identity", &[x], &output.name, &value.clone());
        }
        if value.name != output.name {
            notes.push(format!("output '{}' is called '{}' in the package", output.name, value.name));
        }
        outputs.push((output.name.as_str(), value));
    }
    Ok(outputs)
}

fn feature(value: &Val) -> FeatureDescription {
    let data_type = match value.data_type {
        DataType::Int32 => ArrayDataType::Int32,
        _ => ArrayDataType::Float32,
    };
    let shape = value.shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect();
    let array = ArrayFeatureType { shape, data_type: data_type.into() };
    FeatureDescription { name: value.name.clone(), r#type: Some(FeatureType { multi_array: Some(array) }) }
}

/// Properties of the network, preprocessing among them, and its own names of inputs and outputs that were changed.
fn metadata(graph: &Graph, inputs: &[(&str, Val)], outputs: &[(&str, Val)]) -> Metadata {
    let properties = graph.metadata.properties.iter();
    let mut user_defined: BTreeMap<String, String> = properties
        .filter(|(key, _)| !ONNX_ONLY.iter().any(|p| key.starts_with(p)))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    user_defined.insert("slq.writer".into(), concat!("slq ", env!("CARGO_PKG_VERSION")).into());
    let renamed = inputs.iter().chain(outputs).filter(|(name, value)| *name != value.name);
    let renamed: BTreeMap<&str, &str> = renamed.map(|(name, value)| (value.name.as_str(), *name)).collect();
    if !renamed.is_empty() {
        // Strings to strings: nothing here can fail.
        user_defined.insert("slq.names".into(), serde_json::to_string(&renamed).unwrap_or_default());
    }
    Metadata { short_description: graph.metadata.doc.clone(), user_defined }
}
