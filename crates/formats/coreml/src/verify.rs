//! A package as it was written, compared with the network.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;

use prost::Message;
use slq_codebook::unpack;
use slq_graph::Graph;

use crate::mil::{Bound, Content, DataType, Elements, Operation, Value};
use crate::spec::Model;
use crate::{blob, palette};

/// Reads the items of a package and compares the model file with `model`, and every weight named in `weights` (by its name in
/// the program) with the network's, bit for bit. Returns the first difference.
pub fn package(
    items: &Path,
    graph: &Graph,
    model: &Model,
    weights: &BTreeMap<String, String>,
) -> io::Result<Option<String>> {
    let bytes = fs::read(items.join("model.mlmodel"))?;
    let blobs = fs::read(items.join("weights/weight.bin"))?;
    let Ok(read) = Model::decode(bytes.as_slice()) else {
        return Ok(Some("its model file cannot be decoded".into()));
    };
    if !same(&read, model) {
        return Ok(Some("its model file holds another program".into()));
    }
    Ok(first_difference(&read, &blobs, graph, weights))
}

/// Equal but for numbers that are none, which no constant of a checked network is.
fn same(a: &Model, b: &Model) -> bool {
    a == b || a.encode_to_vec() == b.encode_to_vec()
}

fn first_difference(
    model: &Model,
    blobs: &[u8],
    graph: &Graph,
    weights: &BTreeMap<String, String>,
) -> Option<String> {
    let operations: HashMap<&str, &Operation> = model
        .ml_program
        .iter()
        .flat_map(|p| p.functions.values())
        .flat_map(|f| f.block_specializations.values())
        .flat_map(|b| &b.operations)
        .flat_map(|o| o.outputs.iter().map(move |v| (v.name.as_str(), o)))
        .collect();
    for (name, weight) in weights {
        let expected = graph.weights.get(weight).and_then(|w| w.tensor.to_f32());
        let found = operations.get(name.as_str()).and_then(|o| values(o, blobs));
        let equal = match (&expected, &found) {
            (Some(a), Some(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
            }
            _ => false,
        };
        if !equal {
            return Some(format!("weight '{weight}' has other values"));
        }
    }
    None
}

/// The values of a constant, or of codes and tables.
pub fn values(operation: &Operation, blobs: &[u8]) -> Option<Vec<f32>> {
    if operation.r#type == "const" {
        return floats(operation.attributes.get("val")?, blobs);
    }
    let input = |name: &str| match &operation.inputs.get(name)?.arguments.first()?.binding {
        Some(Bound::Value(value)) => Some(value),
        _ => None,
    };
    let (indices, tables) = (input("indices")?, input("lut")?);
    let (shape, data_type) = shape(indices)?;
    let width = match data_type {
        DataType::Uint1 => 1,
        DataType::Uint2 => 2,
        DataType::Uint3 => 3,
        DataType::Uint4 => 4,
        DataType::Uint6 => 6,
        DataType::Uint8 => 8,
        _ => return None,
    };
    let packed = match indices.value.as_ref()? {
        Content::Blob(blob) => blob::read(blobs, blob.offset, data_type)?,
        Content::Immediate(value) => match value.tensor.as_ref()?.value.as_ref()? {
            Elements::Bytes(bytes) => &bytes.values,
            _ => return None,
        },
    };
    let codes = unpack(packed, width, shape.iter().product()).ok()?;
    palette::decode(&codes, &floats(tables, blobs)?, &self::shape(tables)?.0, &shape)
}

fn floats(value: &Value, blobs: &[u8]) -> Option<Vec<f32>> {
    match value.value.as_ref()? {
        Content::Blob(blob) => {
            let bytes = blob::read(blobs, blob.offset, DataType::Float32)?;
            Some(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
        }
        Content::Immediate(value) => match value.tensor.as_ref()?.value.as_ref()? {
            Elements::Floats(floats) => Some(floats.values.clone()),
            _ => None,
        },
    }
}

fn shape(value: &Value) -> Option<(Vec<usize>, DataType)> {
    let tensor = value.r#type.as_ref()?.tensor.as_ref()?;
    let extent = |d: &crate::mil::Dimension| usize::try_from(d.constant.as_ref()?.size).ok();
    let shape = tensor.dimensions.iter().map(extent).collect::<Option<Vec<_>>>()?;
    Some((shape, DataType::try_from(tensor.data_type).ok()?))
}
