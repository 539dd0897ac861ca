//! What a model says that a graph has no place for, kept as properties under `slq.onnx.` in between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use slq_graph::Metadata;

use crate::error::OnnxError;
use crate::proto::{GraphProto, Model};

/// Properties that stand for fields of the model; never written as properties.
pub const PREFIX: &str = "slq.onnx.";
const IR: &str = "slq.onnx.ir_version";
const PRODUCER_VERSION: &str = "slq.onnx.producer_version";
const DOMAIN: &str = "slq.onnx.domain";
const VERSION: &str = "slq.onnx.model_version";
const GRAPH_DOC: &str = "slq.onnx.graph_doc";
/// Functions, training information, quantization annotations and so on, as an encoded model of these alone.
const REST: &str = "slq.onnx.rest";

/// A sentence about functions that stay as they are; not written.
pub const FUNCTIONS: &str = "slq.onnx.functions";

/// The IR version that came with an operator set; at least 4, since weights are no inputs.
pub fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19 | 20 => 9,
        21 | 22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

/// Moves the extras of `model` (whose nodes and weights have been taken out) to `metadata`.
pub fn take(model: Model, graph: GraphProto, metadata: &mut Metadata) {
    let mut put = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            metadata.properties.insert(key.into(), value);
        }
    };
    let newer = model.ir_version.filter(|&v| v > ir_version(metadata.opset));
    put(IR, newer.map(|v| v.to_string()));
    put(PRODUCER_VERSION, model.producer_version);
    put(DOMAIN, model.domain);
    put(VERSION, model.model_version.filter(|&v| v != 0).map(|v| v.to_string()));
    put(GRAPH_DOC, graph.doc_string);
    let inner = GraphProto {
        quantization_annotation: graph.quantization_annotation,
        metadata_props: graph.metadata_props,
        ..GraphProto::default()
    };
    let rest = Model {
        training_info: model.training_info,
        functions: model.functions,
        configuration: model.configuration,
        graph: (inner != GraphProto::default()).then_some(inner),
        ..Model::default()
    };
    put(REST, (rest != Model::default()).then(|| STANDARD.encode(rest.encode_to_vec())));
}

/// A model with the extras of `metadata` and nothing else; its graph is always there.
pub fn restore(metadata: &Metadata) -> Result<Model, OnnxError> {
    let get = |key: &str| metadata.properties.get(key).cloned();
    let bad = |key: &str| OnnxError::Extra { key: key.into() };
    let number = |key: &str| match get(key) {
        None => Ok(None),
        Some(v) => v.parse::<i64>().map(Some).map_err(|_| bad(key)),
    };
    let mut model = match get(REST) {
        None => Model::default(),
        Some(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| bad(REST))?;
            Model::decode(bytes.as_slice()).map_err(|_| bad(REST))?
        }
    };
    model.ir_version = Some(number(IR)?.unwrap_or(0).max(ir_version(metadata.opset)));
    model.producer_version = get(PRODUCER_VERSION);
    model.domain = get(DOMAIN);
    model.model_version = number(VERSION)?;
    let mut graph = model.graph.take().unwrap_or_default();
    graph.doc_string = get(GRAPH_DOC);
    model.graph = Some(graph);
    Ok(model)
}
