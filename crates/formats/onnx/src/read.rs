//! A file to a graph.

use std::io::Read;
use std::path::Path;

use prost::bytes::Bytes;
use slq_graph::fold::fold_constants;
use slq_graph::{Attribute, Graph, Metadata, Node, Tensor, TensorData, Weight};

use crate::attribute::{decode, node_from_proto, opaque_constant};
use crate::error::OnnxError;
use crate::external::External;
use crate::proto::{GraphProto, KeyValue, Model, NodeProto, OperatorSet, TensorProto};
use crate::{IR_VERSIONS, MAX_FILE_BYTES, OPSETS, constants, element, extras, inline, lift, restore, value};

/// Reads the model at `path`, with external data beside it.
///
/// Weights may be initializers (listed as inputs too or not) or `Constant` nodes, in typed fields, raw bytes or
/// external files. Palettes that [`write`](crate::write()) stored are restored. Nodes without a name get one, and nodes
/// out of order are sorted. Nodes that read constants alone are folded
/// ([`fold_constants`](slq_graph::fold::fold_constants)), so that a weight behind a `Transpose` or a `Cast` is a plain
/// weight; integer exponents of `Pow` become floats. Calls of functions of the model are replaced by the functions' nodes
/// ([`notes`] says which are not). Float constants of two and more axes inside the bodies of `If`, `Loop` and
/// `Scan` become weights of the graph. All other nodes, unknown operators and sub-graphs too, are kept as they are. `slq_graph::validate` checks
/// whether the graph makes sense.
///
/// # Errors
/// [`OnnxError::File`] with the path and what is wrong: not a model, an unsupported version or element type,
/// lengths that disagree, values that nothing defines, cycles, external data out of bounds, a property
/// `slq.palettes` that does not describe the file. Lengths are checked before memory is taken.
pub fn read(path: impl AsRef<Path>) -> Result<Graph, OnnxError> {
    let path = path.as_ref();
    let mut graph = load(path, true)?;
    let named = |source| OnnxError::File { path: path.into(), source: Box::new(OnnxError::Graph(source)) };
    fold_constants(&mut graph).map_err(named)?;
    constants::settle(&mut graph);
    Ok(graph)
}

/// As [`read`], with the nodes that the file has.
#[cfg(feature = "file")]
pub(crate) fn read_unfolded(path: &Path) -> Result<Graph, OnnxError> {
    load(path, false)
}

/// The file's graph, its functions written out where they are called if `written_out`.
fn load(path: &Path, written_out: bool) -> Result<Graph, OnnxError> {
    let load = || {
        // Opening a pipe could block for ever, so look first.
        if !std::fs::metadata(path)?.is_file() {
            return Err(OnnxError::NotAFile);
        }
        let file = std::fs::File::open(path)?;
        let bytes = file.metadata()?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(OnnxError::TooLarge { bytes });
        }
        let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
        file.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
        to_graph(content.into(), External::beside(path), written_out)
    };
    load().map_err(|source| OnnxError::File { path: path.into(), source: Box::new(source) })
}

/// Reads a model from memory; as [`read`], but without external data.
///
/// # Errors
/// As [`read`], without the path; [`OnnxError::ExternalWithoutFile`] where data lie in another file.
pub fn read_bytes(bytes: &[u8]) -> Result<Graph, OnnxError> {
    let mut graph = to_graph(Bytes::copy_from_slice(bytes), External::default(), true)?;
    fold_constants(&mut graph)?;
    constants::settle(&mut graph);
    Ok(graph)
}

/// The graph of a file's bytes, its functions written out where they are called if `written_out`.
fn to_graph(bytes: Bytes, mut external: External, written_out: bool) -> Result<Graph, OnnxError> {
    let size = bytes.len();
    let mut model: Model = decode(bytes, || "the model".into())?;
    let mut proto = model.graph.take().ok_or(OnnxError::NoGraph)?;
    let ir = model.ir_version.unwrap_or(0);
    if !IR_VERSIONS.contains(&ir) {
        return Err(OnnxError::IrVersion(ir));
    }
    if !proto.sparse_initializer.is_empty() {
        return Err(OnnxError::SparseInitializers { count: proto.sparse_initializer.len() });
    }
    let kept = if written_out { inline::functions(&mut model, &mut proto, size)? } else { None };
    let (opset, domains) = operator_sets(&model.opset_import)?;
    let mut graph = Graph { name: proto.name.take().unwrap_or_default(), ..Graph::default() };
    graph.metadata = Metadata {
        opset,
        domains,
        producer: model.producer_name.take().unwrap_or_default(),
        doc: model.doc_string.take().unwrap_or_default(),
        ..Metadata::default()
    };
    if let Some(kept) = kept {
        graph.metadata.properties.insert(extras::FUNCTIONS.into(), kept);
    }
    initializers(&mut proto, &mut graph, &mut external)?;
    nodes(&mut proto, &mut graph, &mut external)?;
    // Before IR version 4 weights are listed as inputs too.
    for input in std::mem::take(&mut proto.input) {
        if !input.name.as_ref().is_some_and(|n| graph.weights.contains_key(n)) {
            graph.inputs.push(value::from_proto(input, "input")?);
        }
    }
    for output in std::mem::take(&mut proto.output) {
        graph.outputs.push(value::from_proto(output, "output")?);
    }
    lift::weights_of_bodies(&mut graph)?;
    let mut palettes = None;
    for KeyValue { key, value } in std::mem::take(&mut model.metadata_props) {
        let (key, value) = (key.unwrap_or_default(), value.unwrap_or_default());
        if key == restore::PROPERTY {
            palettes = Some(value);
        } else if !key.starts_with(extras::PREFIX) {
            graph.metadata.properties.insert(key, value);
        }
    }
    extras::take(model, proto, &mut graph.metadata);
    if let Some(json) = palettes {
        restore::palettes(&mut graph, &json)?;
    }
    slq_graph::sort_topologically(&mut graph)?;
    slq_graph::name_nodes(&mut graph);
    let written = |name: &String| {
        graph.weights.contains_key(name)
            || graph.inputs.iter().any(|i| i.name == *name)
            || graph.producer_of(name).is_some()
    };
    match graph.outputs.iter().find(|o| !written(&o.name)) {
        Some(output) => Err(OnnxError::UndefinedOutput { name: output.name.clone() }),
        None => Ok(graph),
    }
}

/// Version of ONNX's own operators, and the other domains.
fn operator_sets(imports: &[OperatorSet]) -> Result<(i64, Vec<(String, i64)>), OnnxError> {
    let mut sets: Vec<(String, i64)> = Vec::new();
    for import in imports {
        let domain = import.domain.clone().filter(|d| d != "ai.onnx").unwrap_or_default();
        let version = import.version.unwrap_or(0);
        match sets.iter().find(|(d, _)| *d == domain) {
            Some((_, v)) if *v == version => {}
            Some(_) => return Err(OnnxError::DuplicateDomain(domain)),
            None => sets.push((domain, version)),
        }
    }
    let own = sets.iter().position(|(d, _)| d.is_empty()).ok_or(OnnxError::NoOpset)?;
    let (_, opset) = sets.remove(own);
    if OPSETS.contains(&opset) { Ok((opset, sets)) } else { Err(OnnxError::Opset(opset)) }
}

/// What [`read`] could not do with the model, in sentences.
pub fn notes(graph: &Graph) -> Vec<String> {
    graph.metadata.properties.get(extras::FUNCTIONS).into_iter().cloned().collect()
}

fn initializers(proto: &mut GraphProto, graph: &mut Graph, external: &mut External) -> Result<(), OnnxError> {
    for (index, bytes) in std::mem::take(&mut proto.initializer).into_iter().enumerate() {
        let tensor: TensorProto = decode(bytes, || format!("initializer {index}"))?;
        let name = tensor.name.clone().filter(|n| !n.is_empty()).ok_or(OnnxError::UnnamedWeight { index })?;
        match element::to_tensor(&tensor, &name, external) {
            Ok(value) => add_weight(graph, name, value)?,
            Err(OnnxError::ElementType { .. }) if tensor.data_location != Some(1) => {
                // Listed as an input too, it would be defined twice.
                proto.input.retain(|i| i.name.as_deref() != Some(&name));
                graph.nodes.push(opaque_constant(tensor, &name));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn nodes(proto: &mut GraphProto, graph: &mut Graph, external: &mut External) -> Result<(), OnnxError> {
    for (index, bytes) in std::mem::take(&mut proto.node).into_iter().enumerate() {
        let message: NodeProto = decode(bytes, || format!("node {index}"))?;
        let node = node_from_proto(message, index, external)?;
        match constant(&node) {
            Some((name, tensor)) => add_weight(graph, name, tensor)?,
            None => graph.nodes.push(node),
        }
    }
    Ok(())
}

/// Name and value of a `Constant` node, if a graph can hold it as a weight.
fn constant(node: &Node) -> Option<(String, Tensor)> {
    let ([output], "Constant", "") = (node.outputs.as_slice(), node.op.as_str(), node.domain.as_str()) else {
        return None;
    };
    let (name, value) = node.attributes.first_key_value()?;
    let tensor = match (name.as_str(), value) {
        ("value", Attribute::Tensor(t)) => t.clone(),
        ("value_float", Attribute::Float(v)) => Tensor::f32(vec![], vec![*v]).ok()?,
        ("value_floats", Attribute::Floats(v)) => Tensor::f32(vec![v.len()], v.clone()).ok()?,
        ("value_int", Attribute::Int(v)) => Tensor::new(vec![], TensorData::I64(vec![*v])).ok()?,
        ("value_ints", Attribute::Ints(v)) => Tensor::i64_vector(v.clone()),
        _ => return None,
    };
    (node.attributes.len() == 1 && !output.is_empty()).then(|| (output.clone(), tensor))
}

fn add_weight(graph: &mut Graph, name: String, tensor: Tensor) -> Result<(), OnnxError> {
    match graph.weights.insert(name.clone(), Weight::from(tensor)) {
        Some(_) => Err(OnnxError::DuplicateWeight { name }),
        None => Ok(()),
    }
}
